"""Byte pair encoding against the libraries people use: rustbpe, ffbpe, gigabpe, Hugging Face's tokenizers, tiktoken.

    tinyllm bench bpe                                     what is installed, on Pride and Prejudice or the tales
    TINYLLM_BENCH_TEXT=large.txt tinyllm bench bpe        and on a large text of your own

Every measurement has a process of its own and the contenders take turns; a time is the median over the rounds. A
ratio is the peer's time by ours within a round, again the median over the rounds: in CPU seconds for one thread,
which other work on the machine disturbs less, by the clock for two. Imports, compilation and loading are left out;
the first use of the kernels has rows of its own. Peers are looked for in the Python that TINYLLM_BENCH_PYTHON names (this one if unset).

The target of a row is a floor for its ratio (for memory and start-up, a ceiling in what the row says).
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tinyllm import text, tokenizers
from tinyllm.tokenizers import huggingface, ranks, split

ROUNDS = 3
WORKER = Path(__file__).with_name("_bpe_worker.py")
SHORT = "hello world, this is a sixty byte string, more or less. Yes!"
# encodes as GPT-2's own pattern does, and is the form tiktoken ships
TIKTOKEN_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


def run(rounds=ROUNDS):
    """Rows of {work, peer, ours, theirs, ratio, target, unit}; see the module's docstring."""
    with tempfile.TemporaryDirectory() as place:
        return _Bench(Path(place), rounds).rows()


class _Bench:
    def __init__(self, place, rounds):
        self.rounds = rounds
        self.peers = os.environ.get("TINYLLM_BENCH_PYTHON", sys.executable)
        self.small = place / "small.txt"
        known = text.find("pride-and-prejudice")
        self.small.write_bytes(known.read_bytes() if known else text.read("tales").encode())
        self.large = os.environ.get("TINYLLM_BENCH_TEXT")
        gpt2 = Path(os.environ.get("TINYLLM_DATA", place), "gpt2")
        if gpt2.is_dir():
            tokenizer = tokenizers.load(gpt2)
        else:
            tokenizer = tokenizers.BPETokenizer.train(self.small, 8192)
        self.files = {"own": str(place / "own.json"), "tiktoken": str(place / "x.tiktoken"), "huggingface": str(place / "hf.json")}
        tokenizer.save(self.files["own"])
        ranks.save(tokenizer, self.files["tiktoken"])
        huggingface.save(tokenizer, self.files["huggingface"])

    def rows(self):
        rows = []
        small = {"path": str(self.small), "document": 32 << 10}
        train = {"task": "train", "pattern": split.PATTERNS["gpt2"]}
        encode = {"task": "encode", "pattern": TIKTOKEN_PATTERN, **self.files}
        rows += self.compare("train 4,096, a book", {"rustbpe": 7, "tokenizers": 16}, train, small, vocab_size=4096, repeat=9)
        rows += self.compare("encode, a book", {"tiktoken": 8, "tokenizers": 30}, encode, small, repeat=9)
        rows += self.compare("encode 60 bytes", {"tiktoken": 1}, encode, text=SHORT, repeat=9, calls=20_000, cold=False, list=True)
        for name, hostile in hostile_texts():
            rows += self.compare(f"encode 1 MB of {name}", {"tiktoken": 1}, encode, text_file=hostile, repeat=3)
        if self.large:
            rows += self.large_rows(train, encode, {"path": self.large, "document": 256 << 10})
        else:
            rows += self.compare("decode, a book", {"tiktoken": 3.5}, {**encode, "task": "decode"}, small, repeat=9)
        return rows + self.starts()

    def large_rows(self, train, encode, large):
        megabytes = f"{os.path.getsize(self.large) / 1e6:.0f} MB"
        job = {**train, **large, "vocab_size": 32768}
        rows = self.compare(f"train 32,768, {megabytes}", {"rustbpe": 6, "ffbpe": 4.5, "gigabpe": 1.8, "tokenizers": 20}, job)
        rows += [{**row, "work": f"memory of it, {megabytes}", "ours": row["our_memory"] / 1e6, "theirs": row["their_memory"] / 1e6,
                  "ratio": row["our_memory"] / row["their_memory"], "target": "≤ 0.8", "unit": "MB"}
                 for row in rows if row["peer"] == "rustbpe"]
        ours = self.rounds_of(("tinyllm", {**job, "threads": 2}), ("tinyllm", job))
        rows.append(self.row(f"train, {megabytes}, two threads", "one thread", 1.2, ours, "seconds"))
        rows += self.compare(f"encode, {megabytes}", {"tiktoken": 5, "tokenizers": 25}, encode, large)
        rows += self.compare(f"decode, {megabytes}", {"tiktoken": 3.5}, {**encode, "task": "decode"}, large, repeat=3)
        return rows

    def compare(self, work, targets, *jobs, **options):
        """A row for each peer that is there."""
        job = {key: value for part in jobs for key, value in part.items()} | options
        if "text_file" in job:
            path = self.small.with_name("hostile.txt")
            path.write_bytes(job.pop("text_file").encode())
            job |= {"path": str(path), "document": 1 << 20}
        found = []
        for peer, target in targets.items():
            if self.has(peer):
                found.append(self.row(work, peer, target, self.rounds_of(("tinyllm", job), (peer, job)), "cpu"))
        return found

    def rounds_of(self, *contenders):
        """[(ours, theirs), …] of the rounds, the contenders taking turns."""
        return [tuple(self.measure(who, job) for who, job in contenders) for _ in range(self.rounds)]

    def row(self, work, peer, target, rounds, measure):
        ours, theirs = zip(*rounds)
        return {"work": work, "peer": peer, "ours": statistics.median(m["seconds"] for m in ours),
                "theirs": statistics.median(m["seconds"] for m in theirs),
                "ratio": statistics.median(b[measure] / a[measure] for a, b in rounds), "target": f"≥ {target}", "unit": "s",
                "our_memory": statistics.median(m["memory"] for m in ours),
                "their_memory": statistics.median(m["memory"] for m in theirs)}

    def starts(self):
        """Rows for the first use in a new process, in CPU seconds, with an empty and with a filled cache of compiled code."""
        rows = []
        with tempfile.TemporaryDirectory() as cache:
            for work, target in (("kernels' first compile", 15), ("start with compiled kernels", 0.4)):
                seconds = self.measure("tinyllm", {"task": "start"}, NUMBA_CACHE_DIR=cache)["cpu"]
                rows.append({"work": work, "peer": "", "ours": seconds, "theirs": None, "ratio": None,
                             "target": f"≤ {target} s", "unit": "s"})
        return rows

    def has(self, peer):
        found = subprocess.run([self.peers, "-c", f"import {peer}"], capture_output=True, check=False)
        return found.returncode == 0

    def measure(self, who, job, **environment):
        """One measurement in a process of its own."""
        python = sys.executable if who == "tinyllm" else self.peers
        root = str(Path(__file__).parents[2])
        told = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]), **environment}
        done = subprocess.run([python, str(WORKER), json.dumps({"who": who, **job})], env=told, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)


def hostile_texts():
    """(name, text) of about a megabyte each, seeded: no spaces, random Chinese, one repeated letter, and the like."""
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    yield "one letter", "a" * 1_000_000
    yield "letters without a space", "".join(rng.choices(letters, k=1_000_000))
    yield "spaces", " " * 1_000_000
    yield "line ends", "\n" * 1_000_000
    yield "random Chinese", "".join(chr(rng.randrange(0x4E00, 0x9F00)) for _ in range(333_333))
    yield "emoji", "".join(chr(rng.randrange(0x1F300, 0x1F580)) for _ in range(250_000))
    yield "random words", " ".join("".join(rng.choices(letters, k=rng.randrange(8, 13))) for _ in range(90_000))
    yield "random Latin-1", "".join(chr(rng.randrange(0xA0, 0x100)) for _ in range(500_000))


def table(rows):
    """The rows of `run` as text.

    >>> print(table([{"work": "encode", "peer": "tiktoken", "ours": 0.5, "theirs": 3.0, "ratio": 6.0, "target": "≥ 5", "unit": "s"}]))
    work                                 against          ours      theirs   ratio  target
    encode                               tiktoken       0.5000      3.0000    6.00  ≥ 5
    """
    lines = [f"{'work':<36} {'against':<12} {'ours':>8} {'theirs':>11} {'ratio':>7}  target"]
    for row in rows:
        ours, theirs = _number(row["ours"]), _number(row["theirs"])
        lines.append(f"{row['work']:<36} {row['peer']:<12} {ours:>8} {theirs:>11} "
                     f"{'' if row['ratio'] is None else format(row['ratio'], '.2f'):>7}  {row['target']}".rstrip())
    return "\n".join(lines)


def _number(value):
    if value is None:
        return ""
    return f"{value:.1f}" if value >= 100 else f"{value:.4f}" if value >= 1e-3 else f"{value * 1e6:.2f}e-6"
