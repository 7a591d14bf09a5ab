"""Root-mean-square normalisation (Zhang and Sennrich 2019), over the last axis.

    r = 1 / √(mean(x²) + eps),   x̂ = x · r,   y = x̂ · weight

LayerNorm without the mean: only the direction of x̂ itself drops out of the gradient. With ĝ = g · weight,

    dx = r · (ĝ - x̂ · mean(ĝ · x̂))

`add_rms_norm` is a residual connection and the norm behind it: the sum is normalised while it is at hand. In the graph these
are two nodes, each with its own rule.
"""

import numpy as np

from .. import ops
from ..engine import Tensor
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


@kernel("in2 in2 in1 number out2 out2 out1")
def add_rms_norm_rows(x, branch, weight, eps, total, y, scale):
    """total = x + branch, and of that what `rms_norm_rows` gives, while a row is at hand."""
    one = x.dtype.type(1)
    share = one / x.dtype.type(weight.size)
    for i in range(x.shape[0]):
        row, added, stream, out = x[i], branch[i], total[i], y[i]
        square = x.dtype.type(0)
        for j in range(row.size):
            t = row[j] + added[j]
            stream[j] = t
            square += t * t
        r = one / np.sqrt(square * share + eps)
        for j in range(row.size):
            out[j] = stream[j] * r * weight[j]
        scale[i] = r


@kernel("in2 in2 in1 in1 out2 out1")
def rms_norm_rows_backward(g, x, weight, scale, dx, dweight):
    """dx = r (ĝ - x̂ · mean(ĝ · x̂)), dweight (given as zeros) = Σ over rows of g x̂.

    In sums of 64 rows and then of these: of few large sums little is rounded off.
    """
    C, part = weight.size, np.empty_like(dweight)
    share = x.dtype.type(1) / x.dtype.type(C)
    for first in range(0, x.shape[0], 64):
        part[:] = 0
        for i in range(first, min(first + 64, x.shape[0])):
            row, g_row, out, r = x[i, :C], g[i, :C], dx[i, :C], scale[i]
            along = x.dtype.type(0)
            for j in range(row.size):
                t = g_row[j] * row[j]
                part[j] += t * r
                along += t * weight[j]
            along *= share * r * r
            for j in range(row.size):
                out[j] = (g_row[j] * weight[j] - row[j] * along) * r
        for j in range(part.size):
            dweight[j] += part[j]


def _sweep(g, x, weight, r):
    """(dx, dweight): both in one sweep over the rows."""
    C, dx, dweight = x.shape[-1], np.empty(x.shape, x.dtype), np.zeros(x.shape[-1], x.dtype)
    rms_norm_rows_backward(rows(g), rows(x), vector(weight, C, x.dtype), r, rows(dx), dweight)
    return dx, dweight


class RMSNorm(Fused):
    """y = x / √(mean(x²) + eps) · weight, over the last axis"""
    name = "rms_norm"

    def definition(*inputs, eps=1e-5, ready=None):
        x, weight = inputs
        return x / ops.sqrt(ops.mean(x * x, axis=-1, keepdims=True) + eps) * weight

    def forward(*inputs, eps=1e-5, ready=None, saved=NOWHERE):
        x, weight = inputs
        if ready is not None:       # `AddRMSNorm` has been here
            y, saved.r = ready
            return y
        C, y = x.shape[-1], np.empty(x.shape, x.dtype)
        saved.r = r = np.empty(y.size // max(C, 1), x.dtype)
        rms_norm_rows(rows(x), vector(weight, C, x.dtype), eps, rows(y), r)
        return y

    def grad_inputs(g, inputs, saved): return _sweep(g, *inputs, saved.r)

    def samples(rng):
        yield rng.normal(size=(2, 3)), rng.normal(size=3), {}
        yield rng.normal(size=(2, 3, 4)), rng.normal(size=4), {"eps": 0.1}
        yield 3 + rng.normal(size=5), 1.0, {}
        yield rng.normal(size=(4, 6))[::2, ::-2].T, rng.normal(size=2), {"eps": 0.5}


class AddRMSNorm(Fused):
    """total = x + branch, and its norm laid ready"""
    name = "add_rms_norm"

    def definition(x, branch, *, norm): return x + branch

    def forward(x, branch, *, norm):
        weight, eps, ready = norm
        C, (total, y), r = x.shape[-1], np.empty((2, *x.shape), x.dtype), np.empty(x.size // max(x.shape[-1], 1), x.dtype)
        add_rms_norm_rows(rows(x), rows(branch), vector(np.asarray(weight, x.dtype), C, x.dtype), eps, rows(total), rows(y), r)
        ready.append((y, r))
        return total

    def grad_x(g): return g

    def grad_branch(g): return g

    def samples(rng):
        yield rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), {"norm": (np.ones(3), 1e-5, [])}


def add_rms_norm(x, branch, weight, eps=1e-5):
    """(x + branch, rms_norm(x + branch)): a residual stream and what the next layer reads of it, in one sweep.

    >>> import tinyllm as tl
    >>> stream, y = add_rms_norm(tl.Tensor([1.0, 4.0]), tl.Tensor([2.0, 0.0]), tl.Tensor([1.0, 1.0]))
    >>> stream.numpy(), y.numpy().round(4)
    (array([3., 4.], dtype=float32), array([0.8485, 1.1314], dtype=float32))
    """
    if x.shape != branch.shape:
        raise ValueError(f"add_rms_norm: x {x.shape}, branch {branch.shape}; expected a branch of the stream's shape")
    ready = []
    total = AddRMSNorm.apply(x, branch, norm=(weight.data if isinstance(weight, Tensor) else weight, eps, ready))
    return total, RMSNorm.apply(total, weight, eps=eps, ready=ready[0] if ready else None)


def rms_norm(x, weight=None, eps=1e-5):
    """x / √(mean(x²) + eps) · weight over the last axis; `weight` (C,) or None.

    >>> import tinyllm as tl
    >>> rms_norm(tl.Tensor([3.0, 4.0])).numpy().round(4)        # root mean square √12.5
    array([0.8485, 1.1314], dtype=float32)
    """
    return RMSNorm.apply(x, 1.0 if weight is None else weight, eps=eps)
