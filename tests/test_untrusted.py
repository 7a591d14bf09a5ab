"""Files from strangers: what is refused before it costs anything, and that nothing outside a directory is read."""

import os
import tracemalloc

import pytest

from tinyllm import tokenizers
from tinyllm.errors import UserError
from tinyllm.tokenizers import TokenizerError
from tinyllm.tokenizers.split import check_pattern, pieces
from tinyllm.untrusted import DEPTH, inside, parse_json, read_bytes, read_json, shown


class Refused(UserError):
    """A reader's own error."""


@pytest.mark.parametrize("text, message", [
    ("{", "is not JSON"), (b"\xff", "is not JSON"), ('{"a": 1, "a": 1}', "'a' is given twice"), ("[" * 100_000, "nested too deeply"),
    ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), "nested too deeply"), ("9" * 5000, "is not JSON"), ("[" + "[]," * 2_000_000 + "0]", "out of proportion")])
def test_json_that_is_refused(text, message):
    with pytest.raises(Refused, match=message):
        parse_json(text, "the text", Refused)


def test_json_as_deep_as_the_limit_is_read():
    assert parse_json("[" * DEPTH + "]" * DEPTH, "the text", Refused)
    assert parse_json('{"a": [NaN, 1e999, "[[[["]}', "the text", Refused)["a"][2] == "[[[["


def test_json_takes_no_more_than_four_times_its_size_and_64_megabytes():
    for part in ("[],", "{},", "0,", "12345,", '"ab",', "1.5,"):
        text = "[" + part * (6_000_000 // len(part)) + "0]"
        tracemalloc.start()
        try:
            parse_json(text, "the text", Refused)
        except Refused:
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * len(text) + (64 << 20), part


def test_the_size_is_looked_at_before_the_file_is_read(tmp_path):
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(1 << 40)          # a terabyte that takes no room
    tracemalloc.start()
    with pytest.raises(Refused, match="larger than 64 MB"):
        read_bytes(tmp_path / "hole", Refused)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")
def test_a_pipe_and_a_device_have_no_end_and_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(Refused, match="cannot read"):
            read_json(path, Refused)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "..", "", "a/b", "a\0b", "a" * 300, 3, None])
def test_names_that_are_paths_are_refused(tmp_path, name):
    with pytest.raises(Refused, match="is not the name of a file in this directory"):
        inside(tmp_path, name, Refused)


def test_links_may_lead_around_in_a_directory_and_not_out_of_it(tmp_path):
    home = tmp_path / "home"
    (home / "below").mkdir(parents=True)
    for target in (home / "file", home / "below" / "file", tmp_path / "file"):
        target.write_text("x")
    (home / "one").symlink_to("file")
    (home / "two").symlink_to(home / "below" / "file")
    (home / "out").symlink_to("../file")
    (home / "chain").symlink_to("out")
    (home / "loop").symlink_to("loop")
    for name in ("file", "one", "two", "loop", "absent"):
        assert inside(home, name, Refused) == home / name
    for name in ("out", "chain"):
        with pytest.raises(Refused, match="links that lead out of it are not followed"):
            inside(home, name, Refused)


def test_the_links_of_the_hubs_cache_are_known(tmp_path):
    snapshot = tmp_path / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "deadbeef").write_text("{}")
    (tmp_path / "secret").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/deadbeef")
    (snapshot / "other").symlink_to("../../secret")
    assert read_json(inside(snapshot, "config.json", Refused), Refused) == {}
    with pytest.raises(Refused, match="lead out"):
        inside(snapshot, "other", Refused)


def test_a_tokenizer_that_is_a_link_out_of_its_directory_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "elsewhere.json").write_text("{}")
    (tmp_path / "model" / "tokenizer.json").symlink_to("../elsewhere.json")
    with pytest.raises(TokenizerError, match="lead out"):
        tokenizers.load(tmp_path / "model")


@pytest.mark.parametrize("pattern", ["(?:(?:a?){9000}){9000}", "(?R)", "(?1)(a)", "(?&x)(?P<x>a)", "a{e<=3}", "(" * 2000 + ")" * 2000, "a{99999999999999}",
                                     "(?:(?:(?:a{20}){20}){20})", "(?x)(?:a{ 9000 })"])
def test_patterns_that_compile_without_end_are_refused(pattern):
    with pytest.raises(TokenizerError, match="not taken|neither a regular expression"):
        check_pattern(pattern)


def test_a_pattern_that_backtracks_is_given_up():
    with pytest.raises(TokenizerError, match="backtracks without end"):
        pieces("a" * 60 + "!", r"(?:a|a|a)*b|(?:(?:a+)+)+c|[\s\S]")


def test_what_a_file_holds_is_shown_in_few_characters():
    deep = []
    for _ in range(5000):
        deep = [deep]
    for value in (deep, "x" * 10**6, {"a": "b" * 10**6}, 10**4000, b"x" * 10**6, list(range(10**6)), "\ud800\x1b"):
        assert len(shown(value)) < 400 and shown(value).isprintable()
