"""Damaged files for every reader: each is read, or refused with the reader's own error, in bounded time and memory.

    python tests/soak/fuzz.py                                20,000 files for each reader, some minutes
    python tests/soak/fuzz.py --only safetensors --files 500
    python tests/soak/fuzz.py --only trace --index 1234      that one file again, with the traceback

A sound file is damaged (mutations.py): bits, truncation, lengths, splices; for JSON also keys and values, depth, double keys. Where a
format has checksums or compression, half of the files are damaged inside and closed again with the right checksum. Counted are

    crashes     any exception that is neither UserError nor WorkError, and processes that die
    hangs       files that take more than 2 seconds of the processor, or 20 of the clock
    memory      files for which Python and NumPy allocate more than four times the file and 64 MB
    believed    files that are accepted although a checksum or a shape tells that they were changed

A file depends on the seed, the reader's name and its number alone. The command exits with 1 if anything was found.
"""

import argparse
import contextlib
import faulthandler
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import fuzz_readers
import mutations

from tinyllm.errors import UserError, WorkError

SECONDS, CLOCK = 2.0, 20
FREE, TIMES = 64 << 20, 4
ADDRESS_SPACE = 16 << 30
KINDS = ("crashes", "hangs", "memory", "believed")


def scratch():
    """A temporary directory, in memory where there is such a place: opening files is most of the work."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if os.access(memory, os.W_OK) else None)


class Hang(BaseException):
    """A file that took too long."""


def _alarm(*_):
    raise Hang


class Fuzz:
    """One reader and its sound files in a directory of their own."""

    def __init__(self, name, directory, seed=0):
        self.name, self.seed = name, seed
        self.targets = fuzz_readers.READERS[name](Path(directory))
        for target in self.targets:
            target.original = target.path.read_bytes()
            target.content = target.read()          # also compiles what is compiled at the first use
            assert target.believed(target.original, target.read()) is None, target.path

    def file(self, index):
        """(target, damaged bytes, whether its checksums were made right again) of a number."""
        rng = random.Random(f"{self.seed}:{self.name}:{index}")
        target = self.targets[index % len(self.targets)]
        data, resigned = mutations.damaged(rng, target, [other.original for other in self.targets])
        return target, data, resigned

    def try_one(self, index, found):
        """Read one damaged file; what is wrong is added to `found`. Returns (accepted, peak in bytes)."""
        target, data, resigned = self.file(index)
        target.path.write_bytes(data)
        tracemalloc.reset_peak()
        before, began = tracemalloc.get_traced_memory()[0], time.process_time()
        signal.setitimer(signal.ITIMER_REAL, CLOCK)
        accepted, problem = False, None
        try:
            content = target.read()
            accepted = True
        except (UserError, WorkError):
            pass
        except Hang:
            found["hangs"].append((index, "the clock"))
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error)[:200]}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1] - before
        if problem is not None:
            found["crashes"].append((index, problem))
        if seconds > SECONDS:
            found["hangs"].append((index, f"{seconds:.1f} s"))
        if peak > TIMES * len(data) + FREE:
            found["memory"].append((index, f"{peak >> 20} MB for {len(data):,} bytes"))
        if accepted:
            wrong = "it has a checksum" if target.checksum and not resigned and content != target.content else target.believed(data, content)
            if wrong:
                found["believed"].append((index, wrong))
        target.path.write_bytes(target.original)
        return accepted, peak

    def run(self, start, stop, progress=None):
        """Read the files of these numbers; returns a record of what was found."""
        found, accepted, most = {kind: [] for kind in KINDS}, 0, 0
        began = time.perf_counter()
        signal.signal(signal.SIGALRM, _alarm)
        tracemalloc.start()
        try:
            for index in range(start, stop):
                if progress:
                    progress.write_text(str(index))
                with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    ok, peak = self.try_one(index, found)
                accepted, most = accepted + ok, max(most, peak)
        finally:
            tracemalloc.stop()
        return {"files": stop - start, "accepted": accepted, "peak_mb": most / 1e6, "seconds": time.perf_counter() - began, **found}

    def show(self, index):
        """Read one file and let its error be seen."""
        target, data, resigned = self.file(index)
        target.path.write_bytes(data)
        print(f"{target.path.name}, {len(data):,} bytes{', checksums made right' if resigned else ''}")
        try:
            print("accepted:", target.believed(data, target.read()) or "nothing is wrong")
        except (UserError, WorkError) as error:
            print(f"refused: {type(error).__name__}: {error}")
        except Exception:
            traceback.print_exc()


def in_process(name, start, stop, seed, progress=None):
    """`Fuzz.run` in a temporary directory."""
    with scratch() as directory:
        return Fuzz(name, directory, seed).run(start, stop, progress)


def apart(name, files, seed):
    """The same in a process of its own, begun again behind the file if it dies."""
    total = None
    start = 0
    with scratch() as directory:
        progress = Path(directory, "progress")
        while start < files:
            command = [sys.executable, __file__, "--worker", name, str(start), str(files), str(seed), str(progress)]
            done = subprocess.run(command, stdout=subprocess.PIPE)
            part = json.loads(done.stdout) if done.returncode == 0 else None
            if part is None:
                if not progress.exists():
                    raise SystemExit(f"{name}: the worker did not start")
                index = int(progress.read_text())
                part = {"files": 1 + index - start, "accepted": 0, "peak_mb": 0.0, "seconds": 0.0, **{kind: [] for kind in KINDS},
                        "crashes": [(index, f"the process ended with {done.returncode}")]}
            start += part["files"]
            if total is None:
                total = part
            else:
                total = {key: max(total[key], part[key]) if key == "peak_mb" else total[key] + part[key] for key in total}
    return total


def row(name, record):
    """A line of the table."""
    counts = "".join(f"{len(record[kind]):>10}" for kind in KINDS)
    return f"{name:<14}{record['files']:>8}{record['accepted']:>10}{counts}{record['peak_mb']:>9.1f}{record['seconds']:>9.0f}"


def main():
    """Run the readers that are asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000, metavar="N", help="for each reader (20,000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--only", nargs="+", choices=tuple(fuzz_readers.READERS), metavar="READER", help=", ".join(fuzz_readers.READERS))
    parser.add_argument("--index", type=int, metavar="N", help="show what happens with this file of the one reader")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    faulthandler.enable()
    if args.worker:
        name, start, stop, seed, progress = args.worker
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        print(json.dumps(in_process(name, int(start), int(stop), int(seed), Path(progress))))
        return 0
    names = args.only or list(fuzz_readers.READERS)
    if args.index is not None:
        with scratch() as directory:
            Fuzz(names[0], directory, args.seed).show(args.index)
        return 0
    print(f"{'reader':<14}{'files':>8}{'accepted':>10}" + "".join(f"{kind:>10}" for kind in KINDS) + f"{'peak MB':>9}{'seconds':>9}")
    bad = False
    for name in names:
        record = apart(name, args.files, args.seed)
        print(row(name, record), flush=True)
        for kind in KINDS:
            for index, what in record[kind][:8]:
                print(f"    {kind}: --only {name} --index {index}: {what}", flush=True)
            bad = bad or bool(record[kind])
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
