"""Reading files, gzip, NDJSON and standard input; what is wrong is said in one line."""

import gzip
import io
import json
import sys
import tracemalloc

import pytest

from tinyllm import text
from tinyllm.errors import UserError
from tinyllm.text import reading


@pytest.fixture(autouse=True)
def no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYLLM_DATA", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)


def make(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def fails(sources, *words, field=None):
    with pytest.raises(UserError) as caught:
        text.read(sources, field)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message
    return message


def test_plain_text_is_what_the_file_holds(tmp_path):
    content = "naïve\r\nline\n\n\ttab “quotes” 🙂 no end"
    assert text.read(make(tmp_path / "a.txt", content)) == content
    assert text.read(make(tmp_path / "b.txt", "\ufeffwith a mark")) == "with a mark"


def test_several_files_are_parted_by_a_blank_line(tmp_path):
    a, b, c = make(tmp_path / "a", "one"), make(tmp_path / "b", "two\n"), make(tmp_path / "c", "three\n\n")
    assert text.read([a, b, c, a]) == "one\n\ntwo\n\nthree\n\none"


def test_gzip_and_standard_input(tmp_path, monkeypatch):
    packed = make(tmp_path / "a.txt.gz", gzip.compress("zipped ü".encode()))
    assert text.read(packed) == "zipped ü"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("piped ü".encode())))
    assert text.read(["-"]) == "piped ü"


def test_ndjson(tmp_path, monkeypatch):
    rows = "".join(json.dumps({"s": line, "gid": 1}) + "\n" for line in ("first", "second\nhalf", "third")) + "\n"
    for path in (make(tmp_path / "r.ndjson", rows), make(tmp_path / "r.jsonl.gz", gzip.compress(rows.encode()))):
        assert text.read(path, field="s") == "first\nsecond\nhalf\nthird\n"
        assert list(text.documents(path, field="s")) == ["first", "second\nhalf", "third"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(rows.encode())))
    assert text.read("-", field="s") == "first\nsecond\nhalf\nthird\n"


@pytest.mark.parametrize("row, words", [
    ('{"s": "x"', ["line 2", "not JSON"]),
    ("[1]", ["line 2", "list", "object"]),
    ('{"t": "x"}', ["line 2", "no field 's'", "t"]),
    ('{"s": 5}', ["line 2", "'s'", "int"]),
    ('{"s": "half \\ud83d"}', ["line 2", "surrogate"]),
    ("[" * 100_000, ["line 2", "not JSON"]),
])
def test_bad_rows_are_named_by_line(tmp_path, row, words):
    path = make(tmp_path / "rows.ndjson", '{"s": "fine"}\n' + row + "\n")
    fails(path, path, *words, field="s")


def test_a_missing_field_name_lists_the_fields(tmp_path):
    fails(make(tmp_path / "rows.ndjson", '{"s": "x", "gid": 3}\n'), "s, gid")


def test_utf8_errors_name_file_and_byte(tmp_path):
    path = make(tmp_path / "latin.txt", b"caf\xe9 au lait")
    fails(path, path, "offset 3", "0xe9")
    fails(make(tmp_path / "cut.txt", "abc€".encode()[:-1]), "offset 3")


@pytest.mark.parametrize("before", [reading.BLOCK - 1, reading.BLOCK - 2, reading.BLOCK, 2 * reading.BLOCK + 7])
def test_offsets_hold_across_blocks(tmp_path, before):
    """A character that straddles two blocks is whole; a wrong byte behind it is counted from the start."""
    good = b"a" * before + "€".encode()
    assert text.read(make(tmp_path / "good.txt", good)) == good.decode()
    fails(make(tmp_path / "bad.txt", good + b"b\xff"), f"offset {before + 4}:")
    fails(make(tmp_path / "bad.txt", b"a" * before + b"\xe2\x82b"), f"offset {before}:")
    fails(make(tmp_path / "bad.txt.gz", gzip.compress(good + b"b\xff", 1)), f"after decompression) {before + 4}:")


def test_what_cannot_be_read(tmp_path):
    fails(tmp_path / "nowhere.txt", "nowhere.txt", "no such file", "tales")
    fails(make(tmp_path / "empty.txt", b""), "empty.txt", "is empty")
    fails(make(tmp_path / "empty.gz", gzip.compress(b"")), "is empty")
    fails(make(tmp_path / "fake.gz", b"plain"), "fake.gz", "gzip")
    fails(make(tmp_path / "short.gz", gzip.compress(b"x" * 9999)[:-9]), "cut short")
    fails(tmp_path, "cannot be read")
    fails([], "no text was named")
    fails("pride-and-prejudice", "tinyllm data get pride-and-prejudice")
    with pytest.raises(UserError, match="is empty"):
        list(text.documents(make(tmp_path / "blank.txt", "\n \n\n")))


def test_a_gzip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "FREE_SIZE", 1 << 16)
    fails(make(tmp_path / "bomb.gz", gzip.compress(b"0" * (1 << 25))), "bomb.gz", "100-fold")
    honest = "".join(f"line {n * n}\n" for n in range(50_000))
    assert text.read(make(tmp_path / "honest.gz", gzip.compress(honest.encode()))) == honest


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_LINE", 1 << 20)
    with pytest.raises(UserError, match="a line of more than"):
        list(text.documents(make(tmp_path / "long.txt", b"x" * (1 << 23))))


def test_documents_stand_between_blank_lines(tmp_path):
    path = make(tmp_path / "d.txt", "\n\na\nb\n\n  \nc\r\n\r\nd")
    assert list(text.documents(path)) == ["a\nb", "c", "d"]
    assert list(text.documents([path, path])) == ["a\nb", "c", "d"] * 2


def test_lines_do_not_depend_on_blocks(tmp_path, monkeypatch):
    content = "one\n\ntwo\nthree\n\n\nfour\n\n" * 50 + "end"
    path = make(tmp_path / "d.txt", content)
    for size in (1, 2, 3, 7, 64):
        monkeypatch.setattr(reading, "BLOCK", size)
        assert "".join(reading.Source(path).lines()) == content
        assert list(reading.Source(path).lines()) == content.splitlines(keepends=True)
        assert "".join(text.pieces(path)) == content


def test_pieces_end_between_a_letter_and_a_line_break(tmp_path):
    content = "".join(f"Line {n} ends in a word\nand this one does not.\n\n" for n in range(60_000))
    found = list(text.pieces(make(tmp_path / "long.txt", content)))
    assert "".join(found) == content and len(found) > 2
    assert all(a[-1].isalpha() and b[0] == "\n" for a, b in zip(found, found[1:]))
    assert max(map(len, found)) < 3 * reading.BLOCK


def test_the_tales_need_no_file():
    assert text.read("tales") == text.tales.corpus()


def test_a_file_goes_before_a_name_of_the_catalogue(tmp_path):
    make(tmp_path / "tales", "my own")
    assert text.read("tales") == "my own"


def test_a_row_without_end_is_refused_before_it_takes_memory(tmp_path):
    bomb = make(tmp_path / "bomb.ndjson.gz", gzip.compress(b'{"text": "' + b"0" * (1 << 25)))
    tracemalloc.start()
    with pytest.raises(UserError, match="a line of more than 16 MB"):
        list(text.documents(bomb, "text"))
    assert tracemalloc.get_traced_memory()[1] < 4 * bomb.stat().st_size + (64 << 20)
    tracemalloc.stop()


def test_a_row_of_empty_lists_is_refused_before_it_takes_memory(tmp_path):
    path = make(tmp_path / "lists.ndjson", b'{"text": [' + b"[]," * 2_000_000 + b"0]}\n")
    tracemalloc.start()
    with pytest.raises(UserError, match="line 1 is refused: .* out of proportion"):
        list(text.documents(path, "text"))
    assert tracemalloc.get_traced_memory()[1] < 4 * path.stat().st_size + (64 << 20)
    tracemalloc.stop()
