"""Files that are there whole or not at all.

Bytes go into a hidden file in the same directory, are flushed to the disk, and only then does a rename put
them in the place of the old file; the rename is flushed too. A reader, or a machine that loses power in the
middle, finds the old file or the new one. What a killed process leaves behind is a hidden file that ends in
`.partial`; `sweep` removes it.
"""

import contextlib
import json
import os
from pathlib import Path

from .errors import WorkError


@contextlib.contextmanager
def replacing(path):
    """A binary file to write to, which takes the place of `path` if the `with` block ends well.

    Whatever goes wrong, an old file at `path` stays as it was. Raises WorkError where the system refuses to
    write (a full disk, a read-only directory).

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with replacing(path) as file:
    ...     _ = file.write(b"all of it")
    >>> path.read_text()
    'all of it'
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_directory(path.parent)
    except OSError as error:
        raise WorkError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_bytes(path, data):
    """Write `data` to `path`, whole or not at all."""
    with replacing(path) as file:
        file.write(data)


def write_json(path, value):
    """Write `value` as JSON, indented to be read, whole or not at all; NaN and Inf are refused."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def sync_directory(path):
    """Flush a directory, so that the names in it survive a loss of power (where the system knows how)."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(directory):
    """Remove what processes that were killed while writing left in `directory`."""
    for partial in Path(directory).glob(".*.partial"):
        partial.unlink(missing_ok=True)
