"""The compiled scanner gives exactly the pieces of the regular expression."""

import itertools
import random

import numpy as np
import pytest
import regex

from tinyllm.tokenizers import categories
from tinyllm.tokenizers.kernels import scan
from tinyllm.tokenizers.kernels.memory import address
from tinyllm.tokenizers.split import PATTERNS, pieces

# one or two of each class, the characters patterns name, and a long s, which matches s where case is ignored
HOSTILE = " \n\t\ra1.'sSLl\u017f\u01c5\u02b0\u4e2d\u0301/\u2003"


def scanned(data, name):
    """Pieces of UTF-8 bytes by the kernel."""
    ends = np.empty(len(data), np.int64)
    array = np.frombuffer(data, np.uint8)
    start = address(array)
    found = scan.scan(start, start + len(data), address(categories.table()), scan.RULES[name], address(ends), len(data))
    cuts = [0, *(ends[:found] - start).tolist()]
    return [data[a:b] for a, b in zip(cuts, cuts[1:])]


def matched(text, name):
    """The same by the regular expression itself."""
    return [match.group().encode("utf-8", "surrogateescape") for match in regex.compile(PATTERNS[name]).finditer(text)]


def hold(text, name):
    data = text.encode("utf-8", "surrogateescape")
    assert scanned(data, name) == matched(text, name), repr(text)


@pytest.mark.parametrize("name", PATTERNS)
def test_every_string_of_three_hostile_characters(name):
    for length in range(1, 4):
        for characters in itertools.product(HOSTILE, repeat=length):
            hold("".join(characters), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", PATTERNS)
def test_every_string_of_up_to_six_hostile_characters(name):
    for alphabet, longest in (("\n '1as.S", 6), (" \ra\u0301\u4e2dL'/", 5), ("\t a1.\u01c5s\u2003", 5)):
        for length in range(4, longest + 1):
            for characters in itertools.product(alphabet, repeat=length):
                hold("".join(characters), name)


@pytest.mark.parametrize("name", PATTERNS)
def test_random_unicode(name):
    rng = random.Random(name)
    assigned = np.flatnonzero(categories.table() != categories.OTHER).tolist()
    everything = [*range(0xD800), *range(0xE000, 0x110000)]
    for _ in range(4000):
        pool = rng.choice((HOSTILE, assigned, everything, range(256)))
        characters = [rng.choice(pool) for _ in range(rng.randrange(1, 20))] + rng.choices(HOSTILE, k=5)
        rng.shuffle(characters)
        hold("".join(c if isinstance(c, str) else chr(c) for c in characters), name)


@pytest.mark.parametrize("name", PATTERNS)
def test_bytes_that_are_not_utf8_are_characters_of_no_class(name):
    """As `regex` sees Python's surrogate escapes, one for each byte that belongs to no character."""
    rng = random.Random(name)
    pool = [0x80, 0xBF, 0xC0, 0xC3, 0xE0, 0xED, 0xA0, 0xF0, 0x90, 0xF4, 0xF5, 0xFF, *b"a 1'\n"]
    for _ in range(6000):
        data = bytes(rng.choice(pool) for _ in range(rng.randrange(1, 12)))
        hold(data.decode("utf-8", "surrogateescape"), name)


@pytest.mark.parametrize("name", PATTERNS)
def test_the_plain_path_follows_the_frozen_table(name):
    """`split.pieces` maps characters to stand-ins, so that the installed `regex` cannot change a piece."""
    rng = random.Random(name)
    for _ in range(1500):
        text = "".join(rng.choice((rng.choice(HOSTILE), chr(rng.randrange(0xD800)))) for _ in range(rng.randrange(1, 30)))
        assert [piece.encode() for piece in pieces(text, name)] == scanned(text.encode(), name)


def test_long_runs_cross_the_eight_byte_steps():
    for length in range(1, 40):
        for end in ("", " ", "\u00e9", "'s", "1", "\u0301", "\n"):
            for name in PATTERNS:
                hold("x" + "a" * length + end, name)
