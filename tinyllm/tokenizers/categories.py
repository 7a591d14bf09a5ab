r"""The class of every Unicode character, frozen: what the compiled scanner knows of \p{L}, \p{N} and \s.

Patterns need seven classes. They are stored in `categories.bin` as runs, so that ids never change with the
version of a library: the table is that of Unicode 18.0.0, as the `regex` module 2026.11.15 has it. A test
holds every code point that Python's own (older) database knows to that database, and all of them to `regex`
where the installed version has the same Unicode. tiktoken and Hugging Face's tokenizers compile in an older
Unicode: they differ on characters assigned since, which they take for punctuation.
"""

import functools
import zlib
from pathlib import Path

import numpy as np

UNICODE_VERSION = "18.0.0"
REGEX_VERSION = "2026.11.15"
OTHER, UPPER, LOWER, LETTER, MARK, NUMBER, SPACE, NEWLINE = range(8)
CLASSES = {UPPER: r"\p{Lu}\p{Lt}", LOWER: r"\p{Ll}", LETTER: r"\p{Lm}\p{Lo}", MARK: r"\p{M}", NUMBER: r"\p{N}",
           SPACE: r"\s", NEWLINE: r"\r\n"}     # a later class overrules an earlier one
_FILE = Path(__file__).with_name("categories.bin")


@functools.lru_cache(maxsize=1)
def table():
    """The class of each code point, uint8 (0x110000,)."""
    runs = np.frombuffer(zlib.decompress(_FILE.read_bytes()), "<u4")
    return np.repeat((runs & 7).astype(np.uint8), runs >> 3)


def from_regex():
    """The same table asked of the installed `regex` module."""
    import regex

    everything = "".join(map(chr, range(0x110000)))
    classes = np.zeros(0x110000, np.uint8)
    for number, members in CLASSES.items():
        for match in regex.finditer(f"[{members}]+", everything):
            classes[match.start():match.end()] = number
    return classes


def freeze(classes, path=_FILE):
    """Write a table as runs (length * 8 + class); run once for a new Unicode version."""
    starts = np.flatnonzero(np.r_[True, classes[1:] != classes[:-1]])
    lengths = np.diff(np.r_[starts, len(classes)])
    runs = (lengths.astype("<u4") << 3) | classes[starts]
    path.write_bytes(zlib.compress(runs.tobytes(), 9))
