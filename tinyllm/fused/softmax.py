"""Softmax and its logarithm.

    y_i = e^{x_i} / Σ_j e^{x_j}                   ∂y_i/∂x_j = y_i (δ_ij - y_j)
    dL/dx_j = Σ_i g_i y_i (δ_ij - y_j) = y_j (g_j - Σ_i g_i y_i)

The largest x is subtracted first: the fraction does not change, and nothing overflows. For the logarithm
ℓ = log y = x - log Σ eˣ the same derivation gives dL/dx_j = g_j - y_j Σ_i g_i.
"""

import numpy as np

from .. import ops
from ._op import Fused


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


class Softmax(Fused):
    """y = eˣ / Σ eˣ along axis"""

    def definition(x, *, axis=-1):
        return ops.exp(LogSoftmax.definition(x, axis=axis))

    def forward(x, *, axis=-1):
        y = np.exp(x - np.max(x, axis=axis, keepdims=True))
        y /= np.sum(y, axis=axis, keepdims=True)
        return y

    def grad_x(g, y, axis): return y * (g - np.sum(g * y, axis=axis, keepdims=True))

    def samples(rng): return draw(rng)


class LogSoftmax(Fused):
    """y = x - log Σ eˣ along axis"""

    def definition(x, *, axis=-1):
        return x - ops.logsumexp(x, axis=axis, keepdims=True)

    def forward(x, *, axis=-1):
        y = x - np.max(x, axis=axis, keepdims=True)
        return y - np.log(np.sum(np.exp(y), axis=axis, keepdims=True))

    def grad_x(g, y, axis): return g - np.exp(y) * np.sum(g, axis=axis, keepdims=True)

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
