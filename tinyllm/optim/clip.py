"""Clipping the gradient by its norm (Pascanu et al. 2013)."""

import math

import numpy as np


def clip_grad_norm(params, max_norm):
    """Scale all gradients together so that their joint norm is at most `max_norm`; the norm before, as a float.

    The factor is PyTorch's, max_norm / (norm + 1e-6), where that is below 1. Parameters without a gradient do not count;
    a norm of NaN or Inf is returned as it is and the gradients stay as they are, of no use to an optimizer.

    >>> from tinyllm import nn
    >>> p = nn.Parameter([0.0, 0.0]); p.grad = p.numpy() + [3.0, 4.0]
    >>> clip_grad_norm([p], 1.0), p.grad.round(3).tolist()
    (5.0, [0.6, 0.8])
    """
    grads = [p.grad for p in params if p.grad is not None]
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in grads))
    scale = max_norm / (norm + 1e-6)
    if scale < 1 and math.isfinite(norm):
        for g in grads:
            g *= scale
    return norm
