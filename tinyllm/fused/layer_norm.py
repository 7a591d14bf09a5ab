"""Layer normalisation (Ba et al. 2016), over the last axis.

    x̂ = (x - mean(x)) / σ,   σ = √(var(x) + eps)          var is the biased one: Σ (x - mean)² / C
    y = x̂ · weight + bias

The gradient g passes `weight` first: ĝ = g · weight. In x̂ both mean and σ depend on every x, which takes two
directions out of ĝ: the constant one and x̂ itself, for moving x along either does not change x̂:

    dx = (ĝ - mean(ĝ) - x̂ · mean(ĝ · x̂)) / σ
"""

import numpy as np

from .. import ops
from ._op import NOWHERE, Fused


class LayerNorm(Fused):
    """y = (x - mean) / √(var + eps) · weight + bias, over the last axis"""

    def definition(x, weight, bias, *, eps=1e-5):
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(centred * centred, axis=-1, keepdims=True)
        return centred / ops.sqrt(variance + eps) * weight + bias

    def forward(x, weight, bias, *, eps=1e-5, saved=NOWHERE):
        saved.xhat = xhat = x - np.mean(x, axis=-1, keepdims=True)
        variance = np.einsum("...c,...c->...", xhat, xhat)[..., None] / x.shape[-1]
        saved.sigma = sigma = np.sqrt(variance + eps)
        xhat /= sigma
        y = xhat * weight
        y += bias
        return y

    def grad_x(g, weight, saved):
        xhat, g = saved.xhat, g * weight
        along = np.einsum("...c,...c->...", g, xhat)[..., None] / g.shape[-1]     # mean(g · x̂)
        g -= np.mean(g, axis=-1, keepdims=True)
        g -= xhat * along
        g /= saved.sigma
        return g

    def grad_weight(g, saved): return g * saved.xhat

    def grad_bias(g): return g

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
