"""The targets of weights: safetensors, directories of Hugging Face, llama2.c's versions, llama3.np's archives."""

import io
import json
import math
import struct
import zipfile

import numpy as np
from fuzz_targets import Layer, Target, used
from fuzz_tokenizers import llama_parts, tried

from tinyllm.engine.random import Generator
from tinyllm.load import load
from tinyllm.models import GPT, DeepSeek, DeepSeekConfig, GPTConfig, Llama, LlamaConfig
from tinyllm.weights import llama2c, llama3np, names, safetensors

V = 12
GPT_TINY, LLAMA_TINY = GPTConfig(V, 1, 2, 8, 8), LlamaConfig(V, 2, 2, 8, 8, n_kv_head=1, ffn_dim=8)
DEEPSEEK_TINY = DeepSeekConfig(V, 2, 2, 8, 8, n_routed_experts=4, moe_ffn_dim=4, ffn_dim=8)


# ---- safetensors


def _header(data):
    length = int.from_bytes(data[:8], "little")
    return data[8:8 + length]


def _safetensors_believed(data, content):
    header = json.loads(_header(data))
    header.pop("__metadata__", None)
    size = 8 + len(_header(data)) + sum(math.prod(entry["shape"]) * np.dtype(safetensors.DTYPES[entry["dtype"]]).itemsize for entry in header.values())
    return None if size == len(data) and len(content) == len(header) else f"{size} bytes of tensors in a file of {len(data)}"


def safetensors_files(directory):
    """Arrays of several dtypes, and none."""
    rng = np.random.default_rng(0)
    contents = [{"weight": rng.normal(size=(3, 4)).astype(np.float32), "bias": np.zeros(3, np.float16), "mask": np.array([True, False]),
                 "step": np.array(7), "none": np.zeros((0, 3), np.uint8)}, {}, {"bytes": np.arange(40, dtype=np.uint8)}]
    for number, arrays in enumerate(contents):
        path = directory / f"{number}.safetensors"
        safetensors.save(path, arrays, {"format": "np"})

        def read(path=path):
            return {name: (array.shape, array.tobytes()) for name, array in safetensors.load(path).items()}

        rest = path.read_bytes()[8 + len(_header(path.read_bytes())):]
        layer = Layer(_header, lambda text, rest=rest: len(text).to_bytes(8, "little") + text + rest, True)
        yield Target(path, read, layers=(layer,), believed=_safetensors_believed)


# ---- directories of Hugging Face


def hf_directories(directory):
    """config.json of three families, the weights, and an index of shards."""
    for model in (GPT(GPT_TINY), Llama(LLAMA_TINY), DeepSeek(DEEPSEEK_TINY)):
        home = directory / type(model).__name__
        model.save_pretrained(home)
        yield Target(home / "config.json", lambda home=home: used(load(home)[0]), json=True)
        yield Target(home / "model.safetensors", lambda home=home: used(load(home)[0]),
                     believed=lambda data, content: _safetensors_believed(data, json.loads(_header(data)).keys() - {"__metadata__"}))
    home = directory / "sharded"
    home.mkdir()
    (home / "config.json").write_bytes((directory / "Llama" / "config.json").read_bytes())
    arrays = safetensors.load(directory / "Llama" / "model.safetensors")
    places = {name: f"model-{k % 2}.safetensors" for k, name in enumerate(arrays)}
    for file in set(places.values()):
        safetensors.save(home / file, {name: array for name, array in arrays.items() if places[name] == file})
    (home / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    read = lambda: used(load(home)[0])
    yield Target(home / "model.safetensors.index.json", read, json=True, checksum=True)      # there is just one way to place the tensors


# ---- llama2.c and llama3.np


def _llama2c_size(data):
    """Bytes that a .bin takes by its first numbers, written down from llama2.c's export.py."""
    newer = data[:4] == b"24ka"
    version = struct.unpack_from("<i", data, 4)[0] if newer else 0
    C, F, L, H, K, V_, T = struct.unpack_from("<7i", data, 8 if newer else 0)
    tied = bool(data[36]) if newer else V_ > 0
    D, V_ = C // H, abs(V_)
    matrices = L * (2 * C * C + 2 * C * K * D + 3 * C * F) + V_ * C * (1 if tied else 2)
    vectors = (2 * L + 1) * C + (T * D if not newer else 0)
    group = struct.unpack_from("<i", data, 37)[0] if version == 2 else None
    return (256 if newer else 28) + 4 * vectors + (4 * matrices if group is None else matrices + 4 * (matrices // group))


def _newer(model, version, group=4):
    """Version 1 or 2 of a model's file."""
    config = model.config
    arrays = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    head = struct.pack("<Ii7iB", llama2c.MAGIC, version, config.n_embd, config.ffn_dim, config.n_layer, config.n_head, config.n_kv_head,
                       config.vocab_size, config.block_size, config.tied) + (struct.pack("<i", group) if version == 2 else b"")
    parts = [head.ljust(256, b"\0")]
    for piece in llama2c._layout(config, llama2c.NEWER):
        array = np.ascontiguousarray(arrays[piece.ours][piece.rows], "<f4")
        if version == 1 or array.ndim == 1:
            parts.append(array.tobytes())
        else:
            groups = array.reshape(-1, group)
            scales = np.abs(groups).max(1) / 127
            parts += [np.rint(groups / np.where(scales, scales, 1)[:, None]).astype(np.int8).tobytes(), scales.astype("<f4").tobytes()]
    return b"".join(parts)


def llama2c_files(directory):
    """Versions 0, with and without a head of its own, 1, and 2 in int8."""
    for number, (tied, version) in enumerate(((True, 0), (False, 0), (True, 1), (True, 2), (False, 2))):
        config = LlamaConfig(V, 2, 2, 8, 8, n_kv_head=1, ffn_dim=8, tied=tied, rope_interleaved=True)
        model, path = Llama(config, Generator(number)), directory / f"model{number}.bin"
        if version:
            path.write_bytes(_newer(model, version))
        else:
            llama2c.save(model, path)
        yield Target(path, lambda path=path: used(load(path, False)[0]),
                     believed=lambda data, content: None if _llama2c_size(data) == len(data) else f"its numbers make {_llama2c_size(data)} bytes")


def _members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _largest(data):
    return max(_members(data).items(), key=lambda item: len(item[1]))


def _zipped(members, how):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def llama3np_files(directory):
    """Weights, stored and deflated, and the tokenizer's JSON."""
    config = LlamaConfig(V, 2, 2, 8, 256, n_kv_head=1, ffn_dim=8, norm_eps=1e-6, rope_interleaved=True)
    model = Llama(config, Generator(0))
    state = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    arrays = {piece.theirs: piece.take(state[piece.ours]) for piece in names.pieces(config, halves=False)}
    for write, how in ((np.savez, zipfile.ZIP_STORED), (np.savez_compressed, zipfile.ZIP_DEFLATED)):
        path = directory / f"{write.__name__}.npz"
        write(path, **arrays)
        original = _members(path.read_bytes())
        first = max(original, key=lambda name: len(original[name]))
        layer = Layer(lambda data: _largest(data)[1], lambda member, original=original, first=first, how=how: _zipped({**original, first: member}, how))
        yield Target(path, lambda path=path: used(llama3np.load(path, n_head=2)), layers=(layer,), checksum=True)
    path = directory / "tokenizer.model.np"
    path.write_text(json.dumps(dict(zip(("tokens", "scores"), llama_parts()))))
    yield Target(path, lambda: tried(llama3np.load_tokenizer(path)), json=True)
