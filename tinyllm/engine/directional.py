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


def check_directional(function, *, eps, rtol, atol, rng, parameters=None):
    """One row for each leaf of a `Function` (or those in `parameters`), at its worst direction or entry."""
    rtol = max(rtol, 1e-5)
    outputs = function.outputs()
    cotangents = [rng.normal(size=y.shape).astype(y.dtype) for y in outputs]
    weights = flat(cotangents)
    gradients = {name: g.copy() for name, g in function.pull(outputs, cotangents).items()}
    base = flat([y.data for y in outputs])
    del outputs     # let the arrays go that its graph holds
    rows = []
    if base.tobytes() != function.here().tobytes():
        name = next(iter(function.leaves))
        return [Row(name, function.leaves[name].shape, status="wrong", relative=float("nan"),
                    diagnosis="two runs differ: the function draws from a generator that is not tinyllm's, or keeps state")]
    for name in parameters or function.leaves:
        row = Row(name, function.leaves[name].shape)
        gradient = gradients[name]
        compared = [_along(function, name, gradient, v, at, weights, eps) for v, at in _directions(gradient, rng)]
        compared += _silent_rows(function, name, gradient, base, weights, eps, rng)
        for analytic, numeric, at, direction in compared:
            row.entries += 1
            absolute = abs(analytic - numeric)
            size = max(abs(analytic), abs(numeric))
            relative = absolute / max(size, atol / rtol)
            failed = not absolute <= atol + rtol * size or at is not None and isinstance(direction, str) and analytic != numeric
            if failed and not isinstance(direction, str) and _has_kink(function, name, direction, weights, eps):
                status = "kink"
            else:
                status = "wrong" if failed else "ok"
            rank = ("ok", "kink", "wrong").index
            relative = relative if np.isfinite(relative) else np.inf
            if (rank(status), relative) >= (rank(row.status), row.relative):
                row.status, row.analytic, row.numeric, row.absolute, row.relative = status, analytic, numeric, absolute, relative
                row.index = at
                row.output = "along a random direction" if at is None else "of the weighted sum of the outputs"
        if row.status == "wrong":
            row.diagnosis = _diagnosis(row)
        rows.append(row)
    return rows


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


def _along(function, name, gradient, v, at, weights, eps):
    f = function.along(name, v)
    numeric = float(weights @ ((f(eps) - f(-eps)) / (2 * eps)))
    return float((gradient * v).sum()), numeric, at, v


def _silent_rows(function, name, gradient, base, weights, eps, rng):
    """Rows of a matrix that seem unused: gradient exactly 0 and outputs that stay as they are, bit for bit."""
    if gradient.ndim != 2 or len(gradient) < 2:
        return []
    size = np.abs(gradient).max(axis=1, initial=0)
    zero = np.flatnonzero(size == 0)
    chosen = rng.permutation(zero)[:ROWS // 2].tolist()
    chosen += [i for i in np.argsort(size) if size[i] > 0][:ROWS // 2]       # the least of the others: dust, if there is any
    found = []
    for i in chosen:
        v = np.zeros(gradient.shape)
        v[i] = rng.integers(0, 2, gradient.shape[1]) * 2.0 - 1.0
        f = function.along(name, v)
        up, down = f(eps), f(-eps)
        unused = up.tobytes() == base.tobytes() == down.tobytes()
        place = (int(i), int(np.abs(gradient[i]).argmax()))
        if unused:
            found.append((float(gradient[place]), 0.0, place, "unused row"))
        else:
            found.append((float((gradient * v).sum()), float(weights @ ((up - down) / (2 * eps))), place, v))
    return found


def _has_kink(function, name, direction, weights, eps):
    f = function.along(name, direction)
    return kinked(lambda d: float(weights @ f(d)), eps)


def _diagnosis(row):
    if not np.isfinite(row.analytic):
        return "the gradient is not finite"
    if row.numeric == 0:
        return "nothing depends on this entry, its gradient should be exactly 0"
    factor = row.analytic / row.numeric
    if factor == 0:
        return "the gradient is 0 where it should not be: the graph is cut on the way (.detach(), .numpy(), no_grad)"
    return "the sign is flipped" if abs(factor + 1) < 1e-4 else f"{factor:.6g} times the truth at this place"
