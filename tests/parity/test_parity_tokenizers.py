"""The same merges and the same ids as the libraries everyone uses: tiktoken, Hugging Face's tokenizers, rustbpe, bpeasy."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

from tinyllm import tokenizers
from tinyllm.tokenizers import BPETokenizer, categories, huggingface, ranks, split

DATA = os.environ.get("TINYLLM_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="TINYLLM_DATA names no directory with the real texts")
TEXTS = ("the-verdict", "the-awakening-extract", "pride_and_prejudice", "tinyshakespeare")


def read(name):
    return Path(DATA, f"{name}.txt").read_bytes().decode()


def hostile(seed, number=400):
    """Random texts of characters that Unicode had assigned long before any of these libraries was built."""
    rng = random.Random(seed)
    old = [c for c in range(0x3000) if categories.table()[c] != categories.OTHER or c < 0x100]
    old = [c for c in old if not 0x1C <= c <= 0x1F and (c < 0x500 or 0x900 <= c < 0x980 or 0x2000 <= c < 0x2070)]
    pools = [" \n\t\r'sSlLtTa1.!/", [chr(c) for c in old], "日本語中文한국", "🙂👍🏽🏳️\u200d🌈", "'\u017f \u2028\u3000\u00a0"]
    for _ in range(number):
        yield "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(60)))
    yield from ("a" * 3000, " " * 3000, "\n" * 3000, "".join(rng.choices("abcdefghij", k=3000)), "'" * 50, "")


@pytest.fixture(scope="module")
def gpt2():
    if not DATA:
        pytest.skip("TINYLLM_DATA names no directory with the real texts")
    return tokenizers.load(Path(DATA, "gpt2"))


def as_tiktoken(tokenizer, directory):
    """The rank file that is written, loaded by tiktoken."""
    tiktoken = pytest.importorskip("tiktoken")
    from tiktoken.load import load_tiktoken_bpe

    ranks.save(tokenizer, directory / "mine.tiktoken")
    return tiktoken.Encoding("mine", pat_str=split.pattern_text(tokenizer.pattern) or r"[\s\S]+",
                             mergeable_ranks=load_tiktoken_bpe(str(directory / "mine.tiktoken")),
                             special_tokens=tokenizer.special_tokens)


def as_huggingface(tokenizer, directory):
    """The tokenizer.json that is written, loaded by tokenizers."""
    hf = pytest.importorskip("tokenizers")
    huggingface.save(tokenizer, directory / "tokenizer.json")
    return hf.Tokenizer.from_file(str(directory / "tokenizer.json"))


def test_gpt2_ids_are_tiktokens(gpt2, tmp_path):
    theirs = as_tiktoken(gpt2, tmp_path)
    for name in TEXTS:
        assert gpt2.encode(read(name)) == theirs.encode_ordinary(read(name))
    for text in hostile(1):
        ids = gpt2.encode(text)
        assert ids == theirs.encode_ordinary(text) and gpt2.decode(ids) == theirs.decode(ids) == text
    mixed = "a<|endoftext|>b <|endoftext|>"
    assert gpt2.encode(mixed, allowed_special="all") == theirs.encode(mixed, allowed_special="all")
    assert gpt2.encode(mixed, disallowed_special=()) == theirs.encode(mixed, disallowed_special=())


def test_gpt2_ids_are_huggingfaces(gpt2, tmp_path):
    theirs = as_huggingface(gpt2, tmp_path)
    for name in TEXTS[:2]:
        assert gpt2.encode(read(name)) == theirs.encode(read(name)).ids
    for text in hostile(2):
        assert gpt2.encode(text) == theirs.encode(text).ids
    assert gpt2.encode("a<|endoftext|>b", allowed_special="all") == theirs.encode("a<|endoftext|>b").ids


@needs_data
@pytest.mark.parametrize("pattern", split.PATTERNS)
def test_what_is_written_loads_elsewhere_and_gives_the_same_ids(pattern, tmp_path):
    text = read("the-awakening-extract") + "".join(hostile(3, 200))
    tokenizer = BPETokenizer.train(text, 2000, pattern=pattern, special_tokens=["<|endoftext|>"])
    tiktoken, hf = as_tiktoken(tokenizer, tmp_path), as_huggingface(tokenizer, tmp_path)
    for sample in (text, *hostile(4)):
        ids = tokenizer.encode(sample)
        assert ids == tiktoken.encode_ordinary(sample)
        assert ids == hf.encode(sample).ids
        assert hf.decode(ids, skip_special_tokens=False) == sample


@needs_data
@pytest.mark.parametrize("size", [512, 4096])
def test_merges_are_huggingfaces_with_their_ties(size):
    hf = pytest.importorskip("tokenizers")
    for name in TEXTS:
        theirs = hf.Tokenizer(hf.models.BPE())
        theirs.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = hf.trainers.BpeTrainer(vocab_size=size, initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
                                         show_progress=False, min_frequency=2)
        theirs.train_from_iterator([read(name)], trainer)
        ours = BPETokenizer.train(read(name), size, ties="gpt2")
        learned = sorted((token, text) for text, token in theirs.get_vocab().items())[256:]
        assert [huggingface.to_characters(data) for data in ours.tokens[256:]] == [text for _, text in learned]


@needs_data
@pytest.mark.parametrize("size", [512, 4096, 32768])
def test_merges_are_rustbpes(size):
    rustbpe = pytest.importorskip("rustbpe")
    for name in TEXTS:
        theirs = rustbpe.Tokenizer()
        theirs.train_from_iterator(iter([read(name)]), size, pattern=split.PATTERNS["gpt2"])
        ours = BPETokenizer.train(read(name), size, min_frequency=1)
        assert ours.tokens == [bytes(data) for data, _ in theirs.get_mergeable_ranks()]


@needs_data
@pytest.mark.parametrize("size", [512, 4096])
def test_merges_are_bpeasys(size):
    bpeasy = pytest.importorskip("bpeasy")
    for name in TEXTS:
        theirs = bpeasy.train_bpe(iter([read(name)]), split.PATTERNS["gpt2"], 128, size)
        ours = BPETokenizer.train(read(name), size, min_frequency=1)
        assert {data: i for i, data in enumerate(ours.tokens)} == theirs


@needs_data
def test_llamas_tokenizer_json_is_huggingfaces():
    """Byte fallback, from the 512 tokens of llama2.c written as a tokenizer.json of Llama 2's kind."""
    hf = pytest.importorskip("tokenizers")
    ours = tokenizers.load(Path(DATA, "tok512.bin"))
    names = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    names += [data.decode().replace(" ", "\u2581") for data in ours.tokens[259:]]
    merges = sorted(((-ours.scores[token], token, a, b) for (a, b), (_, token) in ours.ranks.items() if min(a, b) > 258))
    theirs = hf.Tokenizer(hf.models.BPE(vocab={name: i for i, name in enumerate(names)},
                                        merges=[(names[a], names[b]) for _, _, a, b in merges],
                                        unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    theirs.normalizer = hf.normalizers.Sequence([hf.normalizers.Prepend("\u2581"), hf.normalizers.Replace(" ", "\u2581")])
    for text in ("Once upon a time, there was a little girl named Lily.", "né 你好", read("the-verdict")[:5000]):
        assert np.array_equal(ours.encode(text), theirs.encode(text).ids)
