"""Downloads, against a server on this machine that can resume, break off, lie, and send the wrong thing."""

import gzip
import hashlib
import http.server
import json
import socket
import threading

import pytest

from tinyllm.errors import UserError, WorkError
from tinyllm.text import CATALOGUE, corpora, download, get

BOOK = ("header\n*** START OF THE PROJECT GUTENBERG EBOOK TEST ***\n\n" + "It was a fine morning. " * 20_000
        + "\n\n*** END OF THE PROJECT GUTENBERG EBOOK TEST ***\nlicence\n").encode()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; the switches say how it misbehaves."""

    content, ranges, tag, breaks, status, careless = BOOK, True, '"v1"', [], 200, False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/book.txt"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        start, content = 0, server.content
        if wanted and server.ranges and (self.headers.get("If-Range") == server.tag or server.careless):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[:server.breaks.pop(0)] if server.breaks else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        server.breaks = []
        yield server
        server.shutdown()


@pytest.fixture
def listed(server, monkeypatch, tmp_path):
    """Put a corpus on that server into the catalogue; returns a function that changes its entry."""
    monkeypatch.setenv("TINYLLM_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def change(**facts):
        facts = {"url": server.url, "begin": "it was a fine", **facts}
        entry = corpora.Corpus("test", "A Test", "1 kB", "here", "none", ("test.txt",), **facts)
        monkeypatch.setitem(CATALOGUE, "test", entry)
    change()
    return change


def quiet(done, total, seconds):
    pass


def files(path):
    return sorted(file.name for file in path.parent.iterdir())


def test_a_text_is_fetched_verified_and_stripped(server, listed, tmp_path):
    listed(sha256=hashlib.sha256(BOOK).hexdigest())
    seen = []
    path = get("test", report=lambda *numbers: seen.append(numbers))
    assert path == tmp_path / "data" / "test.txt" == corpora.find("test")
    assert path.read_text() == "It was a fine morning. " * 19_999 + "It was a fine morning.\n"
    assert files(path) == ["test.txt"]
    assert seen[-1][:2] == (len(BOOK), len(BOOK)) and [done for done, *_ in seen] == sorted(done for done, *_ in seen)


def test_what_is_there_is_left_alone_unless_forced(server, listed):
    path = get("test", report=quiet)
    path.write_text("changed")
    assert get("test", report=quiet).read_text() == "changed" and len(server.asked) == 1
    assert get("test", report=quiet, force=True).read_text().startswith("It was")


def test_a_broken_connection_is_resumed_within_the_call(server, listed):
    server.breaks = [100_000, 50_000]
    path = get("test", report=quiet)
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]
    assert path.read_text().startswith("It was") and files(path) == ["test.txt"]


def test_a_download_that_failed_goes_on_in_the_next_call(server, listed, tmp_path):
    server.breaks = [70_000, 10, 10]
    with pytest.raises(WorkError, match="closed after 70,020 of .* bytes; try the same command again"):
        get("test", report=quiet)
    assert not (tmp_path / "data" / "test.txt").exists()
    assert (tmp_path / "data" / "test.txt.part").read_bytes() == BOOK[:70_020]
    path = get("test", report=quiet)
    assert server.asked[-1] == "bytes=70020-" and files(path) == ["test.txt"]


@pytest.mark.parametrize("ranges, tag, careless", [
    (False, '"v1"', False), (True, '"v2"', False), (True, '"v2"', True), (True, None, False), (True, 'W/"v1"', False)])
def test_nothing_old_is_kept_where_the_server_cannot_resume(server, listed, ranges, tag, careless):
    """No ranges, a changed file (also from a server that does not look at If-Range), no or a weak validator."""
    server.breaks = [70_000, 0, 0]
    with pytest.raises(WorkError):
        get("test", report=quiet)
    server.ranges, server.tag, server.careless, server.content = ranges, tag, careless, BOOK.replace(b"fine", b"dull")
    listed(begin="it was a dull")
    assert set(get("test", report=quiet).read_text().split()) == set("It was a dull morning.".split())


def test_a_complete_part_is_not_fetched_again(server, listed, tmp_path):
    part = tmp_path / "data" / "test.txt.part"
    part.parent.mkdir()
    part.write_bytes(BOOK)
    part.with_name("test.txt.part.tag").write_text('"v1"')
    assert get("test", report=quiet).read_text().startswith("It was")
    assert server.asked == [f"bytes={len(BOOK)}-"]


def test_a_part_without_a_tag_is_not_trusted(server, listed, tmp_path):
    part = tmp_path / "data" / "test.txt.part"
    part.parent.mkdir()
    part.write_bytes(b"something else")
    get("test", report=quiet)
    assert server.asked == [None]


def test_a_wrong_checksum_removes_the_download(server, listed, tmp_path):
    listed(sha256="0" * 64)
    with pytest.raises(WorkError, match="checksum is wrong.*put it at .*test.txt") as caught:
        get("test", report=quiet)
    assert "\n" not in str(caught.value) and list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", b"\xff\xfe\x00", b""])
def test_another_text_is_not_stored(server, listed, tmp_path, content):
    server.content = content
    with pytest.raises(WorkError, match="what came is not A Test"):
        get("test", report=quiet)
    assert list((tmp_path / "data").iterdir()) == []


def test_an_old_text_survives_a_failure(server, listed):
    path = get("test", report=quiet)
    old = path.read_bytes()
    server.content = b"rubbish"
    with pytest.raises(WorkError):
        get("test", report=quiet, force=True)
    assert path.read_bytes() == old and files(path) == ["test.txt"]


def test_rows_are_stored_as_they_are(server, listed):
    server.content = gzip.compress(b"".join(json.dumps({"s": f"line {n}", "gid": "19"}).encode() + b"\n" for n in range(100)))
    listed(begin=None, field="s")
    assert get("test", report=quiet).read_bytes() == server.content
    server.content = gzip.compress(b'{"other": 1}\n')
    with pytest.raises(WorkError, match="not A Test"):
        get("test", report=quiet, force=True)


def test_an_error_of_the_server_is_told(server, listed):
    server.status = 404
    with pytest.raises(WorkError, match="127.0.0.1.* answered 404.*by hand and put it at"):
        get("test", report=quiet)


def test_no_network_is_told_in_one_line(listed, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        listed(url=f"http://127.0.0.1:{closed.getsockname()[1]}/x")
        with pytest.raises(WorkError, match="cannot be reached.*by hand and put it at") as caught:
            get("test", report=quiet)
    assert "\n" not in str(caught.value) and str(tmp_path / "data" / "test.txt") in str(caught.value)


def test_a_place_that_cannot_be_written_is_told(listed, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkError, match="cannot make the directory"):
        get("test", tmp_path / "file" / "data", report=quiet)


def test_https_is_not_left():
    handler, request = download._StayOnHttps(), download.urllib.request.Request("https://example.org/a")
    with pytest.raises(download.urllib.error.URLError, match="not HTTPS"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://example.org/a")
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://example.org/b").full_url.endswith("/b")
    assert all(corpus.url is None or corpus.url.startswith("https://") for corpus in CATALOGUE.values())


def test_the_progress_line(listed, capsys):
    get("test")
    assert capsys.readouterr().err.startswith(f"test: {len(BOOK) / 1e6:.1f} of {len(BOOK) / 1e6:.1f} MB (100%)")


def test_tales_are_written_and_unknown_names_refused(tmp_path):
    assert get("tales", tmp_path).read_text() == corpora.tales.corpus()
    with pytest.raises(UserError, match="not in the catalogue; there are: tales, the-verdict"):
        get("moby-dick", tmp_path)
