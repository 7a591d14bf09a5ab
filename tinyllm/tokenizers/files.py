"""Reading tokenizers: `load(path)` looks at what a file holds and returns the tokenizer in it.

    own JSON                        what `save` writes
    encoder.json + vocab.bpe        GPT-2's pair, also as vocab.json + merges.txt; either file may be named
    tokenizer.json                  Hugging Face's (`huggingface.py`)
    *.tiktoken, tokenizer.model     a rank a line, as tiktoken and Llama 3 have it (`ranks.py`)
    tokenizer.bin                   llama2.c's scores (`llama.py`)
    a directory                     the first of these names it holds

Files come from anywhere, so each reader bounds what it allocates by the size of the file, and whatever is
wrong ends in a `TokenizerError` that names the file.
"""

from pathlib import Path

from tinyllm import untrusted
from tinyllm.tokenizers import huggingface, llama, ranks
from tinyllm.tokenizers.base import TokenizerError
from tinyllm.tokenizers.bytelevel import BPETokenizer
from tinyllm.tokenizers.char import CharTokenizer

LARGEST_FILE = 64 << 20        # the largest in use, of 256,000 tokens, has 33 MB
_KINDS = {kind.kind: kind for kind in (BPETokenizer, CharTokenizer, llama.LlamaTokenizer)}
_NAMES = ("tokenizer.json", "encoder.json", "vocab.json", "tokenizer.model", "tokenizer.bin")
_PAIRS = {"encoder.json": "vocab.bpe", "vocab.json": "merges.txt"}


def load(path, *, pattern=None, special_tokens=None, vocab_size=None):
    """The tokenizer in a file or a directory.

    pattern and special_tokens (names or {name: id}) are for rank files, which hold neither; both are known for
    files called as the well-known ones (cl100k_base, o200k_base, gpt2 …). vocab_size is for llama2.c's files,
    which do not hold it: it checks the number of tokens found. Errors are TokenizerError and name the file.
    """
    path = Path(path)
    try:
        return _load(path, pattern, special_tokens, vocab_size)
    except TokenizerError as error:
        if str(path) in str(error):
            raise
        raise TokenizerError(f"{path}: {error}") from error


def _load(path, pattern, special_tokens, vocab_size):
    if path.is_dir():
        found = [path / name for name in _NAMES if (path / name).is_file()] or sorted(path.glob("*.tiktoken"))
        if not found:
            raise TokenizerError(f"{path} holds no tokenizer: looked for {', '.join(_NAMES)} and *.tiktoken")
        path = untrusted.inside(path, found[0].name, TokenizerError)
    for vocabulary, merges in _PAIRS.items():
        if path.name == merges or (path.name == vocabulary and (path.parent / merges).exists()):
            other = merges if path.name == vocabulary else vocabulary
            untrusted.inside(path.parent, other, TokenizerError)
            return load_gpt2(path.with_name(vocabulary), path.with_name(merges))
    if path.suffix == ".json":
        return _from_json(path)
    data = read_bytes(path)
    if path.suffix == ".bin":
        return llama.from_llama2c(data, vocab_size)
    if path.suffix in (".tiktoken", ".model"):
        return ranks.from_tiktoken(data, path.stem, pattern, special_tokens)
    if data.lstrip()[:1] == b"{":
        return _from_json(path)
    raise TokenizerError(f"{path} is of no known kind; expected .json, .tiktoken, .model, .bin, vocab.bpe or merges.txt")


def _from_json(path):
    record = read_json(path)
    if not isinstance(record, dict):
        raise TokenizerError(f"{path} holds a JSON {type(record).__name__}, expected an object")
    if "model" in record:
        return huggingface.from_record(record)
    if record.get("format") != "tinyllm-tokenizer":
        hint = "; its merges (vocab.bpe or merges.txt) belong beside it" if record and all(
            isinstance(token, int) for token in record.values()) else ""
        raise TokenizerError(f"{path} is no tokenizer file: it has neither \"format\" nor \"model\"{hint}")
    if record.get("version") != 1 or not isinstance(record.get("kind"), str) or record["kind"] not in _KINDS:
        raise TokenizerError(f"{path}: version {untrusted.shown(record.get('version'))}, kind {untrusted.shown(record.get('kind'))}; this program reads "
                             f"version 1 of {', '.join(_KINDS)}")
    return _KINDS[record["kind"]]._from_state(record)


def load_gpt2(vocabulary_path, merges_path):
    """GPT-2's tokenizer from its two files: token -> id as JSON, and a merge a line."""
    ids = read_json(vocabulary_path)
    if not isinstance(ids, dict) or not ids:
        raise TokenizerError(f"{vocabulary_path} holds no tokens; expected an object of token and id")
    merges = []
    for number, line in enumerate(read_bytes(merges_path).decode("utf-8", "replace").split("\n"), 1):
        line = line.rstrip("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise TokenizerError(f"{merges_path}: line {number} is {line[:40]!r}, expected two tokens with a space between")
        merges.append(tuple(parts))
    return huggingface.bpe_from_strings(ids, merges, {}, pattern="gpt2")


def read_bytes(path):
    """A tokenizer file's bytes, within the size limit."""
    return untrusted.read_bytes(path, TokenizerError, LARGEST_FILE)


def read_json(path):
    """The JSON in a tokenizer file; an object with one key twice is refused."""
    return untrusted.read_json(path, TokenizerError, LARGEST_FILE)
