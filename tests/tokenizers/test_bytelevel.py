"""The BPE tokenizer: the definition and the kernels encode alike, any bytes come back, special tokens stay apart."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyllm import tokenizers
from tinyllm.tokenizers import BPETokenizer, TokenizerError, bpe, bytelevel, split

DATA = os.environ.get("TINYLLM_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="TINYLLM_DATA names no directory with the real texts")
TEXT = ("It was the best of times, it was the worst of times, it's the 1st of 12345 tales: naïve café, 日本語 日本, "
        "ﬁne…  \n\n\tthe end\r\n") * 20


@pytest.fixture(scope="module", params=["gpt2", "o200k", None, r"\s*\S+|\s+"])
def tokenizer(request):
    return BPETokenizer.train(TEXT, 420, pattern=request.param, special_tokens=["<|endoftext|>", "<|end|>"])


def by_definition(tokenizer, text):
    """Ids by `bpe.py` alone."""
    ranks = bpe.rank_table(tokenizer.merges)
    return [token for piece in split.pieces(text, tokenizer.pattern) for token in bpe.encode(piece.encode(), ranks)]


def random_text(rng, size):
    pools = ["abt he.'s1", TEXT, [chr(c) for c in (*range(0x300), *range(0x4E00, 0x4F00), 0x1F600, 0x2028)]]
    return "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(size)))


def test_kernels_encode_as_the_definition(tokenizer):
    rng = random.Random(1)
    for _ in range(300):
        text = random_text(rng, 150)
        expected = by_definition(tokenizer, text)
        assert tokenizer.encode_bytes(text.encode()) == expected
        assert tokenizer.encode(text) == expected


def test_the_short_way_and_the_kernels_agree(tokenizer, monkeypatch):
    plain = BPETokenizer(tokenizer.merges, pattern=tokenizer.pattern)
    monkeypatch.setattr(BPETokenizer, "_coder", None)      # the kernels cannot be reached
    assert plain.encode(TEXT[:60]) == tokenizer._encode_small(split.pieces(TEXT[:60], tokenizer.pattern))
    assert plain.decode(plain.encode(TEXT[:60])) == TEXT[:60]


def test_nothing_is_compiled_for_a_prompt():
    code = ("import sys; from tinyllm.tokenizers import BPETokenizer; t = BPETokenizer.train('low lower lowest', 260);"
            "t.decode(t.encode('any prompt, né')); sys.exit('numba' in sys.modules)")
    parent = "import sys, types; sys.modules['tinyllm'] = m = types.ModuleType('tinyllm'); m.__path__ = [sys.argv[1]];"
    package = str(Path(tokenizers.__file__).parents[1])
    assert subprocess.run([sys.executable, "-c", parent + code, package], check=False).returncode == 0


def test_any_bytes_come_back(tokenizer):
    rng = random.Random(2)
    for _ in range(200):
        data = rng.randbytes(rng.randrange(60)) + rng.choice([b"", "日本語".encode()[:rng.randrange(9)]])
        assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data
    every = bytes(range(256)) * 300
    assert tokenizer.decode_bytes(tokenizer.encode_bytes(every)) == every


def test_decode_is_total_and_replaces_what_is_no_text(tokenizer):
    rng = random.Random(3)
    for size in (5, 70, 6000):
        ids = [rng.randrange(tokenizer.vocab_size) for _ in range(size)]
        data = b"".join(tokenizer.token_bytes(token) for token in ids)
        for form in (ids, tuple(ids), np.array(ids), np.array(ids, np.uint16)):
            assert tokenizer.decode_bytes(form) == data
            assert tokenizer.decode(form) == data.decode("utf-8", "replace")


@pytest.mark.parametrize("size", [1, 9000])
def test_an_unknown_id_is_an_error(tokenizer, size):
    for wrong in (tokenizer.vocab_size, -1, 2**31, 2**40):
        ids = np.array([1] * size + [wrong])
        with pytest.raises(TokenizerError, match=f"position {size} is not in the vocabulary of {tokenizer.vocab_size} ids"):
            tokenizer.decode(ids)


def test_a_decoder_shows_no_half_character(tokenizer):
    for text in ("naïve 日本語 🙂", TEXT):
        decoder = tokenizer.decoder()
        shown = [decoder.push(token) for token in tokenizer.encode(text)] + [decoder.finish()]
        assert "".join(shown) == text and not any("\ufffd" in part for part in shown)
    decoder = tokenizer.decoder()
    assert decoder.push(0xE6) == "" and decoder.finish() == "\ufffd"


def test_lone_surrogates_become_replacement_characters(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude42 \udc00" * 4000)) == "🙂 \ufffd" * 4000


def test_offsets_point_into_the_text(tokenizer):
    for text in ("", "naïve 日本語", TEXT):
        ids, characters, data = tokenizer.encode_with_offsets(text)
        assert ids == tokenizer.encode(text) and len(ids) == len(characters) == len(data)
        encoded = text.encode()
        for token, (a, b), (c, d) in zip(ids, characters, data):
            assert tokenizer.token_bytes(token) == encoded[c:d]
            assert len(text[:a].encode()) <= c and len(text[:b].encode()) >= d
            assert a == b or len(text[:a + 1].encode()) > c                  # no character too many in front
    ids, characters, _ = BPETokenizer([]).encode_with_offsets("né")
    assert characters == [(0, 1), (1, 2), (1, 2)]


def test_special_tokens_as_in_tiktoken(tokenizer):
    end = tokenizer.special_tokens["<|endoftext|>"]
    assert tokenizer.eos_id == tokenizer.bos_id == end
    with pytest.raises(TokenizerError, match=r"'<\|endoftext\|>' at character 2"):
        tokenizer.encode("a <|endoftext|>")
    plain = tokenizer.encode("a <|endoftext|>", disallowed_special=())
    assert end not in plain and tokenizer.decode(plain) == "a <|endoftext|>"
    assert tokenizer.encode("<|endoftext|><|end|>b", allowed_special="all") == [end, end + 1, *tokenizer.encode("b")]
    with pytest.raises(TokenizerError, match=r"<\|end\|>"):
        tokenizer.encode("<|endoftext|><|end|>", allowed_special={"<|endoftext|>"})
    mixed = tokenizer.encode("<|endoftext|><|end|>", allowed_special={"<|endoftext|>"}, disallowed_special=())
    assert mixed[0] == end and end + 1 not in mixed
    with pytest.raises(TokenizerError, match="'<nope>', which is not a special token here"):
        tokenizer.encode("x", allowed_special={"<nope>"})
    with pytest.raises(TypeError, match="takes a set"):
        tokenizer.encode("x", allowed_special="<|end|>")
    assert tokenizer.encode("x", bos=True, eos=True) == [end, *tokenizer.encode("x"), end]


def test_the_longest_special_token_wins():
    tokenizer = BPETokenizer([], special_tokens=["<a>", "<a><b>"])
    assert tokenizer.encode("<a><b><a>", allowed_special="all") == [257, 256]


def test_a_tokenizer_without_special_tokens_takes_any_text():
    assert BPETokenizer([]).encode("<|endoftext|>") == list(b"<|endoftext|>")
    with pytest.raises(TokenizerError, match="bos=True asks for a token this tokenizer does not have"):
        BPETokenizer([]).encode("x", bos=True)


def test_batches_streams_and_many_threads_give_the_same(tokenizer):
    rng = random.Random(5)
    texts = [random_text(rng, 300) for _ in range(200)] + [""]
    single = [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(texts, threads=4) == single
    assert tokenizer.decode_batch(single, threads=3) == texts
    assert list(tokenizer.encode_iterable(texts)) == [token for ids in single for token in ids]
    whole = "".join(texts)
    assert np.concatenate(list(tokenizer.encode_stream(texts))).tolist() == tokenizer.encode(whole)


def test_what_was_encoded_before_changes_nothing(monkeypatch):
    from tinyllm.tokenizers import encoder

    monkeypatch.setattr(encoder, "MOST_BITS", 10)          # so small that it forgets all the time
    rng = random.Random(6)
    text = " ".join("".join(rng.choices("abcdefgh", k=rng.choice([2, 6, 18, 150]))) for _ in range(6000))
    trained = BPETokenizer.train(text[:3000], 300)
    ids = trained.encode(text)
    assert ids == trained.encode(text) and trained.decode(ids) == text
    monkeypatch.undo()
    assert BPETokenizer(trained.merges).encode(text) == ids


def test_long_pieces_take_the_heap():
    """Around the lengths at which the way of encoding changes, and far beyond."""
    tokenizer = BPETokenizer.train("abcab" * 40 + "aaaa" * 40, 290, pattern=None)
    rng = random.Random(7)
    for length in (47, 48, 49, 191, 192, 193, 700):
        for text in ("a" * length, "".join(rng.choices("abc", k=length))):
            assert tokenizer.encode_bytes(text.encode()) == by_definition(tokenizer, text)
    assert tokenizer.decode(tokenizer.encode("a" * 1_000_000)) == "a" * 1_000_000


def test_saves_and_loads(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    again = tokenizers.load(tmp_path / "t.json")
    assert again.fingerprint() == tokenizer.fingerprint() and again.history == tokenizer.history
    assert again.encode(TEXT) == tokenizer.encode(TEXT) and again.eos_id == tokenizer.eos_id
    other = BPETokenizer(tokenizer.merges, pattern=tokenizer.pattern)
    assert other.fingerprint() != tokenizer.fingerprint()


@pytest.mark.parametrize("change, told", [
    ({"merges": [[97, 98], [97, 98]]}, "merged twice"),
    ({"merges": [[97, 300]]}, "uses an id which no earlier merge makes"),
    ({"merges": [[256, 97]]}, "uses an id which no earlier merge makes"),
    ({"merges": [[97]]}, "merge 0"),
    ({"merges": [[97, "x"]]}, "merge 0"),
    ({"merges": [[97, True]]}, "merge 0"),
    ({"merges": None}, "not a BPE tokenizer's record"),
    ({"merges": [[97, 97]] + [[i, i] for i in range(256, 280)]}, "the most is 65536"),
    ({"special_tokens": {"<s>": 97}}, "id 97 is given twice"),
    ({"special_tokens": {"<s>": -1}}, "-1 is no id"),
    ({"special_tokens": {"<s>": 10**12}}, "is no id"),
    ({"special_tokens": {"": 300}}, "needs a name"),
    ({"history": [1, "x"]}, "no list of whole numbers"),
    ({"pattern": "a" * 20_000}, "the most is 10000"),
    ({"pattern": 7}, "the pattern is 7; expected a text"),
    ({"pattern": "("}, "neither a regular expression"),
    ({"byte_ids": [1] * 256}, "id 1 is given twice"),
    ({"byte_ids": [1]}, "expected one for each of the 256"),
    ({"version": 2}, "version 2"),
    ({"kind": "word"}, "kind 'word'"),
    ({"format": "other"}, "no tokenizer file"),
])
def test_files_that_are_refused(tmp_path, change, told):
    BPETokenizer([(97, 98)]).save(tmp_path / "t.json")
    record = json.loads((tmp_path / "t.json").read_text())
    (tmp_path / "t.json").write_text(json.dumps({**record, **change}))
    with pytest.raises(TokenizerError, match=told) as caught:
        tokenizers.load(tmp_path / "t.json")
    assert "t.json" in str(caught.value)


@needs_data
def test_gpt2_on_the_studys_texts():
    """The study, section 1a: token counts of three texts, and two lists of ids."""
    gpt2 = tokenizers.load(Path(DATA, "gpt2"))
    assert gpt2.vocab_size == 50257 and gpt2.eos_id == 50256
    for name, tokens in (("the-verdict", 5145), ("the-awakening-extract", 15743), ("pride_and_prejudice", 177123)):
        text = Path(DATA, f"{name}.txt").read_bytes().decode()
        ids = gpt2.encode_array(text)
        assert len(ids) == tokens and gpt2.decode(ids) == text
    asked = "Helo, do you like tea? <|endoftext|> In the sunlit terracesof someunknownPlace"
    assert gpt2.encode(asked, allowed_special={"<|endoftext|>"}) == [
        12621, 78, 11, 466, 345, 588, 8887, 30, 220, 50256, 554, 262, 4252, 18250, 8812, 2114, 1659, 617, 34680, 27271]
    assert gpt2.encode("Awkir ier") == [23155, 74, 343, 220, 959]


def test_limits_of_the_short_way_are_as_stated():
    """The docstring promises: texts and pieces below these go through the definition."""
    tokenizer = BPETokenizer([])
    tokenizer.encode("a " * (bytelevel.SMALL_TEXT // 2))
    assert tokenizer._coders is None
    tokenizer.encode("a" * (bytelevel.SMALL_PIECE + 1))
    assert tokenizer._coders is not None
