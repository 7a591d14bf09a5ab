"""The frozen Unicode table against Python's database and against the installed `regex`."""

import re
import sys
import unicodedata

import numpy as np
import pytest
import regex

from tinyllm.tokenizers import categories as c

OF_CATEGORY = {"Lu": c.UPPER, "Lt": c.UPPER, "Ll": c.LOWER, "Lm": c.LETTER, "Lo": c.LETTER, "Mn": c.MARK, "Mc": c.MARK,
               "Me": c.MARK, "Nd": c.NUMBER, "Nl": c.NUMBER, "No": c.NUMBER}
WHITE_SPACE = [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]


def test_every_assigned_code_point_has_pythons_category():
    """Python's database is older: what it knows has the same class but for the few characters Unicode has changed since."""
    table, differ = c.table(), []
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category != "Cn" and code not in WHITE_SPACE and OF_CATEGORY.get(category, c.OTHER) != table[code]:
            differ.append(code)
    assert len(differ) < 20


def test_white_space_is_unicodes_list():
    """PropList.txt, White_Space: 25 code points, U+001C to U+001F not among them."""
    spaces = np.flatnonzero((c.table() == c.SPACE) | (c.table() == c.NEWLINE))
    assert spaces.tolist() == sorted(WHITE_SPACE) and len(spaces) == 25
    assert np.flatnonzero(c.table() == c.NEWLINE).tolist() == [10, 13]


def test_version_is_that_of_the_table():
    """Unicode 17 assigned CJK Extension J, U+323B0 to U+33479 (Python's own database ends before)."""
    assert c.UNICODE_VERSION == "18.0.0"
    assert set(c.table()[0x323B0:0x3347A]) == {c.LETTER}


def test_equals_the_regex_module_of_the_same_unicode():
    if regex.__version__ != c.REGEX_VERSION and re.sub(r"\D", "", regex.__version__) < re.sub(r"\D", "", c.REGEX_VERSION):
        pytest.skip(f"regex {regex.__version__} has an older Unicode")
    ours, theirs = c.table(), c.from_regex()
    changed = np.flatnonzero(ours != theirs)
    if regex.__version__ == c.REGEX_VERSION:
        assert changed.size == 0
    else:
        assert (ours[changed] == c.OTHER).all()      # a newer one may only have assigned more


def test_freezing_and_reading_is_an_identity(tmp_path, monkeypatch):
    classes = np.random.default_rng(0).integers(0, 8, 0x1100).astype(np.uint8).repeat(256)
    c.freeze(classes, tmp_path / "table.bin")
    monkeypatch.setattr(c, "_FILE", tmp_path / "table.bin")
    assert np.array_equal(c.table.__wrapped__(), classes)
