"""GELU (Hendrycks and Gimpel 2016): x times the probability that a standard normal is below x.

    exact     y = x Φ(x) = x/2 (1 + erf(x/√2))            y' = Φ(x) + x φ(x),   φ(x) = e^{-x²/2} / √(2π)
    "tanh"    y = x/2 (1 + tanh u),  u = √(2/π) (x + 0.044715 x³)
              y' = (1 + tanh u)/2 + x/2 (1 - tanh² u) √(2/π) (1 + 3 · 0.044715 x²)

GPT-2 uses the second, which differs from the first by less than 0.0005.
"""

import math

import numpy as np

from .. import ops
from ._op import Fused, flat
from .kernels import kernel
from .vector_math import erfc_times, exp

C = math.sqrt(2 / math.pi)
A = 0.044715


@kernel("in1 out1")
def gelu_tanh(x, y):
    """y = x / (1 + e^(-2u)), for (1 + tanh u)/2 = 1 / (1 + e^(-2u))."""
    one, a, c = x.dtype.type(1), x.dtype.type(-2 * C * A), x.dtype.type(-2 * C)
    for i in range(x.size):
        v = x[i]
        y[i] = v / (one + exp(v * (c + a * v * v)))


@kernel("in1 in1 out1")
def gelu_tanh_backward(x, g, dx):
    """With s = (1 + tanh u)/2: y' = s + x s (1 - s) 2u'."""
    kind = x.dtype.type
    one, zero, a, c = kind(1), kind(0), kind(-2 * C * A), kind(-2 * C)
    a3, c1 = kind(6 * C * A), kind(2 * C)
    for i in range(x.size):
        v = x[i]
        e = exp(v * (c + a * v * v))
        s = one / (one + e)
        rest = zero if s == zero else s * (e * s)       # s (1 - s), without the difference; e may be infinite
        dx[i] = g[i] * (s + v * rest * (c1 + a3 * v * v))


@kernel("in1 out1")
def gelu_erf(x, y):
    """y = x Φ(x), where Φ(x) = erfc(-x/√2)/2."""
    kind = x.dtype.type
    half, one, root, zero = kind(0.5), kind(1), kind(math.sqrt(0.5)), kind(0)
    for i in range(x.size):
        v = x[i]
        z = abs(v) * root
        tail = half * erfc_times(z, exp(-z * z))                    # Φ(-|v|)
        y[i] = v * (one - tail if v > zero else tail)


@kernel("in1 in1 out1")
def gelu_erf_backward(x, g, dx):
    """y' = Φ(x) + x φ(x)."""
    kind = x.dtype.type
    half, one, root, zero, density = kind(0.5), kind(1), kind(math.sqrt(0.5)), kind(0), kind(1 / math.sqrt(2 * math.pi))
    for i in range(x.size):
        v = x[i]
        z = abs(v) * root
        e = exp(-z * z)
        tail = half * erfc_times(z, e)
        dx[i] = g[i] * ((one - tail if v > zero else tail) + density * v * e)


class Gelu(Fused):
    """y = x Φ(x), or its tanh form"""

    def definition(x, *, approximate="none"):
        if approximate == "tanh":
            return 0.5 * x * (1 + ops.tanh(C * (x + A * x * x * x)))
        return 0.5 * x * (1 + ops.erf(x * math.sqrt(0.5)))

    def forward(x, *, approximate="none"):
        y = np.empty(x.shape, x.dtype)
        (gelu_tanh if approximate == "tanh" else gelu_erf)(flat(x), flat(y))
        return y

    def grad_x(g, x, approximate):
        dx = np.empty(x.shape, x.dtype)
        (gelu_tanh_backward if approximate == "tanh" else gelu_erf_backward)(flat(x), flat(g), flat(dx))
        return dx

    def samples(rng):
        for approximate in ("none", "tanh"):
            yield 2 * rng.normal(size=(2, 3, 4)), {"approximate": approximate}
            yield rng.normal(size=(4, 6))[::2, ::-2].T, {"approximate": approximate}


def gelu(x, approximate="none"):
    """x Φ(x); `approximate="tanh"` is GPT-2's form of it.

    >>> import tinyllm as tl
    >>> gelu(tl.Tensor([-1.0, 0.0, 1.0])).numpy().round(4)
    array([-0.1587,  0.    ,  0.8413], dtype=float32)
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate={approximate!r}; expected 'none' or 'tanh'")
    return Gelu.apply(x, approximate=approximate)
