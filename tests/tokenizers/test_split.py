"""Patterns: their pieces on examples worked by hand, and the ones that cannot be used."""

import pytest

from tinyllm.tokenizers import BPETokenizer, TokenizerError
from tinyllm.tokenizers.split import PATTERNS, pattern_name, pattern_text, pieces


def test_what_each_pattern_does_differently():
    text = "I'LL pay\n\n  $1234 nowHere!\n"
    assert pieces(text, "gpt2") == ["I", "'", "LL", " pay", "\n\n ", " $", "1234", " nowHere", "!", "\n"]
    assert pieces(text, "cl100k") == ["I", "'LL", " pay", "\n\n", " ", " $", "123", "4", " nowHere", "!\n"]
    assert pieces(text, "llama3") == pieces(text, "cl100k")
    assert pieces(text, "nanochat") == ["I", "'LL", " pay", "\n\n", " ", " $", "12", "34", " nowHere", "!\n"]
    assert pieces(text, "o200k") == ["I'LL", " pay", "\n\n", " ", " $", "123", "4", " now", "Here", "!\n"]


@pytest.mark.parametrize("pattern", [*PATTERNS, None])
def test_pieces_join_to_the_text(pattern):
    text = "A\u0301 line,\r\nanother\t\tone …  ½ 日本 'S '\u017f  \n \n end  "
    assert "".join(pieces(text, pattern)) == text


def test_names_stand_for_expressions():
    for name, text in PATTERNS.items():
        assert pattern_text(name) == text and pattern_name(text) == name
    assert pattern_text(r"\w+|\W+") == r"\w+|\W+" and pattern_text(None) is None


def test_a_pattern_with_groups_still_gives_whole_pieces():
    assert pieces("ab1", r"([a-z])+|(\d)") == ["ab", "1"]


@pytest.mark.parametrize("pattern, told", [
    (r"\w+", "leaves out ' ' at character 3"),
    (r"\S+\s|(", "neither a regular expression"),
    ("gpt3", "leaves out 'the end' at character 0"),
])
def test_patterns_that_cannot_be_used(pattern, told):
    with pytest.raises(TokenizerError, match=told):
        pieces("the end", pattern)


def test_a_pattern_that_backtracks_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr("tinyllm.tokenizers.split.SECONDS", 0.2)
    with pytest.raises(TokenizerError, match="backtracks without end"):
        pieces("a" * 60, r"(a|aa)+\d|[^\d]")
    with pytest.raises(TokenizerError, match="backtracks without end"):
        BPETokenizer([], pattern=r"(a|aa)+\d|[^\d]").encode("a" * 60)
