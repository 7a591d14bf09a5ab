"""What recording and walking a graph costs beside the arithmetic itself.

The smallest case shows it best: a 4×4 `multiply`, forward and backward, where NumPy does three 4×4 products (one
forward, two in backward) and everything else is the engine. `ratio` is the engine's time over three bare
`np.multiply` calls, each measured in turn so that a slow spell of the machine meets both.
"""

import statistics
import time

import numpy as np

CHAIN = 100


def run(rounds=600):
    """Rows of {case, microseconds, bare, ratio, ratio_best}: medians over `rounds` alternated measurements."""
    from .. import Tensor
    rng = np.random.default_rng(0)
    a, b = (Tensor(rng.uniform(0.9, 1.1, size=(4, 4)), requires_grad=True) for _ in range(2))
    x, y, g = a.data.copy(), b.data.copy(), np.ones((4, 4))

    def bare():
        for _ in range(CHAIN):
            np.multiply(x, y)
            np.multiply(x, y)
            np.multiply(x, y)

    def single():
        for _ in range(CHAIN):
            a.grad = b.grad = None
            (a * b).backward(g)

    def chain():
        z = a
        for _ in range(CHAIN):
            z = z * b
        z.backward(g)

    def forward():
        for _ in range(CHAIN):
            a * b

    cases = {"one multiply, forward and backward": single, "multiply in a chain of 100, forward and backward": chain,
             "multiply, forward only": forward}
    seconds = {name: [] for name in cases}
    base = []
    for _ in range(rounds):
        base.append(_time(bare))
        for name, case in cases.items():
            seconds[name].append(_time(case))
    bare_median = statistics.median(base)
    return [{"case": name, "microseconds": 1e6 * statistics.median(times) / CHAIN,
             "three np.multiply": 1e6 * bare_median / CHAIN,
             "ratio": statistics.median(t / u for t, u in zip(times, base)), "ratio of the best": min(times) / min(base)}
            for name, times in seconds.items()]


def _time(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def table(rows):
    """The rows as text."""
    lines = [f"{'4x4 float64':<52}{'us':>8}{'3 np.multiply':>16}{'ratio':>8}{'best':>8}"]
    for row in rows:
        lines.append(f"{row['case']:<52}{row['microseconds']:>8.2f}{row['three np.multiply']:>16.2f}"
                     f"{row['ratio']:>8.2f}{row['ratio of the best']:>8.2f}")
    return "\n".join(lines)
