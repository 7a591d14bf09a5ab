"""Clipping the gradient by its norm (Pascanu et al. 2013)."""

import math

import numpy as np

from ..engine import threads


def clip_grad_norm(params, max_norm):
    """Scale all gradients together so that their joint norm is at most `max_norm`; the norm before, as a float.

    Parameters without a gradient do not count; a norm of NaN or Inf is returned as it is and the gradients stay as they are,
    of no use to an optimizer. `optimizer.step(clip_factor(grad_norm(params), max_norm))` does the same and takes a step, in one
    way through the memory.

    >>> from tinyllm import nn
    >>> p = nn.Parameter([0.0, 0.0]); p.grad = p.numpy() + [3.0, 4.0]
    >>> clip_grad_norm([p], 1.0), p.grad.round(3).tolist()
    (5.0, [0.6, 0.8])
    """
    grads = [p.grad for p in params if p.grad is not None]
    norm = _norm(grads)
    scale = clip_factor(norm, max_norm)
    if scale < 1:
        parts = threads.shares([g.size for g in grads], threads.num_threads())
        threads.run([lambda part=part: [np.multiply(grads[i], scale, out=grads[i]) for i in part] and None for part in parts])
    return norm


def grad_norm(params):
    """The joint norm of all gradients, as a float.

    >>> from tinyllm import nn
    >>> p = nn.Parameter([0.0, 0.0]); p.grad = p.numpy() + [3.0, 4.0]
    >>> grad_norm([p])
    5.0
    """
    return _norm([p.grad for p in params if p.grad is not None])


def clip_factor(norm, max_norm):
    """What gradients of this joint norm are multiplied by: PyTorch's max_norm / (norm + 1e-6) where that is below 1, else 1.

    >>> round(clip_factor(5.0, 1.0), 3), clip_factor(0.5, 1.0)
    (0.2, 1.0)
    """
    scale = max_norm / (norm + 1e-6)
    return scale if scale < 1 and math.isfinite(norm) else 1.0


def _norm(grads):
    parts = threads.shares([g.size for g in grads], threads.num_threads())
    squares = [0.0] * len(grads)
    for part, sums in zip(parts, threads.run([lambda part=part: [float(np.vdot(grads[i], grads[i])) for i in part] for part in parts])):
        for i, square in zip(part, sums):
            squares[i] = square
    return math.sqrt(sum(squares))
