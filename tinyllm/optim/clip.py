"""Clipping the gradient by its norm (Pascanu et al. 2013)."""

import math

import numpy as np

from ..engine import threads


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
    parts = threads.shares([g.size for g in grads], threads.num_threads())
    squares = [0.0] * len(grads)
    for part, sums in zip(parts, threads.run([lambda part=part: [float(np.vdot(grads[i], grads[i])) for i in part] for part in parts])):
        for i, square in zip(part, sums):
            squares[i] = square
    norm = math.sqrt(sum(squares))
    scale = max_norm / (norm + 1e-6)
    if scale < 1 and math.isfinite(norm):
        threads.run([lambda part=part: [np.multiply(grads[i], scale, out=grads[i]) for i in part] and None for part in parts])
    return norm
