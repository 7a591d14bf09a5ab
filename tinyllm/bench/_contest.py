"""How contenders are compared: each in a process of its own, in turn, round after round.

Two thread pools in one process wait for each other and measure nothing, so every contender is a program that is started
once, gets ready, and then waits, asleep, for its turn. In each round every contender has one turn; a figure is the median
over the rounds and a ratio the median of the rounds' ratios, so that a slow spell of the machine meets all of them. A round
in which other programs used more than a tenth of the machine is dropped, if enough rounds are left without it.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

FOREIGN = 0.1           # share of the machine that others may use in a turn
ROOT = str(Path(__file__).parents[2])


class Contender:
    """A process that calls `function` of `module` with `arguments`, which returns what to do at each turn.

    `turn()` does it once and returns {"seconds", "cpu", "foreign", …}: wall time and processor time of one turn, the share
    of the machine that went to others, and what the function itself reports.
    """

    def __init__(self, module, function, environment=None, **arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from tinyllm.bench._contest import serve; serve({module!r}, {function!r})"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")]), **(environment or {})})
        self.ready = self._ask(arguments)

    def _ask(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a contender ended with exit code {self.process.wait()}: its own message is above")
        return json.loads(line)

    def turn(self):
        return self._ask({})

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def serve(module, function):
    """The other side: get ready, then answer each line with one turn. Whatever the work prints goes to standard error."""
    import importlib
    answers, sys.stdout = sys.stdout, sys.stderr

    def answer(result):
        answers.write(json.dumps(result) + "\n")
        answers.flush()

    work = getattr(importlib.import_module(module), function)(**json.loads(sys.stdin.readline()))
    answer({})
    for _ in sys.stdin:
        busy, wall, cpu = busy_seconds(), time.perf_counter(), time.process_time()
        result = work() or {}
        wall, cpu, busy = time.perf_counter() - wall, time.process_time() - cpu, busy_seconds() - busy
        answer({"seconds": wall, "cpu": cpu, "foreign": max(0.0, busy - cpu) / (wall * (os.cpu_count() or 1)),
                "memory": peak_memory(), **result})


def busy_seconds():
    """Seconds that all processors together have worked since the machine started; 0 where the system does not say."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, *interrupts = map(int, file.readline().split()[1:8])
    except OSError:
        return 0.0
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def peak_memory():
    """Most memory this process has had at once, in bytes."""
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def contest(contenders, rounds, fewest=3):
    """name -> Contender: their turns, name -> list of what `turn` returned, and how many rounds were dropped for foreign load."""
    turns = [{name: contender.turn() for name, contender in contenders.items()} for _ in range(rounds)]
    for contender in contenders.values():
        contender.close()
    quiet = [turn for turn in turns if all(result["foreign"] <= FOREIGN for result in turn.values())]
    kept = quiet if len(quiet) >= min(fewest, rounds) else turns
    return {name: [turn[name] for turn in kept] for name in contenders}, {"dropped": len(turns) - len(kept), "disturbed": len(kept) - len(quiet)}


def median(results, key="seconds"):
    """The median of one figure."""
    return statistics.median(result[key] for result in results)


def ratio(others, own, key="seconds"):
    """How many times as long the others took: the median of the rounds' ratios."""
    return statistics.median(a[key] / b[key] for a, b in zip(others, own))


def note(told):
    """One line on foreign load for a table."""
    parts = []
    if told["dropped"]:
        parts.append(f"{told['dropped']} rounds with foreign load dropped")
    if told["disturbed"]:
        parts.append(f"{told['disturbed']} rounds kept in spite of foreign load: use the ratios only, and repeat on a quiet machine")
    return "; ".join(parts)
