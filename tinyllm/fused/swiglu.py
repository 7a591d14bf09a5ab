"""SiLU, and the gated unit made with it (Shazeer 2020).

    silu(x) = x σ(x)                    silu'(x) = σ(x) (1 + x (1 - σ(x)))
    swiglu(a, b) = silu(a) · b          the hidden layer of Llama: a and b are two linear maps of one x
"""

import numpy as np

from .. import ops
from ._op import Fused, flat
from .kernels import kernel
from .vector_math import exp


@kernel("in1 out1")
def silu_forward(x, y):
    """y = x σ(x)"""
    one = x.dtype.type(1)
    for i in range(x.size):
        y[i] = x[i] / (one + exp(-x[i]))


@kernel("in1 in1 out1")
def silu_backward(x, g, dx):
    """dx = g σ(x) (1 + x (1 - σ(x)))"""
    one = x.dtype.type(1)
    for i in range(x.size):
        s = one / (one + exp(-x[i]))
        dx[i] = g[i] * s * (one + x[i] * (one - s))


@kernel("in1 in1 out1")
def swiglu_forward(a, b, y):
    """y = a σ(a) b"""
    one = a.dtype.type(1)
    for i in range(a.size):
        y[i] = a[i] / (one + exp(-a[i])) * b[i]


@kernel("in1 in1 in1 out1 out1")
def swiglu_backward(a, b, g, da, db):
    """da = g b σ(a) (1 + a (1 - σ(a))),  db = g a σ(a)"""
    one = a.dtype.type(1)
    for i in range(a.size):
        s = one / (one + exp(-a[i]))
        gs = g[i] * s
        da[i] = gs * b[i] * (one + a[i] * (one - s))
        db[i] = gs * a[i]


class Silu(Fused):
    """y = x σ(x)"""

    def definition(x):
        return x * ops.sigmoid(x)

    def forward(x):
        y = np.empty(x.shape, x.dtype)
        silu_forward(flat(x), flat(y))
        return y

    def grad_x(g, x):
        dx = np.empty(x.shape, x.dtype)
        silu_backward(flat(x), flat(g), flat(dx))
        return dx

    def samples(rng):
        yield 2 * rng.normal(size=(2, 3, 4)),
        yield rng.normal(size=(4, 6))[::2, ::-2].T,


class Swiglu(Fused):
    """y = a σ(a) · b"""

    def definition(*ab):
        a, b = ab
        return Silu.definition(a) * b

    def forward(*ab):
        a, b = ab
        y = np.empty(a.shape, a.dtype)
        swiglu_forward(flat(a), flat(b), flat(y))
        return y

    def grad_ab(g, ab):
        a, b = ab
        da, db = np.empty(a.shape, a.dtype), np.empty(b.shape, b.dtype)
        swiglu_backward(flat(a), flat(b), flat(g), flat(da), flat(db))
        return da, db

    def samples(rng):
        yield 2 * rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4)), {}
        yield rng.normal(size=(4, 6))[::2, ::-2].T, rng.normal(size=(3, 2)), {}


def silu(x):
    """x σ(x), also called swish.

    >>> import tinyllm as tl
    >>> silu(tl.Tensor([-1.0, 0.0, 1.0])).numpy().round(4)
    array([-0.2689,  0.    ,  0.7311], dtype=float32)
    """
    return Silu.apply(x)


def swiglu(gate, up):
    """silu(gate) · up, elementwise.

    >>> import tinyllm as tl
    >>> swiglu(tl.Tensor([1.0]), tl.Tensor([10.0])).numpy().round(3)
    array([7.311], dtype=float32)
    """
    if gate.shape != up.shape:
        raise ValueError(f"swiglu: gate {gate.shape}, up {up.shape}; expected two arrays of one shape, two maps of the same x")
    return Swiglu.apply(gate, up)
