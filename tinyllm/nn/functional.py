"""`tl.F`: the functions behind the layers, with PyTorch's names and NumPy's `axis`.

    >>> import tinyllm as tl
    >>> from tinyllm.nn import functional as F
    >>> F.softmax(tl.Tensor([[0.0, 0.0]]), axis=-1).numpy()
    array([[0.5, 0.5]], dtype=float32)
"""

from ..fused import (add_rms_norm, attention, cross_entropy, dropout, embedding, experts, gates, gelu, keep_mask, latent,
                     latent_attention, layer_norm, linear, linear_cross_entropy, log_softmax, rms_norm, rope, rope_tables, self_attention, silu, softmax,
                     swiglu)
from ..ops import relu, sigmoid, tanh


def mse_loss(x, target):
    """Mean of (x - target)², over all elements.

    >>> import tinyllm as tl
    >>> mse_loss(tl.Tensor([1.0, 2.0]), tl.Tensor([1.0, 4.0])).item()
    2.0
    """
    difference = x - target
    return (difference * difference).mean()
