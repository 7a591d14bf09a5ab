"""A run of a thousand steps with a fault every ten: it stops each time with the right line, goes on, and ends as the undisturbed run.

    python tests/soak/faults.py --steps 1000 --every 10 --seed 0

The faults, drawn by the seed, each at a step of its own:
    disk full       the file system of the run, a small tmpfs of its own, is filled up while it trains (where a tmpfs cannot be mounted,
                    every write to the run's files fails as on a full disk)
    weight, op, gradient
                    a NaN in a parameter, out of an operation, in a gradient (once: it does not come back when the step is run again)
    SIGINT, SIGTERM, impatient
                    Ctrl-C, a polite end by the system, Ctrl-C twice
Each must stop the run with exit code 1 and one line on standard error, the one that belongs to the fault. Then the disk has room again
and `--resume` goes on. In the end all that kill.py compares must be equal.
"""

import builtins
import collections
import contextlib
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runs import Attempt, arguments, difference, facts, going_on, prepare

from tinyllm.train.loop import Trainer

WORDS = ["train", "../text.txt", *"--layers 1 --heads 2 --width 8 --block 8 --batch 3 --shards 2 --eval-windows 2 --seed 7 --sample 20".split(),
         *"--eval-every 25 --dropout 0.1 --warmup 20".split()]
SAID = {        # the line that belongs to each fault
    "disk full": r"cannot write \S+: No space left on device",
    "weight": r"step \d+: loss nan, gradient norm \S+: parameter blocks\.0\.mlp\.\S+ already has a NaN or Inf\. Nothing was updated.*",
    "op": r"step \d+: loss nan, gradient norm \S+: forward of log\(\w+ \(32, 8\)\) yields NaN .*Nothing was updated.*",
    "gradient": r"step \d+: loss \S+, gradient norm nan: it did not happen again .*Nothing was updated.*",
    "SIGINT": r"stopped after step \d+, all saved; go on with: tinyllm train --resume \S+",
    "SIGTERM": r"stopped after step \d+, all saved; go on with: tinyllm train --resume \S+",
    "impatient": r"stopped by Ctrl-C",
}


class Fault:
    """Strikes in a run's process at the beginning of the step after `step`; `full` makes the disk full."""

    def __init__(self, kind, step, full):
        self.kind, self.step, self.full = kind, step, full

    def install(self):
        """Prepare this process, which is the run's own."""
        step, struck = Trainer.train_step, []

        def watched(trainer):
            if trainer.step < self.step or struck:
                return step(trainer)
            struck.append(True)
            return self._strike(trainer, step)
        Trainer.train_step = watched

    def _strike(self, trainer, step):
        weight = dict(trainer.model.named_parameters())["blocks.0.mlp.fc.weight"]
        if self.kind == "disk full":
            self.full()
        elif self.kind == "weight":
            weight.data[0, 0] = float("nan")
        elif self.kind == "op":
            loss = trainer.model.loss
            trainer.model.loss = lambda ids, targets: loss(ids, targets) + (weight * 0.0 - 1.0).log().sum()
            trainer.shards.models[1].loss = trainer.model.loss
        elif self.kind == "gradient":
            finish = trainer.shards.finish

            def once(*given):
                trainer.shards.finish = finish
                finish(*given)
                weight.grad[0, 0] = float("nan")
            trainer.shards.finish = once
        elif self.kind == "impatient":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        else:
            os.kill(os.getpid(), getattr(signal, self.kind))
        return step(trainer)


class SmallDisk:
    """A tmpfs of a megabyte, mounted in `directory`; without the right to mount, a directory whose writes can be made to fail."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir()
        mounted = shutil.which("mount") and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)], capture_output=True)
        self.real = bool(mounted) and mounted.returncode == 0

    def fill(self):
        """Leave no room."""
        if not self.real:
            return self._fail()
        with contextlib.suppress(OSError), open(self.directory / "filler", "wb", buffering=0) as file:
            for size in (4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def _fail(self):
        """Every file opened for writing from now on, in this process, cannot be written to."""
        really_open = builtins.open

        def opening(file, mode="r", *more, **options):
            if mode in ("wb", "ab") and str(self.directory) in os.path.abspath(file):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)
            return really_open(file, mode, *more, **options)
        builtins.open = opening

    def empty(self):
        """Make room again."""
        (self.directory / "filler").unlink(missing_ok=True)

    def close(self):
        """Unmount."""
        if self.real:
            subprocess.run(["umount", str(self.directory)], check=True)


def drawn(steps, every, seed):
    """[(kind, step)]: a fault in each stretch of `every` steps but the first, every kind as often as the others."""
    rng, kinds, faults = random.Random(seed), [], []
    for start in range(every, steps - 1, every):
        if not kinds:
            kinds = rng.sample(sorted(SAID), len(SAID))
        faults.append((kinds.pop(), min(start + rng.randrange(every), steps - 2)))
    return faults


def suffer(words, faults, disk, run, say):
    """Run through all faults; the complaints about how the run took them."""
    complaints = []
    for kind, step in faults:
        attempt = Attempt(going_on(words, run), changes=Fault(kind, step, disk.fill).install)
        code, said = attempt.wait(), attempt.said()[1]
        disk.empty()
        good = code == 1 and re.fullmatch(f"tinyllm: {SAID[kind]}\n", said)
        say(f"after step {step}: {kind}: exit code {code}: {said.strip()}")
        if not good:
            complaints.append(f"{kind} after step {step}: exit code {code}, said {said!r}")
    return complaints


def main():
    args = arguments(__doc__, "a line for each fault", steps=(1000, "of the run"), every=(10, "steps in which there is one fault"),
                     seed=(0, "of the faults"))
    here, scratch, began = os.getcwd(), tempfile.mkdtemp(), time.monotonic()
    prepare(scratch)
    disk = SmallDisk(Path(scratch) / "disk")
    try:
        os.chdir(disk.directory)
        words = [*WORDS, "--steps", str(args.steps)]
        faults = drawn(args.steps, args.every, args.seed)
        complaints = suffer(words, faults, disk, "run", print if args.verbose else lambda line: None)
        ends = {}
        for run in ("run", "../undisturbed"):       # beside the small disk, which has room for one
            attempt = Attempt(going_on(words, run))
            if attempt.wait():
                raise SystemExit(f"{run} does not end: {attempt.said()[1]}")
            ends[run] = facts(run, attempt.said()[0])
        wrong = difference(ends["run"], ends["../undisturbed"])
    finally:
        os.chdir(here)
        disk.close()
        shutil.rmtree(scratch)
    for complaint in complaints:
        print(complaint)
    kinds = ", ".join(f"{count} × {kind}" for kind, count in sorted(collections.Counter(kind for kind, _ in faults).items()))
    print(f"{args.steps} steps, {len(faults)} faults ({kinds}; disk: {'a tmpfs' if disk.real else 'failing writes'}): "
          f"{len(faults) - len(complaints)} stopped with their line and were resumed; the end is {wrong or 'bit-identical to the undisturbed run'}")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if complaints or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
