"""The gates of a mixture's choices: from the router's numbers to the weight that each chosen expert's result gets.

    s = softmax(x) or sigmoid(x)                    over the E experts of a row of x, the router's logits
    y_j = factor · s_c,   c = chosen_j              or, normalised, factor · s_c / (Σ_i s_{c_i} + ε)

Backward: with S = Σ_i s_{c_i} + ε, normalising has dL/ds_c = factor (g_j - Σ_i g_i s_{c_i} / S) / S; then come the rules of
softmax, dx = s (ds - Σ ds s), or of the sigmoid, dx = ds s (1 - s).

`best` finds the choices: places of the k largest numbers of each row.
"""

import numpy as np

from .. import ops
from ..engine import STATE
from ._op import Fused, rows
from .kernels import PRECISIONS, kernel
from .softmax import Softmax, softmax_rows
from .vector_math import exp

SCORES = {"softmax": lambda x: Softmax.apply(x, axis=-1), "sigmoid": ops.sigmoid}
EPS = 1e-20         # beside the sum of the chosen scores, lest it be 0


@kernel("in2 out2")
def sigmoid_rows(x, y):
    """y = 1 / (1 + e⁻ˣ)"""
    one = x.dtype.type(1)
    for i in range(x.shape[0]):
        row, out = x[i], y[i]
        for j in range(row.size):
            out[j] = one / (one + exp(-row[j]))


@kernel("in2 ids2 int number out2")
def pick_rows(scores, chosen, normalise, factor, y):
    """y = factor · the scores at `chosen`, over their sum if `normalise`."""
    eps = scores.dtype.type(EPS)
    for i in range(y.shape[0]):
        row, places, out = scores[i], chosen[i], y[i]
        total = eps
        for j in range(out.size):
            out[j] = row[places[j]]
            total += out[j]
        share = factor / total if normalise else factor
        for j in range(out.size):
            out[j] *= share


@kernel("in2 in2 ids2 int int number out2")
def gates_backward(g, scores, chosen, normalise, softmax, factor, dx):
    """dL/dx of what `pick_rows` made of softmax(x), or of sigmoid(x)."""
    zero, one, eps = factor - factor, scores.dtype.type(1), scores.dtype.type(EPS)
    for i in range(g.shape[0]):
        row, places, g_row, out = scores[i], chosen[i], g[i], dx[i]
        total, along = eps, zero
        for j in range(g_row.size):
            total += row[places[j]]
            along += g_row[j] * row[places[j]]
        share, shift = (factor / total, along / total) if normalise else (factor, zero)
        for e in range(out.size):
            out[e] = zero
        for j in range(g_row.size):
            out[places[j]] += share * (g_row[j] - shift)
        inner = zero
        for e in range(out.size):
            inner += out[e] * row[e]
        for e in range(out.size):
            out[e] *= row[e]
            out[e] -= inner * row[e] if softmax else out[e] * row[e]


@kernel("in2 outids2")
def best_rows(scores, places):
    """The first places of each row: where its largest numbers are, of equals the lower; a NaN comes last."""
    for i in range(scores.shape[0]):
        row, out = scores[i], places[i]
        for j in range(out.size):
            found = -1
            for e in range(row.size):
                taken = False
                for before in range(j):
                    taken |= out[before] == e
                if not taken and (found < 0 or row[e] > row[found] or row[found] != row[found] and row[e] == row[e]):
                    found = e
            out[j] = found


def _scores(x, scoring):
    """The scores (N, E), few numbers; backward makes them again, for x is kept anyway."""
    scores = np.empty(rows(x).shape, x.dtype)
    (softmax_rows if scoring == "softmax" else sigmoid_rows)(rows(x), scores)
    return scores


class Gates(Fused):
    """y_j = factor · s at chosen_j, s = softmax(x) or sigmoid(x); over their sum if normalise"""

    def definition(x, *, chosen, scoring="softmax", normalise=False, factor=1.0):
        gates = ops.take_along_axis(SCORES[scoring](x), chosen, axis=-1)
        if normalise:
            gates = gates / (gates.sum(axis=-1, keepdims=True) + EPS)
        return gates * factor

    def forward(x, *, chosen, scoring="softmax", normalise=False, factor=1.0):
        y = np.empty(chosen.shape, x.dtype)
        pick_rows(_scores(x, scoring), rows(chosen), normalise, factor, rows(y))
        return y

    def grad_x(g, x, chosen, scoring, normalise, factor):
        dx = np.empty(x.shape, x.dtype)
        gates_backward(rows(g), _scores(x, scoring), rows(chosen), normalise, scoring == "softmax", factor, rows(dx))
        return dx

    def samples(rng):
        for scoring in SCORES:
            for normalise in (False, True):
                yield rng.normal(size=(2, 4)), {"chosen": np.array([[2, 0], [1, 3]]), "scoring": scoring, "normalise": normalise, "factor": 2.5}
        yield rng.normal(size=(2, 2, 3)), {"chosen": np.array([[[2, 0], [1, 0]], [[1, 2], [0, 1]]]), "normalise": True}
        yield rng.normal(size=(6, 4)).T[1::2, ::-2], {"chosen": np.array([[1], [0]])}


def gates(x, chosen, scoring="softmax", normalise=False, factor=1.0):
    """`factor` times the scores (softmax or sigmoid of `x` (..., E)) at `chosen` (..., k); with `normalise` they sum to `factor`.

    >>> import numpy as np, tinyllm as tl
    >>> gates(tl.Tensor([[0.0, 0.0, 0.0, 0.0]]), np.array([[2, 1]]), normalise=True, factor=3.0).numpy()
    array([[1.5, 1.5]], dtype=float32)
    """
    chosen = np.ascontiguousarray(chosen, np.int64)
    if not x.ndim or chosen.shape[:-1] != x.shape[:-1] or scoring not in SCORES:
        raise ValueError(f"gates: x {x.shape}, chosen {chosen.shape}, scoring {scoring!r}; expected (..., E), (..., k) and one of "
                         f"{', '.join(SCORES)}")
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < x.shape[-1]:
        raise ValueError(f"gates: chosen {chosen.min()} to {chosen.max()}; the experts are 0 to {x.shape[-1] - 1}")
    return Gates.apply(x, chosen=chosen, scoring=scoring, normalise=normalise, factor=float(factor))


def best(scores, k):
    """Places of the k largest along the last axis, of equals the lower: an array (..., E) -> (..., k).

    >>> best(np.array([0.1, 0.7, 0.7, 0.2]), 2)
    array([1, 2])
    """
    if STATE.fused and scores.dtype in PRECISIONS and k <= scores.shape[-1]:
        places = np.zeros((*scores.shape[:-1], k), np.int64)
        best_rows(rows(scores), rows(places))
        return places
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]
