"""What is equal to the bit, and what to tolerance: measured, and printed as two tables in Markdown.

    python tests/soak/determinism.py

Everything in SUBJECTS is done in processes of their own: twice on one thread and one core, once on two threads and all cores; each with
another order of Python's sets. Their results are files of arrays, compared byte by byte. PAIRS compares two subjects with each other,
where the same thing is computed in another order: there the difference is told, in parts of the largest number. Training over MPI is
among them where mpiexec and mpi4py are installed.
"""

import argparse
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from runs import ROOT, facts

import tinyllm as tl
from tinyllm.cli import main as tinyllm
from tinyllm.engine.threads import set_num_threads
from tinyllm.weights import safetensors

MODEL = "--layers 2 --heads 4 --width 64 --block 32 --batch 8 --tokenizer char --seed 7".split()
STEPS = "--steps 30 --eval-every 10 --eval-windows 20 --sample 40 --dropout 0.1".split()
RL = "--task copy --difficulty 3 --layers 1 --width 32 --seed 3 --eval-prompts 64 --eval-every 4".split()
ONE_STEP = "--steps 1 --warmup 0 --eval-every 1 --eval-windows 20 --sample 0 --dropout 0".split()
RUNS = 0


MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
TEXT = Path("../tales.txt")     # one for all processes: a run's config.json says where it is


def run(words):
    """What comes out of a run of the command line."""
    global RUNS
    RUNS += 1
    path = Path(f"run{RUNS}")
    assert tinyllm([*words, "--out", str(path)]) == 0
    return outcome(path)


def outcome(path):
    """The facts about a run (a digest) and its best weights."""
    record = hashlib.sha256(repr(sorted(facts(path, "").items())).encode()).digest()
    return {"facts": np.frombuffer(record, np.uint8), **tl.load(path)[0].state_dict()}


def train(*words):
    return lambda threads: run(["train", str(TEXT), *MODEL, *words])


def over_mpi(*words):
    """`train` in two processes."""
    def measured(threads):
        path = Path("mpi")
        subprocess.run([MPIEXEC, "-n", "2", sys.executable, "-m", "tinyllm", "train", str(TEXT), *MODEL, *words, "--threads", "1", "--out", str(path)],
                       check=True, capture_output=True)
        return outcome(path)
    return measured


def rl(way, *words):
    return lambda threads: run(["rl", way, *RL, *words])


@functools.cache
def _model():
    tl.manual_seed(0)
    return tl.models.Llama(tl.models.LlamaConfig(vocab_size=300, n_layer=2, n_head=4, n_kv_head=2, n_embd=64, ffn_dim=128, block_size=64)).eval()


def generate(use_cache=True):
    def measured(threads):
        prompts = np.arange(12).reshape(4, 3)
        return {"ids": _model().generate(prompts, 50, temperature=0.8, top_k=50, seed=1, use_cache=use_cache)}
    return measured


def logits(through):
    """Of the same ids at once, one by one from a cache, or by definitions in place of kernels."""
    def measured(threads):
        model, ids = _model(), np.arange(40)[None] * 7 % 300
        with tl.no_grad(), tl.fused(through != "definitions"):
            if through != "cache":
                return {"logits": model(ids).numpy()}
            cache = model.make_cache(1, 40)
            return {"logits": np.concatenate([model(ids[:, [t]], cache).numpy() for t in range(40)], axis=1)}
    return measured


def bpe(threads):
    tokenizer = tl.tokenizers.BPETokenizer.train(TEXT.read_text() * 30, 2000, threads=threads)
    return {"merges": np.array(tokenizer.merges)}


def encoding(threads):
    text = TEXT.read_text()
    tokenizer = tl.tokenizers.BPETokenizer.train(text, 600)
    parts = [text[i:i + 1000] for i in range(0, len(text), 1000)]
    rows = tokenizer.encode_batch(parts, threads=threads)
    assert tokenizer.decode_batch(rows, threads=threads) == parts
    return {"ids": np.concatenate(rows), "stored": np.array(tl.text.tokens.stored(tokenizer, [str(TEXT)], f"cache{os.getpid()}"))}


SUBJECTS = {
    "training a GPT (dropout, 2 shards)": train(*STEPS, "--shards", "2", "--accumulate", "2"),
    "training a Llama (2 shards)": train(*STEPS, "--shards", "2", "--model", "llama"),
    "training a DeepSeek (mixture of experts, 3 shards)": train(*STEPS, "--shards", "3", "--model", "deepseek"),
    "sampling from a Llama": generate(),
    "training a BPE tokenizer": bpe,
    "encoding and decoding in batches, ids kept in files": encoding,
    "`rl sft`": rl("sft", "--steps", "20"),
    "`rl grpo`": rl("grpo", "--warm-until", "0.05", "--steps", "8", "--prompts", "8"),
    "`rl ppo`": rl("ppo", "--warm-until", "0.05", "--steps", "8", "--episodes", "32"),
    "`rl dpo`": rl("dpo", "--warm-until", "0.05", "--steps", "8"),
}
HALVES = {      # subjects for PAIRS
    "one shard": train(*ONE_STEP, "--shards", "1"), "two shards": train(*ONE_STEP, "--shards", "2"),
    "two batches": train(*ONE_STEP, "--shards", "1", "--batch", "4", "--accumulate", "2"),
    "at once": logits("once"), "cache": logits("cache"), "definitions": logits("definitions"),
    "with cache": generate(), "without cache": generate(use_cache=False),
}
PAIRS = {
    "weights after a step, a batch in 1 shard and in 2": ("one shard", "two shards"),
    "weights after a step, 8 windows at once and twice 4": ("one shard", "two batches"),
    "logits, all tokens at once and one by one from a cache": ("at once", "cache"),
    "tokens sampled with a cache and without": ("with cache", "without cache"),
    "logits, kernels and definitions": ("at once", "definitions"),
}


if MPIEXEC and importlib.util.find_spec("mpi4py"):
    HALVES |= {"one process": train(*STEPS, "--shards", "2"), "two processes": over_mpi(*STEPS, "--shards", "2")}
    PAIRS["training a GPT (dropout, 2 shards) in 1 process and in 2 over MPI"] = "one process", "two processes"


def measure(names, threads, directory):
    """Do what `names` says and write what comes out."""
    set_num_threads(threads)
    os.chdir(directory)
    for number, name in enumerate(names):
        results = {**SUBJECTS, **HALVES}[name](threads)
        safetensors.save(f"result{number}.safetensors", {key: np.ascontiguousarray(array) for key, array in results.items()})


def measured(names, threads, cores, scratch):
    """`measure` in a process of its own; its directory."""
    directory = Path(tempfile.mkdtemp(dir=scratch))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "random"}
    words = [sys.executable, __file__, "--measure", "|".join(names), "--threads", str(threads), "--cores", str(cores), "--directory", str(directory)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return directory


def verdict(one, other):
    """How two files of results differ, in words."""
    if one.read_bytes() == other.read_bytes():
        return "to the bit"
    one, other = safetensors.load(one), safetensors.load(other)
    one.pop("facts", None), other.pop("facts", None)
    if one.keys() != other.keys() or any(one[name].dtype.kind != "f" for name in one):
        return "different"
    scale = max(np.abs(array).max() for array in one.values())
    return f"to {max(np.abs(one[name].astype(np.float64) - other[name]).max() for name in one) / scale:.0e} of the largest"


def tables(subjects):
    """Both tables, row by row."""
    with tempfile.TemporaryDirectory() as scratch:
        names = [*subjects, *HALVES]
        (Path(scratch) / TEXT.name).write_text(tl.text.tales.corpus(100_000))
        first, again, threaded = (measured(names, threads, cores, scratch) for threads, cores in ((1, 1), (1, 1), (2, 0)))
        yield "equal to the bit", "in another process", "on 2 threads, all cores"
        for number, name in enumerate(subjects):
            file = f"result{number}.safetensors"
            yield name, verdict(first / file, again / file), verdict(first / file, threaded / file)
        yield "computed in another way", "equal"
        for name, pair in PAIRS.items():
            yield name, verdict(*(first / f"result{names.index(half)}.safetensors" for half in pair))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only a GPT, sampling and BPE")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        if args.cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.cores])
        return measure(args.measure.split("|"), args.threads, args.directory)
    subjects = [name for name in SUBJECTS if not args.quick or name in (
        "training a GPT (dropout, 2 shards)", "sampling from a Llama", "training a BPE tokenizer")]
    wrong = False
    for row in tables(subjects):
        print(("\n" if "equal" in row else "") + f"| {' | '.join(row)} |")
        if "equal" in row[0] or "equal" in row:
            print("|---" * len(row) + "|")
        wrong |= "different" in row or row[0] in subjects and set(row[1:]) != {"to the bit"}
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
