"""llama2.c's .bin files (karpathy/llama2.c, export.py and run.c): version 0, 1 and 2 in, version 0 out.

    v0   7 int32: C, F, L, H, K, V, T; V < 0 says that the head is not the token table. Then float32, each kind of
         matrix for all layers before the next: table, norms, wq, wk, wv, wo, norms, w1, w2, w3, last norm,
         two tables of cos and sin that nobody reads any more, and maybe the head
    v1   "ak42", the version, the 7 numbers, a byte (head is the table), zeros to byte 256; norms first, no tables
    v2   as v1 with a group size G; matrices as int8, group by group, then a float32 scale for each G of them:
         w = q · scale, scale = max |w| / 127 (Q8_0)

Everything is little-endian and (out, in), rotary pairs are interleaved. A v0 file has no mark by which to know it, so its
length is compared with what its seven numbers say.
"""

import dataclasses
import math
import mmap
import struct
from pathlib import Path

import numpy as np

from .. import tokenizers
from ..atomic import replacing
from ..errors import UserError
from ..models import Llama, LlamaConfig
from ..nn.positions import frequencies, to_interleaved
from ..tokenizers.llama import LlamaTokenizer
from ..untrusted import open_file
from .fill import WeightsError, filled
from .names import Piece

MAGIC = 0x616B3432
HEADER = struct.Struct("<7i")
BEGIN = 1       # the token that begins a text, by which run.c also knows that one has ended
EPS = 1e-5      # of the norms, fixed in run.c

BLOCK = {       # llama2.c's name of a layer's matrix: ours
    "rms_att": "norm1.weight", "wq": "attn.qkv.weight", "wk": "attn.qkv.weight", "wv": "attn.qkv.weight", "wo": "attn.proj.weight",
    "rms_ffn": "norm2.weight", "w1": "mlp.gate.weight", "w2": "mlp.down.weight", "w3": "mlp.up.weight",
}
LEGACY = ("table", "rms_att", "wq", "wk", "wv", "wo", "rms_ffn", "w1", "w2", "w3", "rms_final", "freqs", "head")
NEWER = ("rms_att", "rms_ffn", "rms_final", "table", "wq", "wk", "wv", "wo", "w1", "w2", "w3", "head")


def load(path):
    """The `Llama` in a .bin file, in eval mode; WeightsError for a file that is none."""
    path = Path(path)
    with open_file(path, WeightsError) as file:
        size = file.seek(0, 2)
        if size < 256:
            raise WeightsError(f"{path}: {size} bytes are not a llama2.c file: the smallest model takes more")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    version, config, group, start = _header(path, data)
    order = LEGACY if version == 0 else NEWER
    one, two = (sum(_stored(piece, group) for piece in _layout(dataclasses.replace(config, n_layer=n), order)) for n in (1, 2))
    expected = start + one + (config.n_layer - 1) * (two - one)     # before a list of as many layers as the file claims is made
    if expected != size:
        told = f"version {version}" if version else "a file without a mark of its version, so version 0"
        raise WeightsError(f"{path}: {told}; its first numbers {_sizes(config)} make {expected} bytes, it has {size}: "
                           "cut short, or not a llama2.c file")
    layout = list(_layout(config, order))
    tensors = _Tensors(path, data, layout, start, group)
    return filled(Llama, config, tensors, [piece for piece in layout if piece.ours])


def _header(path, data):
    """(version, configuration, group size or None, where the numbers begin)."""
    magic, version = struct.unpack_from("<Ii", data)
    group, start = None, HEADER.size
    if magic == MAGIC:
        if version not in (1, 2):
            raise WeightsError(f"{path}: llama2.c version {version}; read here are 0, 1 and 2")
        numbers, tied = HEADER.unpack_from(data, 8), bool(data[36])
        if version == 2:
            group, = struct.unpack_from("<i", data, 37)
        start = 256
    else:
        version, numbers = 0, HEADER.unpack_from(data)
        tied = numbers[5] > 0
    C, F, L, H, K, V, T = numbers
    V = abs(V)
    if min(C, F, L, H, K, V, T) < 1 or C % H or (group is not None and (group < 1 or C % group or F % group)):
        raise WeightsError(f"{path}: it begins with {numbers}{'' if group is None else f' and groups of {group}'}, which cannot be "
                           "width, feed-forward width, layers, heads, key/value heads, vocabulary and positions: not a llama2.c file")
    try:
        config = LlamaConfig(vocab_size=V, n_layer=L, n_head=H, n_kv_head=K, n_embd=C, ffn_dim=F, block_size=T, tied=tied, norm_eps=EPS,
                             rope_interleaved=True, eos_token_id=BEGIN)
    except UserError as error:
        raise WeightsError(f"{path}: {error}") from None
    return version, config, group, start


def _layout(config, order):
    """The file's matrices in its order; `ours` is None for the tables of cos and sin."""
    C, D, F, H, K = config.n_embd, config.head_dim, config.ffn_dim, config.n_head, config.n_kv_head
    rows = {"wq": slice(0, H * D), "wk": slice(H * D, (H + K) * D), "wv": slice((H + K) * D, (H + 2 * K) * D)}
    shapes = {"rms_att": (C,), "rms_ffn": (C,), "wq": (H * D, C), "wk": (K * D, C), "wv": (K * D, C), "wo": (C, H * D),
              "w1": (F, C), "w2": (C, F), "w3": (F, C)}
    for name in order:
        if name in BLOCK:
            for layer in range(config.n_layer):
                yield Piece(f"layers.{layer}.{name}", f"blocks.{layer}.{BLOCK[name]}", shapes[name], rows.get(name, slice(None)))
        elif name == "table":
            yield Piece(name, "wte.weight", (config.vocab_size, C))
        elif name == "rms_final":
            yield Piece(name, "norm.weight", (C,))
        elif name == "freqs":
            yield Piece(name, None, (2, config.block_size, D // 2))
        elif not config.tied:
            yield Piece(name, "head.weight", (config.vocab_size, C))


def _stored(piece, group):
    """Bytes that a matrix takes in the file."""
    numbers = math.prod(piece.shape)
    return 4 * numbers if group is None or len(piece.shape) == 1 else numbers + 4 * (numbers // group)


def _sizes(config):
    return (config.n_embd, config.ffn_dim, config.n_layer, config.n_head, config.n_kv_head, config.vocab_size, config.block_size)


class _Tensors:
    """The file's matrices by name, as float32."""

    def __init__(self, path, data, layout, start, group):
        self.path, self.data, self.group, self.places = path, data, group, {}
        for piece in layout:
            self.places[piece.theirs] = start, piece.shape
            start += _stored(piece, group)

    def __getitem__(self, name):
        start, shape = self.places[name]
        numbers = math.prod(shape)
        if self.group is None or len(shape) == 1:
            return np.frombuffer(self.data, "<f4", numbers, start).reshape(shape)
        quantized = np.frombuffer(self.data, np.int8, numbers, start).reshape(-1, self.group)
        scales = np.frombuffer(self.data, "<f4", numbers // self.group, start + numbers)
        return (quantized * scales[:, None]).reshape(shape)


def refuse(model):
    """UserError if the format cannot say all that the model is."""
    config = getattr(model, "config", None)
    if type(config) is not LlamaConfig:
        raise UserError(f"llama2.c's files hold Llama models, this is a {type(model).__name__}: export it with --to hf, or train with "
                        "--model llama")
    fixed = {"bias": False, "qkv_bias": None, "qk_norm": False, "window": None, "rope_scaling": None,
             "rope_theta": 10000.0, "head_dim": config.n_embd // config.n_head, "norm_eps": EPS}
    for name, value in fixed.items():
        given = getattr(config, name)
        if given != value and given:
            raise UserError(f"llama2.c's files cannot say {name}={given!r}, its program has {value}: export the model with --to hf")


def save(model, path):
    """Write a `Llama` as a .bin of version 0, which run.c reads; UserError for what the format cannot say."""
    refuse(model)
    config = model.config
    C, F, L, H, K, V, T = _sizes(config)
    arrays = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    angles = np.arange(T)[:, None] * frequencies(config.head_dim)
    with replacing(path) as file:
        file.write(HEADER.pack(C, F, L, H, K, V if config.tied else -V, T))
        for piece in _layout(config, LEGACY):
            array = np.stack([np.cos(angles), np.sin(angles)]) if piece.ours is None else arrays[piece.ours][piece.rows]
            name = piece.theirs.rsplit(".", 1)[-1]
            if name in ("wq", "wk") and not config.rope_interleaved:
                array = to_interleaved(array, H if name == "wq" else K)
            file.write(np.ascontiguousarray(array, "<f4").data)


def load_tokenizer(path, vocab_size):
    """The tokenizer of llama2.c's tokenizer.bin, or another tokenizer's file."""
    return tokenizers.load(path, vocab_size=vocab_size)


def save_tokenizer(tokenizer, path):
    """Write a `LlamaTokenizer` as tokenizer.bin; UserError for another kind, which run.c could not encode with."""
    if not isinstance(tokenizer, LlamaTokenizer):
        raise UserError(f"run.c has one kind of tokenizer, Llama 2's; this one is {tokenizer.kind!r}")
    names = [b"<unk>", b"\n<s>\n", b"\n</s>\n"] + [b"<0x%02X>" % byte for byte in range(256)]
    tokens = names + tokenizer.tokens[len(names):]
    with replacing(path) as file:
        file.write(struct.pack("<I", max(map(len, tokens))))
        for data, score in zip(tokens, tokenizer.scores):
            file.write(struct.pack("<fI", score, len(data)) + data)
