"""Training: the definition and the kernels learn the same, and both learn what others have measured."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

from tinyllm.tokenizers import BPETokenizer, Stream, TokenizerError, blocks, bpe, split, training

DATA = os.environ.get("TINYLLM_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="TINYLLM_DATA names no directory with the real texts")


def kernels(pieces, num_merges, **options):
    """Merges and history by the kernels, from pieces {bytes: count}."""
    counter = training.PieceCounter(None, bits=6)
    for piece, count in pieces.items():
        for _ in range(count):
            counter.add(piece)
    if options.get("ties") == "first":
        counter = training.PiecesInOrder(pieces)
    return training.learn(counter, num_merges, **options)


def test_ten_thousand_small_corpora():
    """Alphabets of one to four symbols, so that ties and overlaps ('aaaa', 'abab') are everywhere."""
    rng = random.Random(2016)
    for _ in range(10_000):
        alphabet, longest = rng.choice([b"a", b"ab", b"abc", b"abcd"]), rng.choice([4, 12, 40])
        pieces = {bytes(rng.choices(alphabet, k=rng.randrange(1, longest))): rng.randrange(1, 9)
                  for _ in range(rng.randrange(1, 12))}
        options = {"ties": rng.choice(bpe.TIES), "min_frequency": rng.randrange(0, 4),
                   "max_token_length": rng.choice([None, None, 3, 5])}
        number = rng.randrange(1, 30)
        assert kernels(pieces, number, **options) == bpe.train(pieces, number, **options), (pieces, number, options)


@needs_data
@pytest.mark.parametrize("name, tokens", [("the-verdict", 7752), ("the-awakening-extract", 24342),
                                          ("pride_and_prejudice", 271538)])
def test_the_studys_own_merges(name, tokens):
    """The study, section 5: 500 merges on the raw bytes, ties to the pair seen first; Pride and Prejudice took it 103 s."""
    text = Path(DATA, f"{name}.txt").read_bytes().decode()
    tokenizer = BPETokenizer.train(text, 756, pattern=None, ties="first")
    assert tokenizer.history[0] == len(text.encode()) and tokenizer.history[500] == tokens
    assert len(tokenizer.encode(text)) == tokens
    if name == "pride_and_prejudice":
        checkpoints = {1: 696463, 50: 474637, 100: 409608, 200: 345225, 300: 310816, 400: 288105}
        assert {step: tokenizer.history[step] for step in checkpoints} == checkpoints
        first = [(b"e ", 17836), (b"th", 13423), (b"er", 11563), (b"d ", 11273), (b"t ", 11069)]
        for i, (spelling, count) in enumerate(first):
            assert tokenizer.token_bytes(256 + i) == spelling
            assert tokenizer.history[i] - tokenizer.history[i + 1] == count


@needs_data
@pytest.mark.parametrize("name, tokens", [("the-verdict", 9177), ("the-awakening-extract", 29209),
                                          ("pride_and_prejudice", 327501)])
def test_the_studys_poetry_merges_on_other_texts(name, tokens):
    """The study, section 5: its 500 merges, learned from poetry, applied to the raw bytes of three texts."""
    rows = Path(DATA, "poetry_500_merges.tsv").read_text(encoding="utf-8").splitlines()[1:]
    merges = [tuple(map(int, row.split("\t")[2:4])) for row in rows]
    text = Path(DATA, f"{name}.txt").read_bytes().decode()
    assert len(BPETokenizer(merges, pattern=None).encode(text)) == tokens


@needs_data
def test_pieces_of_pride_and_prejudice():
    """160,010 pieces by GPT-2's pattern, 9,467 distinct; with 13,944 merges every piece is one token."""
    text = Path(DATA, "pride_and_prejudice.txt").read_bytes().decode()
    counter = training.count([(text, False)], "gpt2", threads=1)
    assert counter.state[0] == 9467
    merges, history = training.learn(counter, 20_000, min_frequency=1)
    assert len(merges) == 13_944 and history[-1] == 160_010


@pytest.mark.parametrize("pattern", split.PATTERNS)
def test_blocks_change_no_piece(pattern):
    rng = random.Random(pattern)
    for _ in range(60):
        text = "".join(rng.choice([" ", "  ", "\n", "ab", "Cd's", "'", "12", "3456", "\u0301", "é", "中文", "!", "…", "\u2003"])
                       for _ in range(rng.randrange(400)))
        cuts = sorted(rng.randrange(len(text) + 1) for _ in range(3))
        parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
        stream = [(part, True) for part in parts] + [("", False)]
        found = [block.decode() for block in blocks.blocks(stream, pattern, size=50)]
        assert "".join(found) == text
        assert [p for block in found for p in split.pieces(block, pattern)] == split.pieces(text, pattern)


def corpus(seed, size=60_000):
    rng = random.Random(seed)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randrange(1, 9))) for _ in range(400)]
    return " ".join(rng.choice(words) for _ in range(size // 6))


def test_threads_streams_and_paths_learn_the_same(tmp_path, monkeypatch):
    text = corpus(1)
    monkeypatch.setattr(blocks.blocks, "__defaults__", (3000,))
    expected = BPETokenizer.train(text, 600, threads=1)
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    for source in (text, Stream([text[i:i + 777] for i in range(0, len(text), 777)]), tmp_path / "a.txt"):
        for threads in (1, 2, 3):
            assert BPETokenizer.train(source, 600, threads=threads).merges == expected.merges
    counts = {}
    for piece in split.pieces(text, "gpt2"):
        counts[piece.encode()] = counts.get(piece.encode(), 0) + 1
    assert expected.merges == bpe.train(counts, 344)[0]


def test_any_pattern_over_processes_learns_the_same():
    text, pattern = corpus(2), r"\s*\S+|\s+"
    parts = [text[:20_000], text[20_000:]]
    counts = {}
    for part in parts:
        for piece in split.pieces(part, pattern):
            counts[piece.encode()] = counts.get(piece.encode(), 0) + 1
    for threads in (1, 2):
        assert BPETokenizer.train(parts, 400, pattern=pattern, threads=threads).merges == bpe.train(counts, 144)[0]


def test_long_pieces_and_many_make_the_table_grow():
    rng = random.Random(4)
    pieces = {bytes(rng.choices(b"abcdefgh", k=rng.choice([3, 8, 15, 16, 17, 60]))): 1 for _ in range(30_000)}
    counter = training.PieceCounter(None, bits=4)
    for piece in pieces:
        counter.add(piece)
    assert counter.size() == (len(pieces), sum(map(len, pieces)))


def test_special_tokens_are_never_merged_across():
    text = "ab<|sep|>" * 50
    tokenizer = BPETokenizer.train(text, 300, special_tokens=["<|sep|>"])
    assert tokenizer.merges == [(97, 98)] and tokenizer.vocab_size == 258
    assert tokenizer.special_tokens == {"<|sep|>": 257}
    assert tokenizer.encode("ab<|sep|>", allowed_special="all") == [256, 257]


def test_documents_are_not_merged_across():
    assert BPETokenizer.train(["ab", "cd"] * 9, 300, pattern=None).merges == [(97, 98), (99, 100)]


def test_min_frequency_and_max_token_length():
    pieces = {b"abab": 3, b"xy": 2}
    assert kernels(pieces, 9, min_frequency=3)[0] == [(97, 98), (256, 256)]
    assert kernels(pieces, 9, max_token_length=2)[0] == [(97, 98), (120, 121)]


def test_progress_is_told():
    told = []
    BPETokenizer.train(corpus(3), 500, progress=lambda *step: told.append(step))
    assert sum(amount for stage, amount in told if stage == "bytes") == len(corpus(3))
    assert told[-1] == ("merges", 244)


@pytest.mark.parametrize("arguments, told", [
    (("text", 255), "vocab_size 255 is below 256"),
    (("", 300), "empty"),
    (([], 300), "empty"),
])
def test_mistakes(arguments, told):
    with pytest.raises(TokenizerError, match=told):
        BPETokenizer.train(*arguments)


def test_more_mistakes(tmp_path):
    with pytest.raises(TokenizerError, match="257: 256 bytes and 1 special"):
        BPETokenizer.train("text", 256, special_tokens=["<s>"])
    with pytest.raises(TokenizerError, match="ties 'largest' is not one of"):
        BPETokenizer.train("text", 300, ties="largest")
    with pytest.raises(TypeError, match="holds a bytes"):
        BPETokenizer.train([b"text"], 300)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(ValueError, match="byte offset 3"):
        BPETokenizer.train(tmp_path / "latin.txt", 300)
    with pytest.raises(KeyboardInterrupt):
        BPETokenizer.train(interrupted(), 300)


def interrupted():
    yield corpus(5)
    raise KeyboardInterrupt


def test_the_cut_is_at_a_word_or_nowhere():
    assert blocks.cut("中文,中文中文中文".encode(), 22) == 6
    assert blocks.cut(b"aaaa aaaa", 7) == 4
    assert blocks.cut(b"don't", 4) == 0
    assert blocks.cut(b"!!!!!!!!", 5) == 0
    assert np.all([blocks.cut("é".encode() * 9, i) == 0 for i in range(1, 17)])


def test_surrogate_pairs_are_not_cut_in_two():
    text = "\ud83d\ude42" * 400
    assert b"".join(blocks.blocks([(text, False)], "gpt2", size=31)) == "🙂".encode() * 400


def test_a_vocabulary_larger_than_the_text_allocates_little():
    assert BPETokenizer.train(corpus(6), 2**31, min_frequency=1).vocab_size < 60_000
