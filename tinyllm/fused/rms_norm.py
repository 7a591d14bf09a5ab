"""Root-mean-square normalisation (Zhang and Sennrich 2019), over the last axis.

    r = 1 / √(mean(x²) + eps),   x̂ = x · r,   y = x̂ · weight

LayerNorm without the mean: only the direction of x̂ itself drops out of the gradient. With ĝ = g · weight,

    dx = r · (ĝ - x̂ · mean(ĝ · x̂))
"""

import numpy as np

from .. import ops
from ._op import NOWHERE, Fused


class RMSNorm(Fused):
    """y = x / √(mean(x²) + eps) · weight, over the last axis"""
    name = "rms_norm"

    def definition(x, weight, *, eps=1e-5):
        return x / ops.sqrt(ops.mean(x * x, axis=-1, keepdims=True) + eps) * weight

    def forward(x, weight, *, eps=1e-5, saved=NOWHERE):
        square = np.einsum("...c,...c->...", x, x)[..., None] / x.shape[-1]
        saved.r = r = 1 / np.sqrt(square + eps)
        saved.xhat = xhat = x * r
        return xhat * weight

    def grad_x(g, weight, saved):
        xhat, g = saved.xhat, g * weight
        g -= xhat * (np.einsum("...c,...c->...", g, xhat)[..., None] / g.shape[-1])
        g *= saved.r
        return g

    def grad_weight(g, saved): return g * saved.xhat

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
