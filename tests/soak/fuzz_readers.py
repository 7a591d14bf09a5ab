"""The readers that fuzz.py feeds: for each a function that makes sound files in a directory and returns the targets in it.

Here are those of runs, texts, examples and traces; those of weights and tokenizers have files of their own.
"""

import gzip
import hashlib
import json
import os

import numpy as np
from fuzz_targets import TEXT, Layer, Target, digest, used
from fuzz_tokenizers import hf_tokenizers, other_tokenizers, own_tokenizers
from fuzz_weights import hf_directories, llama2c_files, llama3np_files, safetensors_files

import tinyllm as tl
from tinyllm.load import load
from tinyllm.models import GPT, GPTConfig
from tinyllm.rl.pairs import read_pairs
from tinyllm.stepper import Trace
from tinyllm.stepper import page as pages
from tinyllm.stepper.terminal import Stepper, play
from tinyllm.stepper.trace import record
from tinyllm.text import reading, tokens
from tinyllm.tokenizers import CharTokenizer
from tinyllm.train.data import DataConfig
from tinyllm.train.examples import read_examples
from tinyllm.train.finetune import TuneConfig, Tuning
from tinyllm.train.loop import TrainConfig
from tinyllm.train.report import write_report
from tinyllm.train.session import Session

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
