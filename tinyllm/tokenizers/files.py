"""Reading tokenizers: `load(path)` looks at a file and returns what it holds."""

import json
from pathlib import Path

from tinyllm.tokenizers.base import TokenizerError
from tinyllm.tokenizers.bytelevel import BPETokenizer
from tinyllm.tokenizers.char import CharTokenizer

LARGEST_FILE = 256 << 20
_KINDS = {kind.kind: kind for kind in (BPETokenizer, CharTokenizer)}


def load(path):
    """The tokenizer in a file."""
    path = Path(path)
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != "tinyllm-tokenizer":
        raise TokenizerError(f"{path} is not a tokenizer file")
    if record.get("version") != 1 or record.get("kind") not in _KINDS:
        raise TokenizerError(f"{path}: version {record.get('version')!r}, kind {record.get('kind')!r}; this program reads "
                             f"version 1 of {', '.join(_KINDS)}")
    return _KINDS[record["kind"]]._from_state(record)


def read_bytes(path):
    """A tokenizer file's bytes, within the size limit."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise TokenizerError(f"{path} is larger than {LARGEST_FILE >> 20} MB, the most a tokenizer file may have")
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read {path}: {error.strerror or error}") from error


def read_json(path):
    """The JSON in a tokenizer file."""
    try:
        return json.loads(read_bytes(path).decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, TokenizerError):
            raise
        raise TokenizerError(f"{path} is not JSON: {error}") from error
