"""Files that somebody else made: read within limits, and never outside the directory they came in.

    bytes     of regular files only, whose size is looked at first (a device or a pipe has no end)
    JSON      UTF-8; no key twice; DEPTH containers deep at most; no number of thousands of digits; and no more values than
              fit into four times the file's size and 64 MB, for which the brackets and commas are counted before anything is built
    names     that a file gives for its neighbours are names, not paths; symbolic links may not lead out of the directory
    records   for a dataclass: no unknown fields, and values of the types that it declares

Every function takes the class of the reader's own errors, `error`, and raises nothing else (`open_file` OSError, too).
"""

import dataclasses
import json
import math
import os
import reprlib
import stat
import types
import typing
from pathlib import Path

DEPTH = 64
CONTAINER, VALUE = 96, 56       # bytes that an object or a list takes, and a key or a value in it, with its place
FREE = 64 << 20                 # bytes that the values of any file may take, however small it is
LONGEST_NAME = 255              # bytes of a name in a directory
LARGEST = 64 << 20              # bytes of a file of JSON, where its reader says nothing else

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 2


def shown(value):
    """`repr` of what a file holds, short enough for one line of a message.

    >>> shown("a" * 1000)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaa'"
    """
    return _SHORT.repr(value)


def read_bytes(path, error, largest=LARGEST):
    """The bytes of a regular file of at most `largest` bytes."""
    try:
        with open_file(path, error) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(size + 1) if size <= largest else None     # more, and it has grown since
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror or problem}") from problem
    if data is None or len(data) > size:
        raise error(f"{path} is larger than {largest >> 20} MB: not a file of this kind")
    return data


def open_file(path, error):
    """A regular file, open for reading bytes; OSError where there is none."""
    try:
        file = open(path, "rb", opener=_without_waiting)
    except ValueError as problem:                   # a name with a zero byte, or with half a surrogate pair
        raise error(f"cannot read {path}: {problem}") from problem
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise error(f"cannot read {path}: it is no regular file")
    return file


def _without_waiting(path, flags):
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))     # opening a pipe would wait for somebody who writes


def read_json(path, error, largest=LARGEST):
    """The JSON in a file."""
    return parse_json(read_bytes(path, error, largest), path, error)


def parse_json(data, source, error):
    """The value of a JSON text, bytes or str, within the limits of the module's text; `source` is what errors call it.

    >>> parse_json(b'{"a": [1, 2]}', "the text", ValueError)
    {'a': [1, 2]}
    >>> parse_json('{"a": 1, "a": 2}', "the text", ValueError)
    Traceback (most recent call last):
    ...
    ValueError: the text: the key 'a' is given twice
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{source} is not JSON: {problem}") from None
    containers, rest = text.count("[") + text.count("{"), text.count(",") + text.count(":")
    if containers * CONTAINER + rest * VALUE > 4 * len(text) + FREE:
        raise error(f"{source} is refused: {len(text):,} characters of JSON would become {containers:,} objects and lists with "
                    f"{rest:,} values, out of proportion to its size")
    try:
        value = _DECODER.decode(text)
    except _Twice as problem:
        raise error(f"{source}: {problem}") from None
    except (ValueError, RecursionError) as problem:
        raise error(f"{source} is not JSON: {'nested too deeply' if isinstance(problem, RecursionError) else problem}") from None
    if containers > DEPTH and _depth(value) > DEPTH:
        raise error(f"{source} is not JSON of a kind that is read here: nested too deeply, more than {DEPTH} levels")
    return value


class _Twice(ValueError):
    """A key is given twice."""


def _unique(pairs):
    record = dict(pairs)
    if len(record) != len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise _Twice(f"the key {shown(twice)} is given twice")
    return record


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _depth(value):
    """How many containers deep a value is."""
    level, depth = [value], 0
    while level := [x for x in level if isinstance(x, (dict, list))]:
        level = [child for x in level for child in (x.values() if isinstance(x, dict) else x)]
        depth += 1
    return depth


def inside(directory, name, error):
    """The path of the file `name` in `directory`, which is really there: no path, and no link that leads out.

    The cache of Hugging Face's hub is known: links in snapshots/REVISION lead to blobs beside snapshots.
    """
    directory = Path(directory)
    if not isinstance(name, str) or name in ("", "..") or "\0" in name or name != os.path.basename(name) or (
            len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME):
        raise error(f"{directory}: {shown(name)} is not the name of a file in this directory")
    path = directory / name
    if path.is_symlink():
        target, home = Path(os.path.realpath(path)), Path(os.path.realpath(directory))
        blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
        if not target.is_relative_to(home) and target.parent != blobs:
            raise error(f"{path} is a link to {target}, which is not in its directory: links that lead out of it are not followed")
    return path


def checked_fields(kind, record, source, error):
    """`record`, a dict of fields for the dataclass `kind`, if names and types are those it declares.

    A number has to be finite, and a whole one will do for any.

    >>> @dataclasses.dataclass
    ... class Size:
    ...     rows: int
    ...     scale: float | None = None
    >>> checked_fields(Size, {"rows": 3, "scale": 1}, "the file", ValueError)
    {'rows': 3, 'scale': 1}
    >>> checked_fields(Size, {"rows": "3"}, "the file", ValueError)
    Traceback (most recent call last):
    ...
    ValueError: the file: rows is '3'; expected int
    """
    if not isinstance(record, dict):
        raise error(f"{source}: {shown(record)} where an object was expected")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name, value in record.items():
        if name not in fields:
            raise error(f"{source}: there is no setting {shown(name)}; was it written by a newer version?")
        if not _fits(value, fields[name].type) and not (value is None and fields[name].default is None):
            raise error(f"{source}: {name} is {shown(value)}; expected {getattr(fields[name].type, '__name__', fields[name].type)}")
    required = (name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING)
    missing = next((name for name in required if name not in record), None)
    if missing is not None:
        raise error(f"{source}: {missing} is missing")
    return record


def _fits(value, declared):
    if isinstance(declared, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(declared))
    if declared is None or declared is type(None):
        return value is None
    if declared is float:
        return type(value) is int and abs(value) < 1 << 63 or type(value) is float and math.isfinite(value)
    if declared is int:
        return type(value) is int and abs(value) < 1 << 63
    if declared is tuple:
        return type(value) in (list, tuple)
    if typing.get_origin(declared) is list:
        return type(value) is list and all(_fits(one, typing.get_args(declared)[0]) for one in value)
    return type(value) is declared
