"""llama3.np's weights (likejazz/llama3.np): NumPy's .npz of arrays, and its tokenizer.model.np.

The names are Hugging Face's, the layout is not: rotary pairs are interleaved, as in Meta's files. The file does not say how
many heads the model has (the program has that in its source), so the sizes are looked up among the published Stories models;
for others `load(path, n_head=…)` has to be told.

A .npz is a zip archive; arrays of objects, which would be unpickled, are refused, and so are a member that says it unpacks to
more than its array takes or to more than 100 times its size, a list of members above a megabyte (some ten thousand), and
encryption.
"""

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from .. import tokenizers
from ..errors import UserError
from ..models import Llama, LlamaConfig
from ..tokenizers.base import TokenizerError
from ..tokenizers.files import read_json
from ..tokenizers.llama import LlamaTokenizer
from ..untrusted import open_file, shown
from .fill import WeightsError, check, filled
from .llama2c import BEGIN
from .names import pieces

EPS = 1e-6              # of the norms, in its config.py
POSITIONS = 256         # as there
PUBLISHED = {tuple(sizes[name] for name in ("vocab_size", "n_layer", "n_embd")): sizes["n_head"]
             for key, sizes in LlamaConfig.presets.items() if key.startswith("stories")}
LARGEST_LIST = 1 << 20  # bytes of the archive's list of members, of which each becomes an object ten times its size
MOST_GROWTH = 100
# What zipfile and numpy.lib.format say of damaged files; the headers of arrays are Python literals.
DAMAGES = (zipfile.BadZipFile, ValueError, EOFError, KeyError, TypeError, struct.error, zlib.error, OSError, NotImplementedError, RuntimeError,
           tokenize.TokenError, SyntaxError, RecursionError, MemoryError)


def load(path, n_head=None, block_size=POSITIONS):
    """The `Llama` in a .npz file, in eval mode; WeightsError for a file that is none."""
    path = Path(path)
    try:
        shapes = _shapes(path)
        config = _config(path, shapes, n_head, block_size)
        wanted = list(pieces(config, halves=False))
        check(shapes, wanted, path)
        with np.load(path, allow_pickle=False) as arrays:
            return filled(Llama, config, arrays, wanted)
    except (FileNotFoundError, PermissionError, UserError):
        raise
    except DAMAGES as error:
        raise WeightsError(f"{path} is not a .npz of NumPy, or damaged: {error}") from None


def _shapes(path):
    """name -> shape, from the headers alone, each checked against the size of its member."""
    shapes = {}
    with open_file(path, WeightsError) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - (1 << 16) - 22))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")           # of the record at the end, which says how long the list is
    if end < 0 or len(tail) < end + 22 or int.from_bytes(tail[end + 12:end + 16], "little") > LARGEST_LIST or tail[end - 20:end - 16] == b"PK\6\7":
        raise WeightsError(f"{path} is not a .npz of NumPy, or its list of members is longer than {LARGEST_LIST:,} bytes")
    with zipfile.ZipFile(path) as archive:
        if sum(member.compress_size for member in archive.infolist()) > size:
            raise WeightsError(f"{path}: its members overlap")
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise WeightsError(f"{path}: member {name!r} is encrypted, or compressed in a way that NumPy does not use")
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                header = file.tell()
            if dtype.kind != "f":
                raise WeightsError(f"{path}: tensor {name!r} of dtype {dtype}; expected floating point")
            if name in shapes:
                raise WeightsError(f"{path}: tensor {name!r} is there twice")
            if header + math.prod(shape) * dtype.itemsize != member.file_size or member.file_size > MOST_GROWTH * max(member.compress_size, 1):
                raise WeightsError(f"{path}: tensor {name!r} of shape {shape} and dtype {dtype} does not take the {member.file_size} bytes of "
                                   "its member")
            shapes[name] = shape
    return shapes


def _config(path, shapes, n_head, block_size):
    """The configuration that the shapes tell."""
    layer = "model.layers.0."
    told = {"model.embed_tokens.weight": 2, f"{layer}self_attn.k_proj.weight": 2, f"{layer}mlp.gate_proj.weight": 2}
    for name, axes in told.items():
        if len(shapes.get(name, ())) != axes or min(shapes[name]) < 1:
            raise WeightsError(f"{path}: tensor {name!r} of {axes} axes is missing: not weights of llama3.np")
    (V, C), (keys, _), (F, _) = (shapes[name] for name in told)
    L = 1 + max(int(parts[2]) for name in shapes if (parts := name.split("."))[:2] == ["model", "layers"] and parts[2].isdigit())
    n_head = n_head or PUBLISHED.get((V, L, C))
    if n_head is None:
        raise WeightsError(f"{path} does not say how many heads the model has, and no published one has vocabulary {V}, {L} layers and "
                           f"width {C}: tinyllm.weights.llama3np.load(path, n_head=...)")
    if L > len(shapes) or C % n_head or keys % (C // n_head):
        raise WeightsError(f"{path}: {L} layers of {n_head} heads, width {C} and keys of {keys} numbers do not go together")
    return LlamaConfig(vocab_size=V, n_layer=L, n_head=n_head, n_kv_head=keys // (C // n_head), n_embd=C, ffn_dim=F, block_size=block_size,
                       tied="lm_head.weight" not in shapes, norm_eps=EPS, rope_interleaved=True, eos_token_id=BEGIN)


def load_tokenizer(path, vocab_size=None):
    """The tokenizer in a tokenizer.model.np: JSON with the tokens and their scores."""
    if not path.name.endswith(".np"):
        return tokenizers.load(path)
    record = read_json(path)
    tokens, scores = (record.get(name) if isinstance(record, dict) else None for name in ("tokens", "scores"))
    if not isinstance(tokens, list) or not isinstance(scores, list) or not all(isinstance(token, str) for token in tokens):
        raise TokenizerError(f"{path} has no tokens and scores: expected a list of texts and a list of numbers, not {shown(tokens)} and {shown(scores)}")
    if vocab_size is not None and len(tokens) != vocab_size:
        raise TokenizerError(f"{path} has {len(tokens)} tokens, the model {vocab_size}")
    return LlamaTokenizer([token.encode("utf-8", "surrogatepass") or b" " for token in tokens], scores)
