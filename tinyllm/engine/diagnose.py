"""What a wrong Jacobian looks like: the mistakes people make when they write a rule, each known by its face.

With A what the rule gives and J the truth, both (elements of y, elements of x):

    A = -J                          the sign is flipped
    A = n J                         the mean over n elements was forgotten (or A = J / n: taken once too often)
    A = J / 2                       x enters twice, one contribution is missing
    A = J with axes exchanged       the transpose, of the result or of an operand inside the rule
    A = J of another input          the rule of the other operand
    A = J in some rows, else 0      only one slice, or one of several readers, of y sends its gradient back
    A = 0                           the graph is cut
"""

import itertools
import math

import numpy as np


def diagnose(analytic, truth, shape, outputs, others):
    """The likely mistake behind `analytic` where `truth` was expected, in words; "" if it is none of the catalogue.

    `shape`: of the input; `outputs`: shapes of the outputs; `others`: name -> truth for the other inputs.
    """
    if not np.isfinite(analytic).all():
        at = np.argwhere(~np.isfinite(analytic))[0]
        return f"the rule gives {analytic[tuple(at)]} where the slope is {truth[tuple(at)]:.6g}: divided by 0, or log of 0?"
    if not np.isfinite(truth).all():
        return "the function itself gives NaN or Inf next to this point"
    size = max(np.abs(truth).max(initial=0), 1e-12)
    near = min(1e-5, max(1e-9, 0.1 * np.abs(analytic - truth).max() / size))    # told apart from the truth, but not from rounding

    def same(a, b):
        return a.shape == b.shape and np.allclose(a, b, rtol=near, atol=0.1 * near * size)

    if same(analytic, np.zeros_like(truth)):
        return "the gradient is 0 everywhere: the graph is cut on the way (.detach(), .numpy(), no_grad), or the rule returns 0"
    return (_scaled(same, analytic, truth, shape, outputs) or _another(same, analytic, truth, others)
            or _transposed(same, analytic, truth, shape, outputs) or _partial(same, analytic, truth, shape, outputs)
            or _where(analytic, truth, shape, near))


def _scaled(same, analytic, truth, shape, outputs):
    big = np.unravel_index(np.abs(truth).argmax(), truth.shape)
    if truth[big] == 0:
        return None
    factor = analytic[big] / truth[big]
    if not same(analytic, factor * truth) or same(analytic, truth):
        return None
    if math.isclose(factor, -1, rel_tol=1e-5):
        return "the sign is flipped: equals the truth × -1"
    counts = {}
    for lengths in (shape, *outputs):
        for r in range(1, len(lengths) + 1):
            for axes in itertools.combinations(range(len(lengths)), r):
                counts.setdefault(math.prod(lengths[a] for a in axes), axes)
    for n, axes in sorted(counts.items()):
        where = f"{n} elements (axis {', '.join(map(str, axes))})"
        if n > 1 and math.isclose(factor, n, rel_tol=1e-5):
            return f"equals the truth × {n}: forgot the mean over {where}?"
        if n > 1 and n != 2 and math.isclose(factor, 1 / n, rel_tol=1e-5):
            return f"equals the truth / {n}: a mean over {where} where a sum belongs?"
    if math.isclose(factor, 0.5, rel_tol=1e-5):
        return "half the truth: missing accumulation? the input enters twice, and both contributions must be added"
    return f"equals the truth × {factor:.6g}: a factor is wrong"


def _another(same, analytic, truth, others):
    for name, other in others.items():
        if same(analytic, other) and not same(truth, other):
            return f"equals the gradient of {name}: the other operand's rule"
    for name, other in others.items():
        if other.shape != truth.shape:
            continue
        if same(analytic, truth + other) or same(truth, analytic + other):
            return f"off by the gradient of {name}: the other operand's rule is mixed in"
    return None


def _transposed(same, analytic, truth, shape, outputs):
    for one, two in itertools.combinations(range(len(shape)), 2):
        if shape[one] == shape[two]:
            swapped = np.swapaxes(truth.reshape(-1, *shape), 1 + one, 1 + two).reshape(truth.shape)
            if same(analytic, swapped):
                return f"equals the transpose of the truth (axes {one} and {two} of the gradient exchanged)"
    if len(outputs) == 1:
        for one, two in itertools.product(range(len(outputs[0])), range(len(shape))):
            if outputs[0][one] == shape[two]:
                swapped = np.swapaxes(truth.reshape(*outputs[0], *shape), one, len(outputs[0]) + two).reshape(truth.shape)
                if same(analytic, swapped):
                    return "equals the truth with a matrix transposed inside the rule: a .mT is missing, or one too many"
    return None


def _partial(same, analytic, truth, shape, outputs):
    """Rows of A that are zero while the others are right: some outputs send nothing back."""
    scale = np.abs(truth).max()
    silent = (np.abs(analytic) <= 1e-9 * scale).all(axis=1) & (np.abs(truth) > 1e-9 * scale).any(axis=1)
    if not silent.any() or not same(analytic[~silent], truth[~silent]):
        return None
    if len(outputs) == 1:
        dead = silent.reshape(outputs[0])
        for axis in range(dead.ndim):
            lines = np.moveaxis(dead, axis, 0).reshape(dead.shape[axis], -1)
            if dead.shape[axis] > 1 and sorted(set(lines.sum(axis=1))) == [0, lines.shape[1]] and lines.all(axis=1).sum() == len(lines) - 1:
                if dead.ndim > len(shape) or len(shape) == dead.ndim and shape[axis] == 1:
                    return (f"missing unbroadcast: one slice of axis {axis} is passed on, the other {len(lines) - 1} are lost; "
                            f"the input {shape} was stretched along it, so sum over axis {axis}")
    readers = (np.abs(truth) > 1e-9 * scale).sum(axis=0)
    if (readers > 1).any():
        return (f"missing accumulation: {silent.sum()} of {len(silent)} output elements send nothing back; where an input element "
                "is read several times its gradients add up (np.add.at, +=)")
    return f"{silent.sum()} of {len(silent)} output elements send nothing back"


def _where(analytic, truth, shape, near):
    """Where the errors are, if they are together somewhere."""
    wrong = (~np.isclose(analytic, truth, rtol=near, atol=1e-9)).any(axis=0).reshape(shape)
    if wrong.all() or not wrong.any():
        return ""
    for axis in range(wrong.ndim):
        others = tuple(a for a in range(wrong.ndim) if a != axis)
        lines = np.flatnonzero(wrong.any(axis=others))
        if len(lines) == 1 and wrong.shape[axis] > 1:
            return f"wrong only at index {lines[0]} of axis {axis}"
    return f"wrong in {wrong.sum()} of {wrong.size} input elements, right in the others"
