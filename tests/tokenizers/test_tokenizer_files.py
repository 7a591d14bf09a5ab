"""Tokenizer files of other programs: what is read, what is written, and what is refused."""

import base64
import json
import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from tinyllm import tokenizers
from tinyllm.tokenizers import BPETokenizer, TokenizerError, bpe, huggingface, ranks, split
from tinyllm.tokenizers.llama import LlamaTokenizer, from_llama2c

DATA = os.environ.get("TINYLLM_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="TINYLLM_DATA names no directory with the real texts")
TEXT = "the theme of the thesis is the other thing, naïve 日本語 " * 30


def small(pattern="gpt2"):
    return BPETokenizer.train(TEXT, 300, pattern=pattern, special_tokens=["<|endoftext|>"])


def test_gpt2s_byte_alphabet():
    """The published facts: '!' is id 0 and itself, a space is U+0120, a line end U+010A, byte 0 is U+0100."""
    assert bpe.GPT2_BYTE_ORDER[0] == ord("!") and sorted(bpe.GPT2_BYTE_ORDER) == list(range(256))
    written = {byte: huggingface.BYTE_CHARACTERS[byte] for byte in (32, 10, 0, 33, 173)}
    assert written == {32: "\u0120", 10: "\u010a", 0: "\u0100", 33: "!", 173: "\u0143"}


@pytest.mark.parametrize("pattern", [*split.PATTERNS, None, r"\s*\S+|\s+"])
def test_tokenizer_json_returns_as_it_was(pattern, tmp_path):
    tokenizer = small(pattern)
    huggingface.save(tokenizer, tmp_path / "tokenizer.json")
    again = tokenizers.load(tmp_path)
    assert again.fingerprint() == tokenizer.fingerprint() or pattern in ("cl100k", "llama3")     # one text for both
    assert again.encode(TEXT) == tokenizer.encode(TEXT)
    assert again.encode("<|endoftext|>", allowed_special="all") == [tokenizer.eos_id]


def test_ranks_return_the_same_ids(tmp_path):
    tokenizer = small()
    ranks.save(tokenizer, tmp_path / "mine.tiktoken")
    with pytest.raises(TokenizerError, match="does not say its pattern"):
        tokenizers.load(tmp_path / "mine.tiktoken")
    again = tokenizers.load(tmp_path / "mine.tiktoken", pattern="gpt2", special_tokens=["<|endoftext|>"])
    assert again.encode(TEXT) == tokenizer.encode(TEXT) and again.special_tokens == tokenizer.special_tokens
    again.save(tmp_path / "own.json")
    assert tokenizers.load(tmp_path / "own.json").fingerprint() == again.fingerprint()


def test_ranks_merge_any_two_neighbours_that_spell_a_token():
    """tiktoken's rule, by the definition on byte strings: lowest rank first, the leftmost of equals."""
    tokens = [bytes([b]) for b in range(256)] + [b"ab", b"bc", b"abc", b"cab", b"aa", b"bcab", b"xyz"]
    rank = {data: i for i, data in enumerate(tokens)}
    tokenizer = BPETokenizer.from_ranks(tokens, pattern=None)
    rng = random.Random(0)
    for _ in range(2000):
        text = "".join(rng.choices("abcxyz", k=rng.randrange(1, 14)))
        parts = [bytes([b]) for b in text.encode()]
        while text.encode() not in rank and len(parts) > 1:
            joined = [rank.get(a + b, 10**9) for a, b in zip(parts, parts[1:])]
            at = int(np.argmin(joined))
            if joined[at] == 10**9:
                break
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        expected = [rank[text.encode()]] if text.encode() in rank else [rank[part] for part in parts]
        assert tokenizer.encode(text) == expected == tokenizer.encode_bytes(text.encode()), text
    assert tokenizer.encode("xyz") == [262]         # no two tokens make it: found as a whole


@pytest.mark.parametrize("name, pattern, special", [
    ("cl100k_base", "cl100k", {"<|endoftext|>": 100257, "<|endofprompt|>": 100276}),
    ("o200k_base", "o200k", {"<|endoftext|>": 199999}),
    ("r50k_base", "gpt2", {"<|endoftext|>": 50256}),
])
def test_known_rank_files_bring_pattern_and_special_tokens(tmp_path, name, pattern, special):
    lines = b"".join(base64.b64encode(bytes([b])) + b" %d\n" % b for b in range(256))
    (tmp_path / f"{name}.tiktoken").write_bytes(lines)
    tokenizer = tokenizers.load(tmp_path / f"{name}.tiktoken")
    assert tokenizer.pattern == pattern and special.items() <= tokenizer.special_tokens.items()


def test_llama3s_special_tokens():
    """Llama 3: 256 special tokens behind 128,000 ranks, at the ids its model card gives."""
    known = ranks.KNOWN["tokenizer"][1]
    assert len(known) == len(set(known)) == 256
    at = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 4: "<|finetune_right_pad_id|>", 6: "<|start_header_id|>",
          7: "<|end_header_id|>", 8: "<|eom_id|>", 9: "<|eot_id|>", 10: "<|python_tag|>"}
    assert {place: known[place] for place in at} == at


@needs_data
def test_gpt2_loads_from_either_file_and_from_tokenizer_json(tmp_path):
    directory = Path(DATA, "gpt2")
    gpt2 = tokenizers.load(directory / "encoder.json")
    assert tokenizers.load(directory / "vocab.bpe").fingerprint() == gpt2.fingerprint()
    assert gpt2.encode("!") == [0] and gpt2.special_tokens == {"<|endoftext|>": 50256}
    huggingface.save(gpt2, tmp_path / "tokenizer.json")
    assert tokenizers.load(tmp_path / "tokenizer.json").fingerprint() == gpt2.fingerprint()


def gpt2_files(directory):
    """A vocabulary of 256 bytes and 'th', 'the' in GPT-2's two files, as (vocabulary, merges)."""
    characters = [huggingface.BYTE_CHARACTERS[byte] for byte in bpe.GPT2_BYTE_ORDER]
    vocabulary = {name: i for i, name in enumerate([*characters, "th", "the", "<|endoftext|>"])}
    (directory / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\nt h\nth e\n", encoding="utf-8")
    return vocabulary


def test_gpt2s_two_files(tmp_path):
    vocabulary = gpt2_files(tmp_path)
    tokenizer = tokenizers.load(tmp_path)
    assert tokenizer.encode("then") == [vocabulary["the"], vocabulary["n"]] and tokenizer.eos_id == 258


def change_vocabulary(**changes):
    def change(directory, vocabulary):
        vocabulary = {name: i for name, i in {**vocabulary, **changes}.items() if i is not None}
        (directory / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    return change


def change_merges(text):
    return lambda directory, vocabulary: (directory / "merges.txt").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("change, told", [
    (change_merges("#version: 0.2\nt h\nth e x\n"), "line 3"),
    (change_merges("#version: 0.2\nth\n"), "line 2"),
    (change_merges("th e\nt h\n"), "no earlier merge makes"),
    (change_merges("t h\nt h\n"), "merged twice"),
    (change_merges("t h\nth n\n"), "'thn', which the vocabulary lacks"),
    (change_vocabulary(the=None), "the vocabulary has a hole|the vocabulary lacks"),
    (change_vocabulary(the=256), "share the id 256"),
    (change_vocabulary(x=None, y=None), "hole"),
    (change_vocabulary(the="7"), "'7'"),
    (change_vocabulary(the=10**9), "hole"),
    (lambda directory, _: (directory / "vocab.json").write_text("[1, 2]"), "no tokens"),
    (lambda directory, _: (directory / "vocab.json").write_text('{"a": 1, "a": 2}'), "given twice"),
    (lambda directory, _: (directory / "vocab.json").write_text('{"a": '), "not JSON"),
    (lambda directory, _: (directory / "vocab.json").write_text("[" * 100_000), "not JSON"),
    (lambda directory, _: (directory / "vocab.json").write_bytes(b"\xff\xfe"), "not JSON"),
    (lambda directory, _: (directory / "merges.txt").unlink(), "belong beside it"),
])
def test_gpt2_files_that_are_refused(tmp_path, change, told):
    change(tmp_path, gpt2_files(tmp_path))
    with pytest.raises(TokenizerError, match=told):
        tokenizers.load(tmp_path)


@pytest.mark.parametrize("change, told", [
    ({"normalizer": {"type": "NFC"}}, "normalizer"),
    ({"pre_tokenizer": None}, "pre-tokenizer is None"),
    ({"pre_tokenizer": {"type": "Whitespace"}}, "pre-tokenizer is Whitespace"),
    ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "add_prefix_space"),
    ({"model": {"type": "Unigram"}}, "reads BPE"),
    ({"model": {"type": "BPE"}}, "not a tokenizer.json"),
    ({"model": []}, "not a tokenizer.json"),
    ({"added_tokens": [{"id": 3, "content": "<x>"}]}, "share the id 3"),
    ({"added_tokens": [{"id": 900, "content": "<x>"}]}, "hole"),
])
def test_tokenizer_json_that_is_refused(tmp_path, change, told):
    huggingface.save(small(), tmp_path / "tokenizer.json")
    record = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps({**record, **change}))
    with pytest.raises(TokenizerError, match=told):
        tokenizers.load(tmp_path)


@pytest.mark.parametrize("data, told", [
    (b"YQ== 0\nYQ== 0\n", "given twice"),
    (b"YQ== 0\nYg== 2\n", "no token has the rank 1"),
    (b"!!! 0\n", "line 1"),
    (b"YQ==\n", "line 1"),
    (b"YQ== -1\n", "out of range"),
    (b"YQ== 0\n", "no token for the byte 0"),
    (b"", "no token for the byte 0"),
])
def test_rank_files_that_are_refused(tmp_path, data, told):
    (tmp_path / "x.tiktoken").write_bytes(data)
    with pytest.raises(TokenizerError, match=told):
        tokenizers.load(tmp_path / "x.tiktoken", pattern="gpt2")


def test_places_without_a_tokenizer(tmp_path):
    with pytest.raises(TokenizerError, match="holds no tokenizer"):
        tokenizers.load(tmp_path)
    with pytest.raises(TokenizerError, match="cannot read"):
        tokenizers.load(tmp_path / "none.json")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(TokenizerError, match="no known kind"):
        tokenizers.load(tmp_path / "notes.txt")


# ---- llama2.c


def llama_file(pieces, scores=None):
    """A tokenizer.bin: the three special tokens, 256 bytes, and `pieces`."""
    tokens = [b"<unk>", b"\n<s>\n", b"\n</s>\n"] + [b"<0x%02X>" % b for b in range(256)] + pieces
    scores = [0.0] * 259 + (scores or [-float(i) for i in range(len(pieces))])
    body = b"".join(struct.pack("<fI", score, len(token)) + token for score, token in zip(scores, tokens))
    return struct.pack("<I", max(map(len, tokens))) + body


def by_scores(tokenizer, text):
    """llama2.c's rule, word for word: highest score, strictly better wins, so the leftmost of equals."""
    ids = {data: token for token, data in reversed(list(enumerate(tokenizer.tokens))) if token > 258}
    out = []
    for character in " " + text:
        data = character.encode()
        out += [ids[data]] if data in ids else [3 + byte for byte in data]
    while True:
        best, at = -1e10, None
        for i, (a, b) in enumerate(zip(out, out[1:])):
            token = ids.get(tokenizer.tokens[a] + tokenizer.tokens[b])
            if token is not None and tokenizer.scores[token] > best:
                best, at, new = tokenizer.scores[token], i, token
        if at is None:
            return out
        out[at:at + 2] = [new]


@needs_data
def test_llama2cs_512_tokens():
    tokenizer = tokenizers.load(Path(DATA, "tok512.bin"), vocab_size=512)
    assert tokenizer.vocab_size == 512 and (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)
    with pytest.raises(TokenizerError, match="512 tokens, the model 32000"):
        tokenizers.load(Path(DATA, "tok512.bin"), vocab_size=32000)
    for text in ("Once upon a time, there was a little girl named Lily.", "né 你好 🙂", " two  spaces ", "x" * 300,
                 Path(DATA, "the-verdict.txt").read_text()[:800]):
        ids = tokenizer.encode(text)
        assert ids == by_scores(tokenizer, text) and tokenizer.decode(ids) == text
        assert tokenizer.encode(text, bos=True) == [1, *ids]
    decoder = tokenizer.decoder()
    assert "".join(decoder.push(token) for token in tokenizer.encode("Lily né", bos=True)) == "Lily né"
    assert tokenizer.encode("") == []


def test_scores_decide_and_equal_ones_go_leftmost():
    pieces = [b" ", b"a", b"b", b"ab", b"ba", b"aba"]
    for scores in ([0, 0, 0, -1, -1, -2], [0, 0, 0, -2, -1, -3], [0] * 6):
        tokenizer = from_llama2c(llama_file(pieces, [float(s) for s in scores]))
        rng = random.Random(8)
        for length in (3, 9, 40, 90):
            text = "".join(rng.choices("ab", k=length))
            assert tokenizer.encode(text) == by_scores(tokenizer, text)


def test_llama_tokenizers_save_and_load(tmp_path):
    tokenizer = from_llama2c(llama_file([b" ", b"a", b"\xc3\xa9", b" a"]))
    tokenizer.save(tmp_path / "llama.json")
    again = tokenizers.load(tmp_path / "llama.json")
    assert isinstance(again, LlamaTokenizer) and again.fingerprint() == tokenizer.fingerprint()
    assert again.encode("aé日") == tokenizer.encode("aé日")


def test_llama2s_tokenizer_json():
    """Byte fallback: the vocabulary of Llama 2's file in small."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "\u2581", "a", "b", "ab", "\u2581ab"]
    record = {"model": {"type": "BPE", "byte_fallback": True, "vocab": {name: i for i, name in enumerate(names)},
                        "merges": ["a b", "\u2581 ab"]}, "added_tokens": [{"id": 1, "content": "<s>"}],
              "normalizer": {"type": "Sequence"}}
    tokenizer = huggingface.from_record(record)
    assert tokenizer.encode("ab aé") == [263, 259, 260, 3 + 0xC3, 3 + 0xA9]
    assert tokenizer.decode(tokenizer.encode("ab aé")) == "ab aé"


@pytest.mark.parametrize("data, told", [
    (b"", "no tokenizer.bin"),
    (b"\1\0\0\0", "too few"),
    (llama_file([b"a"])[:-1], "claims"),
    (llama_file([b"a"])[:-6], "cut off"),
    (llama_file([b"a"]).replace(b"<0x41>", b"<0x99>"), "expected <0x41>"),
    (struct.pack("<IfI", 9, 0.0, 2**31), "claims"),
    (llama_file([b""]), "at least one byte"),
    (llama_file([b"a"], [float("nan")]), "finite"),
])
def test_llama2c_files_that_are_refused(tmp_path, data, told):
    (tmp_path / "tokenizer.bin").write_bytes(data)
    with pytest.raises(TokenizerError, match=told):
        tokenizers.load(tmp_path)
