"""Tiny runs for the soak scripts: their commands, a process for each attempt, and what has to be equal in the end.

A run takes a fraction of a second, of which starting Python would be the most. So one process loads everything once and forks: a
child changes into the scratch directory, runs the command line as a user would, and leaves its words in files. Fresh processes,
with another order of Python's sets each, are to be had too.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tinyllm.cli import main
from tinyllm.engine.threads import set_num_threads
from tinyllm.train.metrics import read_metrics

SMALL = "--layers 1 --heads 2 --width 8 --block 8 --batch 3 --shards 2 --eval-windows 2 --seed 7 --sample 20".split()
RL = "--task copy --difficulty 2 --init start --seed 3 --eval-prompts 16".split()
COMMANDS = {
    "gpt": ["train", "text.txt", *SMALL, *"--steps 90 --eval-every 7 --accumulate 2 --dropout 0.1".split()],
    "llama": ["train", "text.txt", *SMALL, *"--steps 90 --eval-every 6 --model llama --early-stop 9".split()],
    "deepseek": ["train", "text.txt", *SMALL, *"--steps 60 --eval-every 6 --model deepseek --layers 2".split()],
    "epochs": ["train", "text.txt", *SMALL, *"--steps 90 --eval-every 8 --stride 8 --tokenizer bpe --vocab-size 300 --val-fraction 0".split()],
    "finetune": ["finetune", "base", "examples.jsonl", *"--template lines --steps 60 --lora 2 --seed 5".split()],
    "sft": ["rl", "sft", *RL, *"--steps 40 --eval-every 5 --batch 8".split()],
    "reward": ["rl", "reward", *RL, *"--pairs pairs.jsonl --steps 40 --eval-every 5 --batch 8".split()],
    "grpo": ["rl", "grpo", *RL, *"--steps 20 --eval-every 3 --prompts 4 --group-size 4 --minibatches 2 --epochs 2 --beta 0.02".split()],
    "ppo": ["rl", "ppo", *RL, *"--steps 20 --eval-every 3 --episodes 16 --value-warmup 2 --target-kl 1 --reward judge".split()],
    "dpo": ["rl", "dpo", *RL, *"--pairs pairs.jsonl --steps 40 --eval-every 5 --batch 8".split()],
}
CLOCK = {"seconds", "tokens_per_second", "seconds_sampling", "seconds_learning", "metrics_bytes", "sha256"}


def arguments(text, verbose, **numbers):
    """The arguments of a script whose docstring is `text`: --verbose, and whole numbers, name=(default, what it is)."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (default, meaning) in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{meaning} ({default})")
    parser.add_argument("--verbose", action="store_true", help=verbose)
    return parser.parse_args()


def prepare(scratch):
    """Make the texts and the runs that others start from in `scratch`, and go there. All kernels are loaded on the way."""
    os.chdir(scratch)
    bottles = "".join(f"{i} green bottles, hanging on the wall;\n" for i in range(99, 0, -1))
    Path("text.txt").write_text(bottles)
    answers = [{"prompt": f"{i} green", "response": " bottles"} for i in range(10, 40)]
    Path("examples.jsonl").write_text("".join(json.dumps(record) + "\n" for record in answers))
    pairs = [{"prompt": f"{i}=", "chosen": f"{i}", "rejected": f"{i + 1}"} for i in range(10, 60)]
    Path("pairs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in pairs))
    set_num_threads(1)          # a process that forks must have no other threads
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        assert main(["train", "text.txt", *SMALL, "--block", "24", "--steps", "5", "--out", "base"]) == 0
        assert main(["rl", "sft", *"--task copy --difficulty 2 --layers 1 --heads 2 --width 16 --steps 60 --seed 0 --out start".split()]) == 0
        assert main(["rl", "reward", *RL, *"--pairs pairs.jsonl --steps 10 --out judge".split()]) == 0


def going_on(words, run):
    """The words that go on with the run that `words` started, or that start it where it has not begun."""
    if not (Path(run) / "config.json").exists():
        return [*words, "--out", str(run)]
    return [words[0], "--resume", str(run), *(words[words.index("--sample"):][:2] if words[0] == "train" else [])]


class Attempt:
    """A process that runs the command line on `words`; `changes()`, if given, is called in it first."""

    def __init__(self, words, threads=1, changes=None, fresh=False):
        self.files = [Path(f"said-{stream}.txt") for stream in ("out", "err")]
        if fresh:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "random"}
            with open(self.files[0], "w") as out, open(self.files[1], "w") as err:
                self._process = subprocess.Popen([sys.executable, "-m", "tinyllm", *words], stdout=out, stderr=err, env=environment)
            self.pid = self._process.pid
            return
        self._process = None
        self.pid = os.fork()
        if self.pid == 0:
            self._child(words, threads, changes)

    def _child(self, words, threads, changes):
        code = 70
        try:
            for stream, file in zip((1, 2), self.files):
                handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.dup2(handle, stream)
            sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in (1, 2))
            set_num_threads(threads)
            if changes:
                changes()
            code = main(words)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def kill_after(self, seconds):
        """SIGKILL after so long; whether it was still at work."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.001)
        os.kill(self.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def wait(self):
        """The exit code, negative for the signal that ended it."""
        if self._process is not None:
            return self._process.wait()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def said(self):
        """What it wrote to standard output and standard error."""
        return tuple(file.read_text() for file in self.files)


def facts(run, said):
    """All that must be the same in the end: every file of the run without the clock's numbers, and the last words with the sample."""
    found = {}
    for path in sorted(Path(run).rglob("*")):
        name = str(path.relative_to(run))
        if path.is_dir() or name == "report.html":          # the report shows seconds
            continue
        if path.name == "metrics.jsonl":
            found[name] = [_without_clock(record) for record in read_metrics(path)]
        elif path.suffix == ".json":
            found[name] = _without_clock(json.loads(path.read_text()))
        else:
            found[name] = path.read_bytes()
    lines = said.replace(str(run), "RUN").splitlines()
    last = max((i for i, line in enumerate(lines) if re.match(r"step |going on after|.* seed \d+; RUN$", line)), default=-1)
    return found | {"said": lines[last + 1:]}


def _without_clock(value):
    if isinstance(value, dict):
        return {key: _without_clock(item) for key, item in value.items() if key not in CLOCK}
    return value


def difference(facts, others):
    """The first thing that differs between two runs, in words; None if nothing does."""
    if facts.keys() != others.keys():
        return f"files {sorted(facts.keys() ^ others.keys())} are there once only"
    for name in facts:
        if facts[name] != others[name]:
            if isinstance(facts[name], list):
                pair = next((p for p in zip(facts[name], others[name]) if p[0] != p[1]), (len(facts[name]), len(others[name])))
                return f"{name}: {pair[0]} and {pair[1]}"
            return f"{name} differs"
    return None
