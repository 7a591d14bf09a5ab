"""What is stripped from a Gutenberg text, on small texts made here and on the real ones where they are at hand."""

import os
import pathlib

import pytest

from tinyllm.text import strip_gutenberg
from tinyllm.text.cleaning import between
from tinyllm.text.corpora import CATALOGUE

DATA = os.environ.get("TINYLLM_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="TINYLLM_DATA does not name a directory with the real texts")

PLAIN = """\ufeffThe Project Gutenberg eBook of A Book\r
This ebook is for the use of anyone anywhere in the United States. You may copy it under the terms online\r
at www.gutenberg.org.\r
\r
*** START OF THE PROJECT GUTENBERG EBOOK A BOOK ***\r
\r
[Illustration:\r
\r
Chapter I.\r
\r
[_Copyright 1894 by A. N. Other._]]\r
\r
It began\r
\r
[Illustration]\r
\r
and went on.\r
\r
*** END OF THE PROJECT GUTENBERG EBOOK A BOOK ***\r
\r
Section 1. General Terms of Use\r
"""


def test_header_licence_and_illustrations_go():
    cleaned = strip_gutenberg(PLAIN)
    assert cleaned.split() == ["It", "began", "and", "went", "on."]
    assert cleaned.startswith("It began\n\n") and cleaned.endswith("went on.\n")


@pytest.mark.parametrize("start, end", [
    ("***START OF THE PROJECT GUTENBERG EBOOK X***", "***END OF THE PROJECT GUTENBERG EBOOK X***"),
    ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "End of the Project Gutenberg's X"),
    ("*** START OF THIS PROJECT GUTENBERG EBOOK A TITLE THAT\nRUNS ON ***", "End of Project Gutenberg's X, by Y"),
])
def test_the_markers_of_older_files(start, end):
    assert strip_gutenberg(f"header\n{start}\nthe book\n{end}\nlicence\n") == "the book\n"


def test_captions_between_lines():
    text = ("“Last words of prose.”\n“A caption over\ntwo lines.”\n[Copyright 1894 by George Allen.]\nmore prose\n"
            "The Project Gutenberg eBook of X, by Y.\n“A caption”\n[Copyright 1894 by George Allen.]\nthe end\n")
    assert strip_gutenberg(text) == "“Last words of prose.”\nmore prose\nthe end\n"


def test_a_text_without_wrapping_is_left_alone():
    for text in ("plain words, no line end", "a\n\n\n\n\nb\n", "He said [aside] that Project Gutenberg is a library.\n"):
        assert strip_gutenberg(text) == text


def test_between():
    text = "Contents: BEYOND\npreface A Green parrot sang.\nBEYOND THE BAYOU\nmore"
    assert between(text, "a green parrot", "^BEYOND THE BAYOU$") == "A Green parrot sang.\n"
    assert between(text, "no such words") is None
    assert between(text) == text


@needs_data
def test_pride_and_prejudice():
    """The study's figures: 15 repeated title lines, the licence from character 686,145 on, 22 copyright notices."""
    raw = (pathlib.Path(DATA) / "pride_and_prejudice.txt").read_text(encoding="utf-8")
    assert raw.count("The Project Gutenberg eBook of") == 15
    assert raw.rindex("The Project Gutenberg eBook of") == 686145 and raw.count("[Copyright 1894") == 22
    cleaned = CATALOGUE["pride-and-prejudice"].cleaned(raw)
    assert "Gutenberg" not in cleaned and "Copyright" not in cleaned and "CHISWICK" not in cleaned
    assert cleaned.startswith("Chapter I.\nIT is a truth") and cleaned.endswith("the means of uniting them.\n")
    kept, lines = set(cleaned.splitlines()), raw[:686145].splitlines()
    lost = [line for line in lines if line not in kept]
    assert len(lost) < 80 and max(map(len, lost)) < 70  # captions, notices and title lines, never a paragraph
    assert strip_gutenberg(cleaned) == cleaned


@needs_data
def test_the_awakening_extract():
    raw = (pathlib.Path(DATA) / "the-awakening-extract.txt").read_text(encoding="utf-8")
    cleaned = CATALOGUE["the-awakening"].cleaned(raw)
    assert cleaned.startswith("A green and yellow parrot") and "Gutenberg" not in cleaned
    assert cleaned.rstrip("\n") == raw[raw.index("A green and yellow parrot"):].rstrip("\n")


@needs_data
def test_the_verdict_stays_as_it_is():
    raw = (pathlib.Path(DATA) / "the-verdict.txt").read_text(encoding="utf-8")
    assert len(raw) == 20479 and CATALOGUE["the-verdict"].cleaned(raw) == raw
