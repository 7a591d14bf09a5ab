"""A gradient that is computed where it belongs, not in an array of its own.

The gradient of a weight is often the largest array of a whole step: that of a token table of 50,257 rows has as many
numbers as the table, and is then only added to the gradients that are kept. A rule may return the recipe instead,

    def grad_weight(g, x): return Deferred(weight.shape, g.dtype, fill)

and the walk has the result written straight into the parameter's gradient, or added to it. Everywhere else a `Deferred` turns
into an array by itself (`np.asarray`).
"""

import numpy as np


class Deferred:
    """An array of `shape` and `dtype` to be; `fill(out, add)` writes it into `out`, or adds it to what is there."""

    __slots__ = ("shape", "dtype", "fill")

    def __init__(self, shape, dtype, fill):
        self.shape, self.dtype, self.fill = shape, dtype, fill

    def __array__(self, dtype=None, copy=None):
        out = np.empty(self.shape, self.dtype)
        self.fill(out, False)
        return out if dtype is None else out.astype(dtype, copy=False)
