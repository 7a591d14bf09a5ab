"""The directional check, for functions with too many derivatives to try each: a model and its parameters.

For L = Σ c · y with random c, and every parameter p by itself,

    8 directions v of random signs     dL along v by differences   against   Σ (∂L/∂p) v
    20 random entries, the 5 largest   the same along one axis
    rows of zeros (an embedding's      L must not change with them, and a row L does not
    unused ids), up to 4               change with must have a gradient of exactly 0

One direction misses a single flipped sign in 100,000 entries one time in five at rtol 1e-3; eight at 1e-5 practically
never do.
"""

import numpy as np

from .differences import flat, kinked
from .gradcheck_report import Row

DIRECTIONS, ENTRIES, LARGEST, ROWS = 8, 20, 5, 4
RANK = {"ok": 0, "kink": 1, "wrong": 2}


def check_directional(function, *, eps, rtol, atol, rng):
    """One row for each leaf of a `Function`, at its worst direction or entry."""
    outputs = function.outputs()
    cotangents = [rng.normal(size=y.shape).astype(y.dtype) for y in outputs]
    weights, base = flat(cotangents), flat([y.data for y in outputs])
    gradients = {name: g.copy() for name, g in function.pull(outputs, cotangents).items()}
    del outputs, cotangents     # let the arrays go that the graph holds
    rows = [Row(name, leaf.shape) for name, leaf in function.leaves.items()]
    if base.tobytes() != function.here().tobytes():
        rows[0].status, rows[0].relative = "wrong", np.inf
        rows[0].diagnosis = "two runs differ: the function draws from a generator that is not tinyllm's, or keeps state"
        return rows
    if not any(g.any() for g in gradients.values()):
        rows[0].status, rows[0].diagnosis = "uninformative", "every gradient is 0: nothing that is checked reaches the output"
    noise = np.finfo(np.float64).eps * float(np.abs(weights) @ np.abs(base))      # of one evaluation
    for row in rows:
        gradient = gradients[row.name]
        tries = [(v, at, None) for v, at in _directions(gradient, rng)] + _silent_rows(function, row.name, gradient, base, eps, rng)
        least = min(atol, 1e-4 * np.abs(gradient).max(initial=0) + 4 * noise / eps)    # small gradients are held to more than atol
        for v, at, numeric in tries:
            row.entries += 1
            _try(row, function, gradient, v, at, numeric, weights, (eps, max(rtol, 1e-5), least))
        if row.status == "wrong":
            row.diagnosis = _diagnosis(row)
        elif row.status == "ok" and row.analytic == row.numeric == 0 and not gradient.any():
            row.status = "flat"
    return rows


def _try(row, function, gradient, v, at, numeric, weights, settings):
    """Compare along one direction; what is worse than what the row holds takes its place."""
    eps, rtol, atol = settings
    exact = numeric is not None
    analytic = float(gradient[at]) if exact else float((gradient * v).sum())
    f = function.along(row.name, v)
    for h in (eps,) if exact else (eps, eps / 10):      # a smaller step stays on one side of a kink, and on a curve's tangent
        numeric = numeric if exact else float(weights @ ((f(h) - f(-h)) / (2 * h)))
        absolute, size = abs(analytic - numeric), max(abs(analytic), abs(numeric))
        failed = analytic != numeric if exact else not absolute <= atol * eps / h + rtol * size
        if not failed:
            break
    kink = failed and not exact and bool(kinked(lambda d: weights @ f(d), eps))
    status = "kink" if kink else "wrong" if failed else "ok"
    relative = absolute / max(size, atol * eps / h / rtol, 1e-300)
    relative = relative if np.isfinite(relative) else np.inf
    if (RANK[status], relative) >= (RANK.get(row.status, 3), row.relative):
        row.status, row.analytic, row.numeric, row.absolute, row.relative, row.index = status, analytic, numeric, absolute, relative, at
        row.test = "random direction" if at is None else "random cotangent"


def _directions(gradient, rng):
    """(direction, index or None) for all tries at one parameter."""
    if not gradient.size:
        return
    for _ in range(DIRECTIONS):
        yield rng.integers(0, 2, gradient.shape) * 2.0 - 1.0, None
    random = rng.choice(gradient.size, min(ENTRIES, gradient.size), replace=False)
    largest = np.argsort(-np.abs(gradient), axis=None)[:LARGEST]
    for j in dict.fromkeys([*random.tolist(), *largest.tolist()]):
        unit = np.zeros(gradient.shape)
        unit.flat[j] = 1
        yield unit, tuple(int(i) for i in np.unravel_index(j, gradient.shape))


def _silent_rows(function, name, gradient, base, eps, rng):
    """Rows of a matrix that seem unused: gradient exactly 0 and outputs that stay as they are, bit for bit."""
    if gradient.ndim != 2 or len(gradient) < 2:
        return []
    size = np.abs(gradient).max(axis=1, initial=0)
    chosen = rng.permutation(np.flatnonzero(size == 0))[:ROWS // 2].tolist()
    chosen += [int(i) for i in np.argsort(size) if size[i] > 0][:ROWS // 2]     # the least of the others: dust, if there is any
    found = []
    for i in chosen:
        v = np.zeros(gradient.shape)
        v[i] = rng.integers(0, 2, gradient.shape[1]) * 2.0 - 1.0
        f = function.along(name, v)
        unused = f(eps).tobytes() == base.tobytes() == f(-eps).tobytes()
        found.append((v, (i, int(np.abs(gradient[i]).argmax())), 0.0) if unused else (v, None, None))
    return found


def _diagnosis(row):
    if not np.isfinite(row.analytic):
        return "the gradient is not finite"
    if row.numeric == 0:
        return "nothing depends on this entry, its gradient should be exactly 0"
    factor = row.analytic / row.numeric
    if factor == 0:
        return "the gradient is 0 where it should not be: the graph is cut on the way (.detach(), .numpy(), no_grad)"
    return "the sign is flipped" if abs(factor + 1) < 1e-4 else f"{factor:.6g} times the truth at this place"
