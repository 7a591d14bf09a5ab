"""Read text to train on: files, several files, names of the catalogue, standard input, gzip, NDJSON.

A *source* is a path, a name of the catalogue (`tinyllm data list`), or `-` for standard input. A name that ends
in `.gz` is decompressed on the way. `.ndjson` and `.jsonl` hold one JSON object a line, of which `field` is the
text. Everything else is plain text.

    read(sources)         the whole text as one string
    documents(sources)    one document after the other: a paragraph group between blank lines, or a row of NDJSON
    pieces(sources)       the text of `read`, about a megabyte at a time, for files larger than memory

Bytes are decoded as UTF-8 and nothing else is changed (a byte order mark at the start is dropped, and the texts
of the catalogue lose their Gutenberg wrapping). Errors name the file and the place, in one line.

Decompression is bounded: from 64 MiB on, a file that has grown more than a hundredfold is refused, as is any
line that takes more than 256 MiB of memory, or 16 MiB where it is one of NDJSON.
"""

import codecs
import gzip
import io
import itertools
import os
import sys
import zlib
from pathlib import Path

from tinyllm.errors import UserError
from tinyllm.text import corpora
from tinyllm.untrusted import parse_json, shown

BLOCK = 1 << 20
FREE_SIZE = 64 << 20  # what may come out of a gzip file before its growth is looked at
MAX_GROWTH = 100      # English text grows about threefold, gzip can grow a thousandfold
MAX_LINE = 256 << 20  # bytes in memory of a line of text: some have a whole corpus on one
MAX_ROW = 16 << 20    # of a row of NDJSON: a long book


class Source:
    """One place to read from: its label for messages, its kind, and its bytes."""

    def __init__(self, name, field=None):
        name = os.fspath(name)
        self.corpus = corpora.CATALOGUE.get(name) if not Path(name).is_file() else None
        self.text = None
        self.path = None if name == "-" else Path(name)
        if self.corpus is not None:
            self.path = corpora.find(name)
            if self.path is None:
                self.text = corpora.generate(name)
                if self.text is None:
                    raise corpora.missing(name)
            field = field or self.corpus.field
        self.label = "standard input" if name == "-" else name if self.path is None else str(self.path)
        stem = name if self.path is None else self.path.name
        self.gzipped = stem.endswith(".gz")
        self.rows = stem.removesuffix(".gz").endswith((".ndjson", ".jsonl")) or (name == "-" and field is not None)
        self.field = field

    def blocks(self):
        """The bytes, block by block, decompressed; UserError where they cannot be read."""
        try:
            if self.path is None:
                yield from _file_blocks(sys.stdin.buffer)
                return
            with open(self.path, "rb") as file:
                yield from self._decompressed(file) if self.gzipped else _file_blocks(file)
        except FileNotFoundError as error:
            raise UserError(f"{self.label}: there is no such file, and no text of the catalogue has this name "
                            f"({', '.join(corpora.CATALOGUE)})") from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{self.label}: the gzip data is damaged or cut short ({error})") from error
        except OSError as error:
            raise UserError(f"{self.label}: cannot be read: {error.strerror or error}") from error

    def _decompressed(self, file):
        size = 0
        with gzip.GzipFile(fileobj=file) as unpacked:
            for block in _file_blocks(unpacked):
                size += len(block)
                if size > FREE_SIZE and size > MAX_GROWTH * file.tell():
                    raise UserError(f"{self.label}: {file.tell():,} compressed bytes grow to more than {size:,}; growth "
                                    f"beyond {MAX_GROWTH}-fold is refused. Decompress the file by hand if it is meant so")
                yield block

    def strings(self):
        """The text, piece by piece; UserError names the byte where it is not UTF-8."""
        if self.text is not None:
            yield self.text
            return
        decoder = codecs.getincrementaldecoder("utf-8")()
        offset, first = 0, True
        for block in self.blocks():
            piece = self._decode(decoder, block, offset, final=False)
            offset += len(block)
            if first and piece:
                piece, first = piece.removeprefix("\ufeff"), False
            if piece:
                yield piece
        self._decode(decoder, b"", offset, final=True)

    def _decode(self, decoder, block, offset, final):
        pending = len(decoder.getstate()[0])
        try:
            return decoder.decode(block, final)
        except UnicodeDecodeError as error:
            at = offset - pending + error.start
            where = "byte offset (after decompression)" if self.gzipped else "byte offset"
            raise UserError(f"{self.label}: not UTF-8 at {where} {at}: 0x{error.object[error.start]:02x}, "
                            f"{error.reason}; convert the file to UTF-8") from error

    def lines(self):
        """The lines with their line ends."""
        rest, most = [], MAX_ROW if self.rows else MAX_LINE
        for piece in self.strings():
            head, newline, tail = piece.partition("\n")
            if not newline:
                rest.append(piece)
                if sum(map(sys.getsizeof, rest)) > most:
                    raise UserError(f"{self.label}: a line of more than {most >> 20} MB in memory; is this {'JSON, one object a line' if self.rows else 'text'}?")
                continue
            yield "".join(rest) + head + newline
            complete, _, last = tail.rpartition("\n")
            if complete or tail.startswith("\n"):
                yield from (line + "\n" for line in complete.split("\n"))
            rest = [last] if last else []
        if rest:
            yield "".join(rest)

    def objects(self):
        """(line number, object) of each row of an NDJSON source."""
        for number, line in enumerate(self.lines(), 1):
            if line.isspace():
                continue
            row = parse_json(line, f"{self.label}: line {number}", UserError)
            if not isinstance(row, dict):
                raise UserError(f"{self.label}: line {number} is a JSON {type(row).__name__}, expected an object")
            yield number, row

    def row_texts(self):
        """The field of each row of an NDJSON source."""
        for number, row in self.objects():
            if self.field is None:
                raise UserError(f"{self.label}: name the field that holds the text; line {number} has: {', '.join(row)[:200]}")
            if self.field not in row:
                raise UserError(f"{self.label}: line {number} has no field {self.field!r}; it has: {', '.join(row)[:200]}")
            if not isinstance(row[self.field], str):
                raise UserError(f"{self.label}: line {number}: field {self.field!r} is no text but "
                                f"{type(row[self.field]).__name__}")
            yield whole(row[self.field], f"{self.label}: line {number}: field {self.field!r}")

    def texts(self):
        """The source's text in pieces whose concatenation is the whole."""
        if self.rows:
            rows = self.row_texts()
            while batch := list(itertools.islice(rows, 4096)):
                yield "\n".join(batch) + "\n"
        elif self.corpus is not None:
            yield self._unwrapped()
        else:
            yield from self.strings()

    def _unwrapped(self):
        text = self.corpus.cleaned("".join(self.strings()))
        if text is None:
            raise UserError(f"{self.label}: this is not {self.corpus.title} (expected the words "
                            f"{self.corpus.begin!r}); remove the file and run `tinyllm data get {self.corpus.name}`")
        return text

    def documents(self):
        """The rows of NDJSON; of plain text, what stands between blank lines."""
        if self.rows:
            yield from self.row_texts()
            return
        lines = io.StringIO(self._unwrapped(), newline="\n") if self.corpus is not None else self.lines()
        paragraph = []
        for line in lines:
            if not line.isspace():
                paragraph.append(line)
            elif paragraph:
                yield "".join(paragraph).rstrip("\r\n")
                paragraph = []
        if paragraph:
            yield "".join(paragraph).rstrip("\r\n")


def whole(text, source):
    """`text`, or UserError where it holds half of a surrogate pair, which JSON can spell and UTF-8 cannot hold."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"{source} holds half of a surrogate pair, which UTF-8 cannot hold")
    return text


def records(path, fields):
    """The objects of a file with one JSON object a line as (where it stands, dict); each has these fields, texts all of them."""
    if not Path(path).is_file():
        raise UserError(f"{path}: cannot be read: there is no such file")
    source = Source(path)
    source.rows = True
    for number, row in source.objects():
        where = f"{source.label}: line {number}"
        for name in fields:
            if not isinstance(row.get(name), str):
                raise UserError(f"{where}: expected an object with the texts {' and '.join(map(repr, fields))}; {name!r} is {shown(row.get(name))}")
            whole(row[name], f"{where}: {name!r}")
        yield where, row


def _file_blocks(file):
    while block := file.read(BLOCK):
        yield block


def resolve(sources, field=None):
    """The `Source`s that a path, a name, or a list of them stands for."""
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    resolved = [Source(source, field) for source in sources]
    if not resolved:
        raise UserError("no text was named: give a path, a name of the catalogue (`tinyllm data list`), or - for standard input")
    return resolved


def pieces(sources, field=None):
    """The text of `sources` in pieces of about a megabyte, one after the other, in bounded memory.

    Joined they are the text that `read` returns: files in the order given, a blank line between two of them,
    rows of NDJSON one a line. A piece ends, where it can, between a letter and the line break after it: no
    tokenizer's split pattern joins these two, so that pieces may be split into words one by one. Raises
    UserError for what cannot be read and for a source that is empty.
    """
    held = ""
    for number, source in enumerate(resolve(sources, field)):
        if number:
            held += "\n\n"[min(len(held) - len(held.rstrip("\n")), 2):]
        empty = True
        for text in source.texts():
            empty = False
            held += text
            if len(held) >= BLOCK and (cut := _last_word_end(held)):
                yield held[:cut]
                held = held[cut:]
        if empty:
            raise UserError(f"{source.label}: is empty; expected text")
    yield held


def _last_word_end(text):
    """Where the last line that ends in a letter ends; the last line end where no such line is, else 0."""
    end = text.rfind("\n")
    while end > 0 and not text[end - 1].isalpha():
        end = text.rfind("\n", 0, end)
    return end if end > 0 else text.rfind("\n") + 1


def read(sources, field=None):
    """The whole text of one or several sources.

    `sources`: a path, a name of the catalogue, `-`, or a list of these; `field`: the field of NDJSON rows that
    holds the text. Returns a string. UserError, in one line, for a path that cannot be read, an empty file,
    bytes that are not UTF-8 (with their offset), a row that is not JSON or lacks the field (with its line).

    >>> len(read("tales")) > 500_000
    True
    """
    return "".join(pieces(sources, field))


def documents(sources, field=None):
    """The documents of one or several sources, one at a time, in bounded memory.

    >>> next(documents("tales")).splitlines()[0]
    'Rosa and Olive Fall Out'
    """
    for source in resolve(sources, field):
        empty = True
        for document in source.documents():
            empty = False
            yield document
        if empty:
            raise UserError(f"{source.label}: is empty; expected text")
