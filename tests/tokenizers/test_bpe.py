"""The definition of BPE against figures computed elsewhere."""

from tinyllm.tokenizers import bpe

MORSE = {"h": "....", "e": ".", "l": ".-..", "o": "---"}


def hello_in_morse():
    return " ".join(MORSE[letter] for letter in "hellohello").encode()


def test_first_counts_of_morse():
    """The study, section 1b: 41 symbols; overlapping pairs count."""
    text = hello_in_morse()
    assert len(text) == 41
    counts = {bytes(pair).decode(): count for pair, count in bpe.count_pairs([(list(text), 1)]).items()}
    assert counts == {"..": 10, ". ": 8, " .": 7, ".-": 4, "-.": 4, "--": 4, " -": 2, "- ": 1}


def test_morse_trace():
    """The study, section 1b: thirteen rules A to M turn 'hello hello' into "M M"."""
    rules = "A=.. B=A_ C=B. D=-- E=AC F=E_ G=F. H=G- I=HC J=I- K=JB L=KD M=L-".split()
    number = {".": 46, "-": 45, "_": 32, **{rule[0]: 256 + i for i, rule in enumerate(rules)}}
    merges, history = bpe.train({hello_in_morse(): 1}, 20, ties="first")
    assert merges == [(number[rule[2]], number[rule[3]]) for rule in rules]
    assert history[-1] == 3
    ranks = bpe.rank_table(merges)
    assert bpe.encode(hello_in_morse(), ranks) == [268, 32, 268]
    assert bpe.decode([268, 32, 268], merges) == hello_in_morse()


def test_the_three_tie_rules():
    """Three pairs tied at 2 in "zy xw zy xw": rustbpe takes the first, Hugging Face the second, minbpe the third."""
    pieces = {b"zy": 2, b" xw": 2}     # GPT-2 pieces, but for the first word's missing space
    first = {rule: bpe.decode([256], bpe.train(pieces, 1, ties=rule)[0]) for rule in bpe.TIES}
    assert first == {"smallest": b" x", "gpt2": b"xw", "first": b"zy"}


def test_merging_goes_left_to_right_without_overlap():
    assert bpe.merge([1, 1, 1], (1, 1), 9) == [9, 1]
    assert bpe.merge([1, 2, 1, 2, 1], (1, 2), 9) == [9, 9, 1]


def test_weights_count_as_repetition():
    once = bpe.train({b"abcabd": 3, b"bcd": 2}, 5)
    assert once[0] == bpe.train({b"abcabd": 3, b"bcd": 2}, 5)[0]
    many = bpe.count_pairs([(list(b"abcabd"), 1)] * 3 + [(list(b"bcd"), 1)] * 2)
    assert many == bpe.count_pairs([(list(b"abcabd"), 3), (list(b"bcd"), 2)])
