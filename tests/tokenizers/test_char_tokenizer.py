"""The character tokenizer: ids are ranks of code points, and what it never saw is named."""

import numpy as np
import pytest

from tinyllm import tokenizers
from tinyllm.tokenizers import CharTokenizer, TokenizerError


def test_ids_are_ranks_of_code_points():
    text = "the quick brown fox\n日本語🙂"
    tokenizer = CharTokenizer.train(text)
    order = sorted(set(text))
    assert tokenizer.encode(text) == [order.index(character) for character in text]
    assert tokenizer.decode(tokenizer.encode_array(text)) == text
    assert tokenizer.vocab_size == len(order)


def test_an_unknown_character_is_named_with_its_place():
    with pytest.raises(TokenizerError, match=r"'é' \(U\+00E9\) at position 3"):
        CharTokenizer.train("cafe").encode("caféé")


def test_saves_and_loads(tmp_path):
    tokenizer = CharTokenizer.train(["né", "\ud800 lone"])
    tokenizer.save(tmp_path / "char.json")
    again = tokenizers.load(tmp_path / "char.json")
    assert again.characters == tokenizer.characters and again.fingerprint() == tokenizer.fingerprint()
    assert again.decode(again.encode("\ud800é")) == "\ud800é"
    assert CharTokenizer.train("né").fingerprint() != tokenizer.fingerprint()


def test_mistakes():
    with pytest.raises(TokenizerError, match="empty"):
        CharTokenizer.train("")
    with pytest.raises(TokenizerError, match="twice"):
        CharTokenizer("aa")
    with pytest.raises(TokenizerError, match="id 7 at position 1"):
        CharTokenizer("abc").decode([0, 7])
    with pytest.raises(TokenizerError, match="id -1"):
        CharTokenizer("abc").decode([-1])
    with pytest.raises(TypeError, match="bytes"):
        CharTokenizer("abc").encode(b"abc")


def test_streams_give_the_ids_of_the_whole():
    tokenizer = CharTokenizer.train("abc")
    assert np.concatenate(list(tokenizer.encode_stream(["ab", "ca"]))).tolist() == tokenizer.encode("abca")
