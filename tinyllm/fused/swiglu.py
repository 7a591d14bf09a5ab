"""SiLU, and the gated unit made with it (Shazeer 2020).

    silu(x) = x σ(x)                    silu'(x) = σ(x) (1 + x (1 - σ(x)))
    swiglu(a, b) = silu(a) · b          the hidden layer of Llama: a and b are two linear maps of one x
"""

import numpy as np

from .. import ops
from ._op import NOWHERE, Fused


def sigmoid(x):
    """1 / (1 + e⁻ˣ) without overflow, as (1 + tanh(x/2)) / 2."""
    s = np.tanh(0.5 * x)
    s += 1
    s *= 0.5
    return s


class Silu(Fused):
    """y = x σ(x)"""

    def definition(x):
        return x * ops.sigmoid(x)

    def forward(x, *, saved=NOWHERE):
        saved.s = s = sigmoid(x)
        return x * s

    def grad_x(g, x, saved): return g * saved.s * (1 + x * (1 - saved.s))

    def samples(rng):
        yield 2 * rng.normal(size=(2, 3, 4)),
        yield rng.normal(size=(4, 6))[::2, ::-2].T,


class Swiglu(Fused):
    """y = a σ(a) · b"""

    def definition(a, b):
        return Silu.definition(a) * b

    def forward(a, b, *, saved=NOWHERE):
        saved.s = s = sigmoid(a)
        return a * s * b

    def grad_a(g, a, b, saved): return g * b * saved.s * (1 + a * (1 - saved.s))

    def grad_b(g, a, saved): return g * a * saved.s

    def samples(rng):
        yield 2 * rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
        yield rng.normal(size=(4, 6))[::2, ::-2].T, rng.normal(size=(3, 2))


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
    return Swiglu.apply(gate, up)
