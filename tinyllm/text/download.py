"""Fetch a text of the catalogue: over HTTPS, with a progress line, resumed where it broke off, and verified.

What has arrived lies in `NAME.part` beside the place where the text will be. A second call asks the server for
the rest (`Range`), on the condition that the file there is still the same one (`If-Range` with the validator of
the first answer, kept in `NAME.part.tag`); a server that cannot do that sends everything and the download begins
anew. Only a text that is complete, has the known checksum and opens with the expected words takes its name, in one
step, so a half file is never taken for a text.
"""

import gzip
import hashlib
import http.client
import json
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tinyllm import atomic
from tinyllm.errors import WorkError
from tinyllm.text import corpora

BLOCK = 1 << 16
TIMEOUT = 30  # seconds without a byte
ATTEMPTS = 3  # a dropped connection is taken up again so often within one call


class _Dropped(Exception):
    """The connection broke; what has come so far is kept."""


class _StayOnHttps(urllib.request.HTTPRedirectHandler):
    """Refuse to be sent from HTTPS to anything else."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.URLError(f"redirected to {newurl}, which is not HTTPS")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def get(name, directory=None, *, force=False, report=None):
    """Fetch the text `name` of the catalogue into `directory` (`corpora.data_directory()` where None).

    A text that is there already is left alone unless `force`. `report(done, total, seconds)` is called as bytes
    arrive (total is None where the server does not say); None prints a progress line to standard error. Returns
    the path. Raises UserError for an unknown name, WorkError, in one line, where the download fails; that line
    says where a file may be put by hand.
    """
    corpus = corpora.corpus(name)
    path = Path(directory or corpora.data_directory()) / corpus.files[0]
    if path.is_file() and not force:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkError(f"cannot make the directory {path.parent}: {error.strerror or error}") from error
    if corpus.url is None:
        atomic.write_bytes(path, corpora.generate(name).encode())
        return path
    part = path.with_name(path.name + ".part")
    try:
        download(corpus.url, part, report or _progress_line(name))
        _verify(corpus, part)
        _store(corpus, part, path)
    except WorkError as error:
        raise WorkError(f"{name}: {error}; or fetch {corpus.url} by hand and put it at {path}") from error
    except OSError as error:
        raise WorkError(f"{name}: cannot write {part}: {error.strerror or error}") from error
    return path


def download(url, part, report):
    """Bring the file at `url` to the path `part`, going on from what `part` holds. WorkError where it fails."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _transfer(url, part, report)
        except _Dropped as dropped:
            if attempt == ATTEMPTS:
                raise WorkError(f"{dropped}; try the same command again") from dropped


def _transfer(url, part, report):
    tag_file = part.with_name(part.name + ".tag")
    have = part.stat().st_size if part.is_file() and tag_file.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "tinyllm", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag_file.read_text())
    try:
        answer = urllib.request.build_opener(_StayOnHttps).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
            return  # nothing is left to send: the file was complete
        raise WorkError(f"{request.host} answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise WorkError(f"{request.host} cannot be reached ({getattr(error, 'reason', None) or error})") from error
    with answer as response:
        start, total = _extent(response)
        tag = _validator(response.headers)
        if start and (start != have or tag != tag_file.read_text()):
            tag_file.unlink()  # what is here is not trusted any more: the next attempt begins anew
            raise _Dropped("the server sent another part than the one asked for")
        have = start
        if tag:
            tag_file.write_text(tag)
        else:
            tag_file.unlink(missing_ok=True)
        begun = time.monotonic()
        with open(part, "r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            while True:
                try:
                    block = response.read(BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    raise _Dropped(f"the connection broke after {have:,} bytes ({error})") from error
                if not block:
                    break
                file.write(block)
                have += len(block)
                report(have, total, time.monotonic() - begun)
    if total is not None and have < total:
        raise _Dropped(f"the connection closed after {have:,} of {total:,} bytes")
    report(have, have, time.monotonic() - begun)


def _validator(headers):
    """What says that a file is still the same, byte for byte; None where the server does not say."""
    tag = headers.get("ETag", "W/")
    return headers.get("Last-Modified") if tag.startswith("W/") else tag  # weak tags allow other bytes


def _extent(response):
    """Where the answer's bytes begin in the file, and the size of the whole file (None where unknown)."""
    if response.status == 206:
        match = re.match(r"bytes (\d+)-\d+/(\d+|\*)$", response.headers.get("Content-Range", ""))
        if match:
            return int(match[1]), int(match[2]) if match[2] != "*" else None
        raise WorkError("the server sent a part without saying which")
    length = response.headers.get("Content-Length")
    return 0, int(length) if length else None


def _verify(corpus, part):
    """Compare the checksum where one is known; a file that fails is removed, or it would be resumed for ever."""
    if corpus.sha256 is None:
        return
    sha = hashlib.sha256()
    with open(part, "rb") as file:
        while block := file.read(BLOCK):
            sha.update(block)
    digest = sha.hexdigest()
    if digest != corpus.sha256:
        _discard(part)
        raise WorkError(f"the checksum is wrong (sha256 {digest[:16]}…, expected {corpus.sha256[:16]}…), the download was removed; try again")


def _store(corpus, part, path):
    """Give a complete download its name: cleaned where it is a book, as it is where it holds rows."""
    if corpus.field is not None:
        try:
            with gzip.open(part, "rt", encoding="utf-8") as rows:
                good = corpus.field in json.loads(rows.readline(1 << 24))
        except (OSError, EOFError, ValueError, TypeError, RecursionError):
            good = False
        if good:
            _discard(part, keep=path)
            return
    else:
        try:
            text = corpus.cleaned(part.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError:
            text = None
        if text is not None:
            atomic.write_bytes(path, text.encode())
            _discard(part)
            return
    _discard(part)
    raise WorkError(f"what came is not {corpus.title}, it was removed; the server may have sent an error page")


def _discard(part, keep=None):
    """Remove a download and its tag; `keep` gives the download that name instead."""
    if keep is not None:
        part.replace(keep)
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".tag").unlink(missing_ok=True)


def _progress_line(name):
    """A report that rewrites one line on a terminal, and prints the end alone elsewhere."""
    live = sys.stderr.isatty()
    shown = [0.0]

    def report(done, total, seconds):
        finished = done == total
        if not finished and (not live or seconds - shown[0] < 0.1):
            return
        shown[0] = seconds
        share = f" of {total / 1e6:.1f} MB ({done / total:.0%})" if total else " MB"
        left = f", {(total - done) * seconds / done:.0f} s left" if total and not finished and done else ""
        line = f"{name}: {done / 1e6:.1f}{share}, {done / max(seconds, 1e-9) / 1e6:.1f} MB/s{left}"
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{line[:width]:<{width}}" if live else line, end="\n" if finished or not live else "", file=sys.stderr, flush=True)
    return report

