"""Runs that are killed, again and again, and must end as if nothing had happened.

    python tests/soak/kill.py --runs 100 --seed 0

Moments: each run of `tinyllm train`, `finetune` or `rl` is killed (SIGKILL) one to four times at moments that the seed draws, each
time resumed, on one thread or two as it comes, and then left to finish. Every tenth run does it in fresh processes.
Points: one run of training and one of reinforcement learning for each point of everything they write: before a file is opened, after
half of a write has reached the file, before and after it is flushed, synced, renamed, after the directory is synced, before and after an
old file is removed. There the process kills itself, and is resumed.

Equal to the uninterrupted run must be: the weights and the optimizer's arrays, to the bit; the JSON of the checkpoints; metrics.jsonl,
each number, without the clock's; the tokenizer; the samples; and the names of all files.
"""

import builtins
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

from runs import COMMANDS, Attempt, arguments, difference, facts, going_on, prepare

POINTS = {      # short runs, in which every point of every write is visited
    "train": ["train", "text.txt", *"--layers 1 --heads 2 --width 8 --block 8 --batch 3 --eval-windows 2 --seed 7 --sample 20".split(),
              *"--steps 4 --eval-every 2 --shards 2 --dropout 0.1".split()],
    "rl": ["rl", "ppo", *"--task copy --difficulty 2 --init start --seed 3 --eval-prompts 8 --steps 3 --eval-every 2 --episodes 8".split()],
}


class Disk:
    """Counts the points at which a process touches the files of a run, and kills it at the one with number `fatal`.

    `install()` is meant for a process of its own: it replaces what the whole interpreter writes files with.
    """

    def __init__(self, run, fatal=None, log=None):
        self.run, self.fatal, self.log, self.count, self.last = os.path.abspath(run), fatal, log, 0, "start"

    def point(self, name):
        """One more point reached."""
        self.count, self.last = self.count + 1, name
        if self.log:
            self.log.write(name + "\n")
            self.log.flush()
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def _ours(self, path):
        return isinstance(path, (str, os.PathLike)) and os.path.abspath(path).startswith(self.run)

    def install(self):
        """From now on this process is watched."""
        really_open = builtins.open

        def opening(file, mode="r", *more, **options):
            if not (self._ours(file) and mode in ("wb", "ab")):
                return really_open(file, mode, *more, **options)
            name = os.path.relpath(file, self.run).replace(f".{os.getpid()}", "")
            self.point(f"before {name} is opened")
            return _File(really_open(file, mode, *more, **options), name, self)

        builtins.open = opening
        for module, function, names in ((os, "replace", True), (os, "fsync", False), (pathlib.Path, "unlink", True), (pathlib.Path, "mkdir", True)):
            self._around(module, function, names)

    def _around(self, module, function, named):
        really = getattr(module, function)

        def watched(target, *more, **options):
            if named and not self._ours(target):
                return really(target, *more, **options)
            name = f"{function} {os.path.relpath(target, self.run).replace(f'.{os.getpid()}', '') if named else f'({self.last})'}"
            self.point(f"before {name}")
            result = really(target, *more, **options)
            self.point(f"after {name}")
            return result
        setattr(module, function, watched)


class _File:
    """A file whose every write reaches the disk in two halves."""

    def __init__(self, file, name, disk):
        self._file, self._name, self._disk = file, name, disk

    def write(self, data):
        data = bytes(data)
        self._file.write(data[:len(data) // 2])
        self._file.flush()
        self._disk.point(f"half of a write to {self._name}")
        self._file.write(data[len(data) // 2:])
        self._disk.point(f"after a write to {self._name}, before it is flushed")
        return len(data)

    def flush(self):
        self._file.flush()
        self._disk.point(f"{self._name} flushed")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


def finished(words, run, **options):
    """Start or resume a run and let it end; the facts about it."""
    attempt = Attempt(going_on(words, run), **options)
    if attempt.wait():
        raise SystemExit(f"{' '.join(going_on(words, run))} failed: {attempt.said()[1]}")
    return facts(run, attempt.said()[0])


def moments(count, seed, say):
    """`count` runs killed at random moments; how many of them ended as they should."""
    rng, whole, right, kills = random.Random(seed), {}, 0, 0
    for number in range(count):
        kind, words = list(COMMANDS.items())[number % len(COMMANDS)]
        fresh = number % 10 == 9 - number // 10 % 10        # each kind in its turn
        if kind not in whole:
            began = time.perf_counter()
            whole[kind] = finished(words, f"whole-{kind}"), time.perf_counter() - began
        expected, seconds = whole[kind]
        run, killed = f"killed-{number}", 0
        times = rng.randint(1, 4)
        while killed < times:
            attempt = Attempt(going_on(words, run), threads=rng.randint(1, 2), fresh=fresh)
            if attempt.kill_after(rng.uniform(0, seconds) + (fresh and rng.uniform(0.3, 1))):
                killed += 1
            elif killed:
                break                   # it was too fast, and has ended
            else:
                shutil.rmtree(run)
                seconds /= 2
        wrong = difference(finished(words, run, threads=rng.randint(1, 2), fresh=fresh), expected)
        right, kills = right + (wrong is None), kills + killed
        say(f"run {number + 1}/{count}: {kind}{', fresh processes' if fresh else ''}, killed {killed} times: {wrong or 'equal'}")
        shutil.rmtree(run)
    print(f"random moments: {right} of {count} runs, killed {kills} times, ended bit-identical")
    return right == count


def points(kind, every, say):
    """A run of `kind` killed at every `every`-th point of its writing; whether all ended as they should."""
    words = POINTS[kind]
    expected = finished(words, f"points-{kind}")
    with open("points.txt", "w") as log:
        finished(words, f"counting-{kind}", changes=lambda: Disk(f"counting-{kind}", log=log).install())
    names = pathlib.Path("points.txt").read_text().splitlines()
    # a file is written in many pieces, and a log at every step: three of a kind are enough
    chosen = [i + 1 for i, name in enumerate(names) if names[:i].count(name) < 3][::every]
    right = 0
    for number in chosen:
        run = f"point-{number}"
        attempt = Attempt(going_on(words, run), changes=lambda: Disk(run, fatal=number).install())
        if attempt.wait() != -signal.SIGKILL:
            raise SystemExit(f"{kind} did not come to point {number}, {names[number - 1]}: {attempt.said()[1]}")
        wrong = difference(finished(words, run), expected)
        right += wrong is None
        say(f"{kind}, point {number}/{len(names)}, {names[number - 1]}: {wrong or 'equal'}")
        shutil.rmtree(run)
    print(f"points of writing, {kind}: {right} of {len(chosen)} runs, each killed at another of {len(names)} points, ended bit-identical")
    return right == len(chosen)


def main():
    args = arguments(__doc__, "a line for each run", runs=(100, "runs to kill at random moments"), every=(1, "visit every N-th point of writing"),
                     seed=(0, "of the moments"))
    say = print if args.verbose else lambda line: None if line.endswith("equal") else print(line)
    here, scratch = os.getcwd(), tempfile.mkdtemp()
    began = time.monotonic()
    try:
        prepare(scratch)
        good = [moments(args.runs, args.seed, say), *(points(kind, args.every, say) for kind in POINTS)]
    finally:
        os.chdir(here)
        shutil.rmtree(scratch)
    print(f"{time.monotonic() - began:.0f} s")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
