"""GELU (Hendrycks and Gimpel 2016): x times the probability that a standard normal is below x.

    exact     y = x Φ(x) = x/2 (1 + erf(x/√2))            y' = Φ(x) + x φ(x),   φ(x) = e^{-x²/2} / √(2π)
    "tanh"    y = x/2 (1 + tanh u),  u = √(2/π) (x + 0.044715 x³)
              y' = (1 + tanh u)/2 + x/2 (1 - tanh² u) √(2/π) (1 + 3 · 0.044715 x²)

GPT-2 uses the second, which differs from the first by less than 0.0005.
"""

import math

import numpy as np

from .. import ops
from ._op import NOWHERE, Fused

C = math.sqrt(2 / math.pi)
A = 0.044715


class Gelu(Fused):
    """y = x Φ(x), or its tanh form"""

    def definition(x, *, approximate="none"):
        if approximate == "tanh":
            return 0.5 * x * (1 + ops.tanh(C * (x + A * x * x * x)))
        return 0.5 * x * (1 + ops.erf(x * math.sqrt(0.5)))

    def forward(x, *, approximate="none", saved=NOWHERE):
        if approximate == "tanh":
            t = x * x
            t *= C * A
            t += C
            t *= x
            np.tanh(t, out=t)
        else:
            t = ops.elementwise.Erf.forward(x * math.sqrt(0.5))
        saved.t = t                     # tanh u, or erf(x/√2)
        y = t + 1
        y *= x
        y *= 0.5
        return y

    def grad_x(g, x, approximate, saved):
        t = saved.t
        if approximate == "tanh":
            slope = x * x
            slope *= 3 * A * C
            slope += C                  # du/dx
            slope *= 1 - t * t
        else:
            slope = np.exp(-0.5 * x * x) * C
        slope *= x
        slope += t
        slope += 1
        slope *= 0.5
        slope *= g
        return slope

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
