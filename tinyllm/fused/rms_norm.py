"""Root-mean-square normalisation (Zhang and Sennrich 2019), over the last axis.

    r = 1 / √(mean(x²) + eps),   x̂ = x · r,   y = x̂ · weight

LayerNorm without the mean: only the direction of x̂ itself drops out of the gradient. With ĝ = g · weight,

    dx = r · (ĝ - x̂ · mean(ĝ · x̂))
"""

import numpy as np

from .. import ops
from ._op import NOWHERE, Fused, rows, vector
from .kernels import kernel


@kernel("in2 in1 number out2 out1")
def rms_norm_rows(x, weight, eps, y, scale):
    """y, and of each row the scale r. Where rows are longer than weight, what is beyond is left alone, here as below."""
    one, C = x.dtype.type(1), weight.size
    share = one / x.dtype.type(C)
    for i in range(x.shape[0]):
        row, out = x[i, :C], y[i, :C]
        square = x.dtype.type(0)
        for j in range(row.size):
            square += row[j] * row[j]
        r = one / np.sqrt(square * share + eps)
        for j in range(row.size):
            out[j] = row[j] * r * weight[j]
        scale[i] = r


@kernel("in2 in2 in1 in1 out2")
def rms_norm_rows_backward(g, x, weight, scale, dx):
    """dx = r (ĝ - x̂ · mean(ĝ · x̂))"""
    C = weight.size
    share = x.dtype.type(1) / x.dtype.type(C)
    for i in range(x.shape[0]):
        row, g_row, out, r = x[i, :C], g[i, :C], dx[i, :C], scale[i]
        along = x.dtype.type(0)
        for j in range(row.size):
            along += g_row[j] * weight[j] * row[j]
        along *= share * r * r
        for j in range(row.size):
            out[j] = (g_row[j] * weight[j] - row[j] * along) * r


@kernel("in2 in2 in1 out1")
def rms_norm_weight(g, x, scale, dweight):
    """dweight (given as zeros) = Σ over rows of g x̂, 64 rows at a time: of few large sums little is rounded off"""
    part = np.empty_like(dweight)
    for first in range(0, x.shape[0], 64):
        part[:] = 0
        for i in range(first, min(first + 64, x.shape[0])):
            row, g_row, r = x[i, :dweight.size], g[i, :dweight.size], scale[i]
            for j in range(row.size):
                part[j] += g_row[j] * row[j] * r
        for j in range(part.size):
            dweight[j] += part[j]


class RMSNorm(Fused):
    """y = x / √(mean(x²) + eps) · weight, over the last axis"""
    name = "rms_norm"

    def definition(x, weight, *, eps=1e-5):
        return x / ops.sqrt(ops.mean(x * x, axis=-1, keepdims=True) + eps) * weight

    def forward(x, weight, *, eps=1e-5, saved=NOWHERE):
        C, y = x.shape[-1], np.empty(x.shape, x.dtype)
        saved.r = r = np.empty(y.size // max(C, 1), x.dtype)
        rms_norm_rows(rows(x), vector(weight, C, x.dtype), eps, rows(y), r)
        return y

    def grad_x(g, x, weight, saved):
        dx = np.empty(x.shape, x.dtype)
        rms_norm_rows_backward(rows(g), rows(x), vector(weight, x.shape[-1], x.dtype), saved.r, rows(dx))
        return dx

    def grad_weight(g, x, saved):
        dweight = np.zeros(x.shape[-1], x.dtype)
        rms_norm_weight(rows(g), rows(x), saved.r, dweight)
        return dweight

    def samples(rng):
        yield rng.normal(size=(2, 3)), rng.normal(size=3), {}
        yield rng.normal(size=(2, 3, 4)), rng.normal(size=4), {"eps": 0.1}
        yield 3 + rng.normal(size=5), 1.0, {}
        yield rng.normal(size=(4, 6))[::2, ::-2].T, rng.normal(size=2), {"eps": 0.5}


def rms_norm(x, weight=None, eps=1e-5):
    """x / √(mean(x²) + eps) · weight over the last axis; `weight` (C,) or None.

    >>> import tinyllm as tl
    >>> rms_norm(tl.Tensor([3.0, 4.0])).numpy().round(4)        # root mean square √12.5
    array([0.8485, 1.1314], dtype=float32)
    """
    return RMSNorm.apply(x, 1.0 if weight is None else weight, eps=eps)
