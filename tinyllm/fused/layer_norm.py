"""Layer normalisation (Ba et al. 2016), over the last axis.

    x̂ = (x - mean(x)) / σ,   σ = √(var(x) + eps)          var is the biased one: Σ (x - mean)² / C
    y = x̂ · weight + bias

The gradient g passes `weight` first: ĝ = g · weight. In x̂ both mean and σ depend on every x, which takes two
directions out of ĝ: the constant one and x̂ itself, for moving x along either does not change x̂:

    dx = (ĝ - mean(ĝ) - x̂ · mean(ĝ · x̂)) / σ
"""

import numpy as np

from .. import ops
from ._op import NOWHERE, Fused, rows, vector
from .kernels import kernel


@kernel("in2 in1 in1 number out2 out1 out1")
def layer_norm_rows(x, weight, bias, eps, y, mean, r):
    """y, and of each row the mean and r = 1/σ."""
    one, zero = x.dtype.type(1), x.dtype.type(0)
    share = one / x.dtype.type(x.shape[1])
    for i in range(x.shape[0]):
        row, out = x[i], y[i]
        total = zero
        for j in range(row.size):
            total += row[j]
        m = total * share
        square = zero
        for j in range(row.size):
            square += (row[j] - m) * (row[j] - m)
        s = one / np.sqrt(square * share + eps)
        for j in range(row.size):
            out[j] = (row[j] - m) * s * weight[j] + bias[j]
        mean[i], r[i] = m, s


@kernel("in2 in2 in1 in1 in1 out2 out1 out1")
def layer_norm_rows_backward(g, x, weight, mean, r, dx, dweight, dbias):
    """dx = (ĝ - mean(ĝ) - x̂ · mean(ĝ · x̂)) r;  dweight = Σ over rows of g x̂,  dbias = Σ g, both given as zeros.

    In sums of 64 rows and then of these: of few large sums little is rounded off.
    """
    zero, part_weight, part_bias = x.dtype.type(0), np.empty_like(dweight), np.empty_like(dbias)
    share = x.dtype.type(1) / x.dtype.type(x.shape[1])
    for first in range(0, x.shape[0], 64):
        part_weight[:] = 0
        part_bias[:] = 0
        for i in range(first, min(first + 64, x.shape[0])):
            row, g_row, out, m, s = x[i], g[i], dx[i], mean[i], r[i]
            total = along = zero
            for j in range(row.size):
                centred = row[j] - m
                total += g_row[j] * weight[j]
                along += g_row[j] * weight[j] * centred
                part_weight[j] += g_row[j] * centred * s
                part_bias[j] += g_row[j]
            total, along = total * share, along * share * s * s
            for j in range(row.size):
                out[j] = (g_row[j] * weight[j] - total - (row[j] - m) * along) * s
        for j in range(dweight.size):
            dweight[j] += part_weight[j]
            dbias[j] += part_bias[j]


def _sweep(g, x, weight, mean, r):
    """(dx, dweight, dbias): all in one sweep over the rows."""
    C, dx, (dweight, dbias) = x.shape[-1], np.empty(x.shape, x.dtype), np.zeros((2, x.shape[-1]), x.dtype)
    layer_norm_rows_backward(rows(g), rows(x), vector(weight, C, x.dtype), mean, r, rows(dx), dweight, dbias)
    return dx, dweight, dbias


class LayerNorm(Fused):
    """y = (x - mean) / √(var + eps) · weight + bias, over the last axis"""

    def definition(*inputs, eps=1e-5):
        x, weight, bias = inputs
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(centred * centred, axis=-1, keepdims=True)
        return centred / ops.sqrt(variance + eps) * weight + bias

    def forward(*inputs, eps=1e-5, saved=NOWHERE):
        x, weight, bias = inputs
        C, y = x.shape[-1], np.empty(x.shape, x.dtype)
        saved.mean, saved.r = mean, r = np.empty((2, y.size // max(C, 1)), x.dtype)
        layer_norm_rows(rows(x), vector(weight, C, x.dtype), vector(bias, C, x.dtype), eps, rows(y), mean, r)
        return y

    def grad_inputs(g, inputs, saved): return _sweep(g, *inputs[:2], saved.mean, saved.r)

    def samples(rng):
        yield rng.normal(size=(2, 3)), rng.normal(size=3), rng.normal(size=3), {}
        yield rng.normal(size=(2, 3, 4)), rng.normal(size=4), rng.normal(size=4), {"eps": 0.1}
        yield 3 + 2 * rng.normal(size=5), rng.normal(size=5), 0.0, {}
        yield rng.normal(size=(3, 4)), 1.0, 0.0, {}
        yield rng.normal(size=(4, 6))[::2, ::-2].T, rng.normal(size=2), rng.normal(size=2), {"eps": 0.5}


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    """(x - mean) / √(var + eps) · weight + bias over the last axis; `weight` and `bias` (C,) or None.

    >>> import tinyllm as tl
    >>> layer_norm(tl.Tensor([1.0, 2.0, 3.0])).numpy().round(4)
    array([-1.2247,  0.    ,  1.2247], dtype=float32)
    """
    return LayerNorm.apply(x, 1.0 if weight is None else weight, 0.0 if bias is None else bias, eps=eps)
