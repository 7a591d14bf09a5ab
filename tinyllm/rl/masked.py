"""Sums and means over the places that count.

A batch of completions is a rectangle (B, T) in which some places hold no action of the policy: padding, text
after the end, a tool's answer. `mask` is 1 at the others. What stands at a masked place may be anything, NaN
included, so it is replaced (`keep`) and never multiplied by 0: NaN · 0 is NaN, forward and backward. And it is
replaced before a function is applied to it: the slope of exp at 1e9 is Inf, and Inf · 0 is NaN again.
"""

import numpy as np

from .. import ops
from ..engine import Tensor, as_array
from ..errors import UserError


def tensor(x):
    """`x` as a Tensor of floating point; what is one already stays in its graph."""
    if isinstance(x, Tensor):
        return x
    array = as_array(x)
    return Tensor(array if array.dtype.kind == "f" else array.astype(np.float64))


def constant(x, like=None):
    """`x` as an array outside any graph, in the dtype of the tensor `like`."""
    array = as_array(x)
    if like is not None:
        return array.astype(like.dtype, copy=False)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def as_mask(mask, shape):
    """`mask` as booleans of `shape`; UserError for another shape or for numbers other than 0 and 1."""
    array = as_array(mask)
    if array.shape != tuple(shape):
        raise UserError(f"mask of shape {array.shape}; expected {tuple(shape)}, one entry for each log-probability")
    if array.dtype != bool and not ((array == 0) | (array == 1)).all():
        raise UserError("mask has entries other than 0 and 1; 1 marks a token to learn from, 0 one to leave out")
    return array.astype(bool)


def keep(x, mask, fill=0.0):
    """`x` where `mask` holds, `fill` elsewhere; the gradient of what is replaced is 0. Tensor in, Tensor out."""
    if isinstance(x, Tensor):
        return ops.where(mask, x, fill)
    return np.where(mask, x, np.asarray(fill, np.asarray(x).dtype))


def masked_sum(x, mask, axis=None):
    """Σ x over the places where `mask` holds."""
    return keep(x, mask).sum(axis=axis)


def masked_mean(x, mask, axis=None):
    """Mean of x over the places where `mask` holds; 0 where there is none.

    >>> float(masked_mean(np.array([1.0, 3.0, np.nan]), np.array([True, True, False])))
    2.0
    """
    count = np.maximum(mask.sum(axis=axis), 1)
    return masked_sum(x, mask, axis) / (count.astype(x.dtype) if isinstance(count, np.ndarray) else float(count))
