"""Ids on disk: written once, mapped, and never stale."""

import numpy as np
import pytest

from tinyllm import tokenizers
from tinyllm.errors import UserError
from tinyllm.text import tokens

TEXT = "the theme of the thesis, naïve 日本\n" * 400


@pytest.fixture
def files(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.BPETokenizer.train(TEXT, 300)


def test_ids_are_those_of_the_whole_text(files, tokenizer):
    ids = tokens.stored(tokenizer, files / "text.txt", files / "cache")
    assert isinstance(ids, np.memmap) and ids.dtype == np.uint16 and not ids.flags.writeable
    assert ids.tolist() == tokenizer.encode(TEXT)
    assert tokens.verify(next((files / "cache").iterdir()))


def test_a_large_vocabulary_takes_four_bytes(files):
    wide = tokenizers.BPETokenizer([], special_tokens={"<end>": 1 << 16})
    ids = tokens.stored(wide, files / "text.txt", files / "cache")
    assert ids.dtype == np.uint32 and ids.tolist() == list(TEXT.encode())


def test_written_once(files, tokenizer, monkeypatch):
    tokens.stored(tokenizer, files / "text.txt", files / "cache")
    monkeypatch.setattr(type(tokenizer), "encode_stream", None)
    assert len(tokens.stored(tokenizer, files / "text.txt", files / "cache")) == len(tokenizer.encode(TEXT))


def test_another_text_or_tokenizer_makes_another_file(files, tokenizer):
    tokens.stored(tokenizer, files / "text.txt", files / "cache")
    (files / "text.txt").write_text("other", encoding="utf-8")
    assert tokens.stored(tokenizer, files / "text.txt", files / "cache").tolist() == tokenizer.encode("other")
    other = tokenizers.CharTokenizer.train("other")
    assert tokens.stored(other, files / "text.txt", files / "cache").tolist() == other.encode("other")
    assert len(list((files / "cache").iterdir())) == 3


@pytest.mark.parametrize("damage", [
    lambda data: data[:-2], lambda data: data + b"\0\0", lambda data: b"", lambda data: data[:300],
    lambda data: data.replace(b'"source": "', b'"source": "0'), lambda data: b"[1]" + data[3:], lambda data: b"\xff" * 600,
])
def test_a_damaged_file_is_written_anew(files, tokenizer, damage):
    tokens.stored(tokenizer, files / "text.txt", files / "cache")
    path = next((files / "cache").iterdir())
    path.write_bytes(damage(path.read_bytes()))
    assert tokens.stored(tokenizer, files / "text.txt", files / "cache").tolist() == tokenizer.encode(TEXT)
    assert tokens.verify(path)


def test_a_changed_id_is_found_by_the_checksum(files, tokenizer):
    tokens.stored(tokenizer, files / "text.txt", files / "cache")
    path = next((files / "cache").iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert not tokens.verify(path)


def test_nothing_is_left_of_a_writing_that_failed(files, tokenizer):
    def parts():
        calls.append(1)
        yield TEXT
        if len(calls) == 2:
            raise KeyboardInterrupt

    calls = []
    with pytest.raises(KeyboardInterrupt):
        tokens.stored_parts(tokenizer, parts, files / "cache")
    assert list((files / "cache").iterdir()) == []


def test_mistakes(files, tokenizer):
    with pytest.raises(UserError, match="read only once"):
        tokens.stored(tokenizer, "-", files)
    with pytest.raises(UserError, match="cannot make the directory"):
        tokens.stored(tokenizer, files / "text.txt", files / "text.txt" / "x")
