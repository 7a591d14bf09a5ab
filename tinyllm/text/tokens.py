"""A text as ids on disk: tokenized once, then memory-mapped.

    ids = tokens.stored(tokenizer, ["tales"], "runs/cache")      # an array that reads from the file as it is used

The file is named by what decides its content: the tokenizer's fingerprint and the hash of the text. Another
tokenizer or a changed text makes another name, so a stale file is never taken; a file whose header, length
or checksum is not right is written anew. Ids are uint16 where the vocabulary allows it, else uint32. A file appears whole
or not at all, and a half-written one is never read.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from tinyllm import atomic
from tinyllm.errors import UserError
from tinyllm.text import reading
from tinyllm.untrusted import parse_json

HEADER = 512                   # bytes before the first id: JSON, filled up with spaces
_MARK = "tinyllm-tokens-1"


def text_hash(parts):
    """sha256 (hex) of the UTF-8 of a text given in parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def stored(tokenizer, sources, directory, field=None):
    """Ids of the text of `sources` (as `text.read` takes them) as a read-only array mapped from a file in `directory`.

    The text is read twice, once for its hash and once to tokenize it where that has not been done, and never
    held as a whole. Special tokens in it are plain text. Standard input can be read only once and is refused.
    """
    names = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if "-" in names:
        raise UserError("standard input cannot be stored as ids, because it can be read only once: write it to a file first")
    return stored_parts(tokenizer, lambda: reading.pieces(names, field), directory)


def stored_parts(tokenizer, parts, directory):
    """The same for a text that a function gives, as an iterable of str, each time it is called."""
    source = text_hash(parts())
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    told = {"mark": _MARK, "tokenizer": tokenizer.fingerprint(), "source": source, "dtype": dtype.str}
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the directory {directory}: {error.strerror or error}") from error
    path = directory / f"{told['tokenizer'][:16]}-{source[:16]}.tokens"
    ids = _open(path, told)
    if ids is None:
        _write(path, told, tokenizer.encode_stream(parts()), dtype)
        ids = _open(path, told)
    return ids


def _write(path, told, arrays, dtype):
    with atomic.replacing(path) as file:
        file.write(b" " * HEADER)
        digest, count = hashlib.sha256(), 0
        for ids in arrays:
            data = ids.astype(dtype).tobytes()
            file.write(data)
            digest.update(data)
            count += len(ids)
        file.seek(0)
        file.write(json.dumps({**told, "count": count, "sha256": digest.hexdigest()}).encode().ljust(HEADER))


def _open(path, told):
    """The mapped ids, or None where there is no file or not a sound one."""
    try:
        with open(path, "rb") as file:
            header = parse_json(file.read(HEADER), path, UserError)
            size = os.fstat(file.fileno()).st_size
    except (OSError, UserError):
        return None
    dtype = np.dtype(told["dtype"])
    count = header.get("count") if isinstance(header, dict) else None
    if not isinstance(count, int) or any(header.get(key) != value for key, value in told.items()):
        return None
    if size != HEADER + count * dtype.itemsize or not verify(path):
        return None
    if count == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, "r", HEADER, (count,))


def verify(path):
    """Whether the ids in a file are those that were written, by their checksum."""
    with open(path, "rb") as file:
        header = parse_json(file.read(HEADER), path, UserError)
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == header.get("sha256")
