"""The readers that fuzz.py feeds: for each a function that makes sound files in a directory and returns the targets in it.

`Target.read()` reads the way a user would and goes on to use what came out; it returns what has to be equal where a checksum
says so. `believed(data, content)` looks at an accepted file with a few lines of its own and says what a shape should have told.
"""

import gzip
import hashlib
import io
import json
import math
import os
import struct
import zipfile
from dataclasses import dataclass
from typing import Callable, NamedTuple

import numpy as np

import tinyllm as tl
from tinyllm import tokenizers
from tinyllm.engine import no_grad
from tinyllm.engine.random import Generator
from tinyllm.errors import UserError
from tinyllm.load import load
from tinyllm.models import GPT, DeepSeek, DeepSeekConfig, GPTConfig, Llama, LlamaConfig
from tinyllm.rl.pairs import read_pairs
from tinyllm.stepper import Trace
from tinyllm.stepper import page as pages
from tinyllm.stepper.terminal import Stepper, play
from tinyllm.stepper.trace import record
from tinyllm.text import reading, tokens
from tinyllm.tokenizers import BPETokenizer, CharTokenizer, huggingface, ranks
from tinyllm.tokenizers.llama import LlamaTokenizer
from tinyllm.train.data import DataConfig
from tinyllm.train.examples import read_examples
from tinyllm.train.finetune import TuneConfig, Tuning
from tinyllm.train.loop import TrainConfig
from tinyllm.train.report import write_report
from tinyllm.train.session import Session
from tinyllm.weights import llama2c, llama3np, names, safetensors

V = 12
GPT_TINY, LLAMA_TINY = GPTConfig(V, 1, 2, 8, 8), LlamaConfig(V, 2, 2, 8, 8, n_kv_head=1, ffn_dim=8)
DEEPSEEK_TINY = DeepSeekConfig(V, 2, 2, 8, 8, n_routed_experts=4, moe_ffn_dim=4, ffn_dim=8)
TEXT = "the theme of the thesis is the other thing, naïve 日本語 it's 12345\n" * 4


class Layer(NamedTuple):
    """How to open what holds the content, and to close it again."""

    open: Callable
    close: Callable
    json: bool = False


@dataclass
class Target:
    """A sound file, and how it is read."""

    path: object
    read: Callable
    json: bool = False
    layers: tuple = ()
    checksum: bool = False              # every damage to the content is to be seen
    believed: Callable = lambda data, content: None
    original: bytes = b""
    content: object = None


def digest(arrays):
    """One number for named arrays."""
    whole = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        whole.update(f"{name!r} {array.shape} {array.dtype}".encode("utf-8", "replace") + array.tobytes())
    return whole.hexdigest()


def used(model):
    """The weights of a model that has been looked at and run."""
    with no_grad(), np.errstate(all="ignore"):
        model(np.zeros((1, min(2, model.config.block_size)), int))
    return digest(model.state_dict())


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
    path.write_text(json.dumps(dict(zip(("tokens", "scores"), _llama_parts()))))
    yield Target(path, lambda: _tried(llama3np.load_tokenizer(path)), json=True)


# ---- tokenizers


def _llama_parts():
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + [" ", "t", "h", "e", "th", "the", " the"]
    return tokens, [0.0] * 262 + [-float(i) for i in range(len(tokens) - 262)]


def _tried(tokenizer):
    """A tokenizer that encodes and decodes, or refuses with a UserError."""
    sample = "".join(getattr(tokenizer, "characters", "the thing's é 12 "))[:20]
    with_surrogates = any("\ud800" <= character <= "\udfff" for character in sample)
    try:
        ids = tokenizer.encode(sample)
        assert with_surrogates or tokenizer.decode(ids) == sample or tokenizer.kind == "llama", f"{sample!r} does not come back"
    except UserError:
        pass
    return tokenizer.fingerprint()


def own_tokenizers(directory):
    """The four kinds that `save` writes."""
    bpe = BPETokenizer.train(TEXT, 270, special_tokens=["<|endoftext|>"])
    kinds = {"bpe": bpe, "char": CharTokenizer.train(TEXT), "llama": LlamaTokenizer([t.encode() for t in _llama_parts()[0]], _llama_parts()[1]),
             "ranks": BPETokenizer.from_ranks(bpe.tokens[:270 - 1], pattern="cl100k", special_tokens=["<|end|>"])}
    for name, tokenizer in kinds.items():
        path = directory / f"{name}.json"
        tokenizer.save(path)
        yield Target(path, lambda path=path: _tried(tokenizers.load(path)), json=True)


def hf_tokenizers(directory):
    """tokenizer.json of the three kinds."""
    kinds = {"bpe": BPETokenizer.train(TEXT, 262, special_tokens=["<|endoftext|>"]), "cl100k": BPETokenizer.train(TEXT, 262, pattern="cl100k"),
             "char": CharTokenizer.train(TEXT), "llama": LlamaTokenizer([t.encode() for t in _llama_parts()[0]], _llama_parts()[1])}
    for name, tokenizer in kinds.items():
        path = directory / f"{name}.json"
        huggingface.save(tokenizer, path)
        yield Target(path, lambda path=path: _tried(tokenizers.load(path)), json=True)


def other_tokenizers(directory):
    """GPT-2's pair, tiktoken's ranks, llama2.c's tokenizer.bin."""
    bpe = BPETokenizer.train(TEXT, 264)
    vocabulary = {huggingface.to_characters(data): token for token, data in enumerate(bpe.tokens)}
    (directory / "encoder.json").write_text(json.dumps(vocabulary))
    texts = [huggingface.to_characters(data) for data in bpe.tokens]
    (directory / "vocab.bpe").write_text("#version: 0.2\n" + "".join(f"{texts[a]} {texts[b]}\n" for a, b in bpe.merges))
    read = lambda: _tried(tokenizers.load(directory / "encoder.json"))
    yield Target(directory / "encoder.json", read, json=True)
    yield Target(directory / "vocab.bpe", read)
    ranks.save(bpe, directory / "gpt2.tiktoken")
    yield Target(directory / "gpt2.tiktoken", lambda: _tried(tokenizers.load(directory / "gpt2.tiktoken")))
    spelled, scores = _llama_parts()
    llama2c.save_tokenizer(LlamaTokenizer([t.encode() for t in spelled], scores), directory / "tokenizer.bin")
    yield Target(directory / "tokenizer.bin", lambda: _tried(tokenizers.load(directory / "tokenizer.bin")))


# ---- runs


def _resigned(record_bytes):
    """A JSON file of a run with the sha256 that belongs to it."""
    try:
        record = json.loads(record_bytes)
        record.pop("sha256")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return record_bytes
    whole = {**record, "sha256": hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()}
    return json.dumps(whole, indent=1).encode()


SIGNED = Layer(bytes, _resigned, True)


def _run_targets(home, read):
    yield Target(home / "config.json", read, json=True, layers=(SIGNED,), checksum=True)
    yield Target(home / "tokenizer.json", read, json=True, checksum=True)
    yield Target(home / "checkpoints" / "best.json", read, json=True, layers=(SIGNED,), checksum=True)
    for path in sorted((home / "checkpoints").glob("*.model.safetensors")):
        yield Target(path, read, checksum=True)


def run_directories(directory):
    """Runs of training and fine-tuning: config, tokenizer, checkpoints, metrics."""
    text = directory / "text.txt"
    text.write_text("".join(f"{i} green bottles; " for i in range(30)))
    home, quiet = directory / "run", open(os.devnull, "w")
    config = TrainConfig(steps=2, batch=2, eval_every=2, eval_windows=1, warmup=0)
    with Session.new(home, DataConfig([str(text)]), {"type": "gpt", "n_layer": 1, "n_head": 2, "n_embd": 4, "block_size": 4}, config, quiet) as session:
        session.trainer.fit()

    def read():
        model, tokenizer = load(home)
        return used(model), tokenizer.fingerprint()

    metrics = (home / "metrics.jsonl").read_bytes()

    def resumed():
        (home / "metrics.jsonl").write_bytes(metrics)
        with Session.resume(home, quiet) as session:
            return digest(session.model.state_dict()), session.trainer.step

    yield from _run_targets(home, read)
    yield Target(home / "metrics.jsonl", lambda: write_report(home) and None, json=True)
    yield Target(home / "checkpoints" / "last.json", resumed, json=True, layers=(SIGNED,), checksum=True)
    yield from (Target(path, resumed, checksum=True) for path in (home / "checkpoints").glob("*.optimizer.safetensors"))
    yield Target(home / "config.json", resumed, json=True, layers=(SIGNED,), checksum=True)
    examples = directory / "examples.jsonl"
    examples.write_text('{"text": "a b", "label": "x"}\n{"text": "b b", "label": "y"}\n' * 4)
    tuned, characters = directory / "tuned", CharTokenizer.train("ab ")
    with Tuning.new(tuned, GPT(GPTConfig(characters.vocab_size, 1, 2, 4, 8)), characters, TuneConfig(str(examples), labels=["x", "y"], lora=1), config, quiet) as tuning:
        tuning.trainer.fit()
    yield Target(tuned / "config.json", lambda: used(load(tuned)[0]), json=True, layers=(SIGNED,), checksum=True)


# ---- rows of text


def ndjson_files(directory):
    """.ndjson.gz, .ndjson and the ids that are stored of a text."""
    rows = "".join(json.dumps({"text": f"document {i}, naïve 日本", "id": i}, ensure_ascii=bool(i % 2)) + "\n" for i in range(6)).encode()
    path = directory / "rows.ndjson.gz"
    path.write_bytes(gzip.compress(rows, mtime=0))
    whole = "\n".join(json.loads(row)["text"] for row in rows.splitlines()) + "\n"

    yield Target(path, lambda: _sha(reading.pieces(path, "text")), layers=(Layer(gzip.decompress, lambda data: gzip.compress(data, 1, mtime=0), True),),
                 believed=lambda data, content: None if _sha([whole]) == content or _unpacked(data) != rows else "other rows")
    plain = directory / "rows.ndjson"
    plain.write_bytes(rows)
    yield Target(plain, lambda: [len(document) for document in reading.documents(plain, "text")], json=True)
    gz = directory / "text.txt.gz"
    gz.write_bytes(gzip.compress(TEXT.encode(), mtime=0))
    yield Target(gz, lambda: sum(map(len, reading.pieces(gz))), layers=(Layer(gzip.decompress, lambda data: gzip.compress(data, 1, mtime=0)),))
    text, cache, characters = directory / "text.txt", directory / "cache", CharTokenizer.train(TEXT)
    text.write_text(TEXT, encoding="utf-8")
    tokens.stored(characters, text, cache)
    stored = next(cache.iterdir())
    yield Target(stored, lambda: np.asarray(tokens.stored(characters, text, cache)).tobytes(), checksum=True)


def _sha(parts):
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode("utf-8", "surrogatepass"))
    return whole.hexdigest()


def _unpacked(data):
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, ValueError):
        return b""


def examples_files(directory):
    """Examples to fine-tune on, and preferences."""
    answers, classes, pairs = directory / "answers.jsonl", directory / "classes.jsonl", directory / "pairs.jsonl"
    answers.write_text("".join(json.dumps({"prompt": f"what is {i}?", "response": f"é {i}"}) + "\n" for i in range(4)))
    yield Target(answers, lambda: len(read_examples(answers, ("prompt", "response"))), json=True)
    classes.write_text("".join(json.dumps({"text": f"text {i}", "label": "ab"[i % 2]}) + "\n" for i in range(4)))
    yield Target(classes, lambda: len(read_examples(classes, ("text", "label"))), json=True)
    pairs.write_text("".join(json.dumps({"prompt": f"{i}+1=", "chosen": str(i + 1), "rejected": str(i)}) + "\n" for i in range(4)))
    yield Target(pairs, lambda: len(read_pairs(pairs)), json=True)


# ---- traces


def traces(directory):
    """A few operations, a softmax, an update, and an array that was left out."""
    pages.SECONDS = 0.1         # for checks on a page, which are made until time is up
    def few():
        x, w = (tl.Tensor(np.arange(n, dtype=np.float64).reshape(shape) / 7, requires_grad=True, name=name) for n, shape, name in
                ((6, (3, 2), "x"), (4, (2, 2), "w")))
        return ((x @ w)[1:].reshape(4) * 2.0).sum(axis=0)

    def softmax():
        x = tl.Tensor(np.arange(3.0), requires_grad=True, name="x")
        return (tl.F.softmax(x) ** 2).sum()

    x = tl.nn.Parameter(np.ones(3))
    optimizer = tl.optim.AdamW([x], lr=0.1)
    recorded = {"few": record(few), "softmax": record(softmax), "adam": record(lambda: (x * x).sum(), optimizer=optimizer),
                "large": record(softmax, largest=2)}
    for name, trace in recorded.items():
        path = directory / f"{name}.json"
        trace.save(path)
        yield Target(path, lambda path=path: _seen(path), json=True)


def _seen(path):
    """A trace that was loaded and looked at in each of its views."""
    trace = Trace.load(path)
    text = trace.text()
    play(Stepper(trace), "nnnccefq", 80)
    pages.page(trace)
    return text


READERS = {"safetensors": safetensors_files, "huggingface": hf_directories, "llama2c": llama2c_files, "llama3np": llama3np_files,
           "tokenizer": own_tokenizers, "hf-tokenizer": hf_tokenizers, "bpe-ranks-bin": other_tokenizers, "run": run_directories, "ndjson": ndjson_files,
           "jsonl": examples_files, "trace": traces}
READERS = {name: (lambda directory, make=make: list(make(directory))) for name, make in READERS.items()}
