"""Softmax and its logarithm.

    y_i = e^{x_i} / Σ_j e^{x_j}                   ∂y_i/∂x_j = y_i (δ_ij - y_j)
    dL/dx_j = Σ_i g_i y_i (δ_ij - y_j) = y_j (g_j - Σ_i g_i y_i)

The largest x is subtracted first: the fraction does not change, and nothing overflows. For the logarithm
ℓ = log y = x - log Σ eˣ the same derivation gives dL/dx_j = g_j - y_j Σ_i g_i.
"""

import numpy as np

from .. import ops
from ._op import Fused, rows
from .kernels import kernel
from .vector_math import exp, largest


def draw(rng):
    """Samples: every kind of axis, logits at scale 1 and 10, sizes 1 and 0."""
    yield rng.normal(size=5), {}
    yield rng.normal(size=(2, 3)), {"axis": 0}
    large = 10 * rng.normal(size=(3, 4))
    large[0, :2] = large.max() + rng.normal(size=2)     # two rivals, lest every slope vanish
    yield large, {"axis": 1}
    yield rng.normal(size=(2, 3, 4)), {"axis": -2}
    yield rng.normal(size=(0, 3)), {}
    yield rng.normal(size=(4, 6))[::2, ::-2].T, {}


@kernel("in2 out2")
def softmax_rows(x, y):
    """Each row of y the softmax of the row of x."""
    one = x.dtype.type(1)
    for i in range(x.shape[0]):
        row, out = x[i], y[i]
        top = largest(row)
        total = one - one
        for j in range(row.size):
            e = exp(row[j] - top)
            out[j] = e
            total += e
        share = one if top == np.inf else one / total       # beside an Inf all others are 0, and it is itself NaN
        for j in range(row.size):
            out[j] *= share


@kernel("in2 in2 out2")
def softmax_rows_backward(g, y, dx):
    """dx = y (g - Σ g y), row by row."""
    for i in range(g.shape[0]):
        g_row, y_row, out = g[i], y[i], dx[i]
        along = g.dtype.type(0)
        for j in range(out.size):
            along += g_row[j] * y_row[j]
        for j in range(out.size):
            out[j] = y_row[j] * (g_row[j] - along)


@kernel("in2 out2")
def log_softmax_rows(x, y):
    """Each row of y the log-softmax of the row of x."""
    for i in range(x.shape[0]):
        row, out = x[i], y[i]
        top = largest(row)
        total = x.dtype.type(0)
        for j in range(row.size):
            total += exp(row[j] - top)
        minus = x.dtype.type(0) if top == np.inf else np.log(total)
        for j in range(row.size):
            out[j] = (row[j] - top) - minus


@kernel("in2 in2 out2")
def log_softmax_rows_backward(g, y, dx):
    """dx = g - e^y Σ g, row by row."""
    for i in range(g.shape[0]):
        g_row, y_row, out = g[i], y[i], dx[i]
        total = g.dtype.type(0)
        for j in range(out.size):
            total += g_row[j]
        for j in range(out.size):
            out[j] = g_row[j] - exp(y_row[j]) * total


def along(axis, function, *arrays):
    """An array filled by `function(*arrays, out)`, whose rows are the vectors along `axis`."""
    moved = [np.moveaxis(array, axis, -1) for array in arrays]
    out = np.empty(moved[0].shape, moved[0].dtype)
    if out.size:
        function(*map(rows, moved), rows(out))
    return np.moveaxis(out, -1, axis)


class Softmax(Fused):
    """y = eˣ / Σ eˣ along axis"""

    def definition(x, *, axis=-1):
        return ops.exp(LogSoftmax.definition(x, axis=axis))

    def forward(x, *, axis=-1): return along(axis, softmax_rows, x)

    def grad_x(g, y, axis): return along(axis, softmax_rows_backward, g, y)

    def samples(rng): return draw(rng)


class LogSoftmax(Fused):
    """y = x - log Σ eˣ along axis"""

    def definition(x, *, axis=-1):
        return x - ops.logsumexp(x, axis=axis, keepdims=True)

    def forward(x, *, axis=-1): return along(axis, log_softmax_rows, x)

    def grad_x(g, y, axis): return along(axis, log_softmax_rows_backward, g, y)

    def samples(rng): return draw(rng)


def softmax(x, axis=-1):
    """eˣ / Σ eˣ along `axis`: non-negative numbers that sum to 1.

    >>> import tinyllm as tl
    >>> softmax(tl.Tensor([1.0, 0.0, 0.0])).numpy().round(3)
    array([0.576, 0.212, 0.212], dtype=float32)
    """
    return Softmax.apply(x, axis=axis)


def log_softmax(x, axis=-1):
    """log softmax(x), without the underflow of log(softmax(x)).

    >>> import tinyllm as tl
    >>> log_softmax(tl.Tensor([1000.0, 0.0])).numpy()
    array([    0., -1000.], dtype=float32)
    """
    return LogSoftmax.apply(x, axis=axis)
