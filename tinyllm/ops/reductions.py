"""Operations that make many numbers into one: along an axis, several axes, or all of them.

`axis` and `keepdims` mean what they mean in NumPy. A rule first puts the reduced axes back with length 1
(`keep`), after which ordinary broadcasting spreads the gradient over them.
"""

import math

import numpy as np

from ..engine import Primitive
from .samples import apart, unary

AXES = ({}, {"axis": 0}, {"axis": -1, "keepdims": True}, {"axis": (0, 2)}, {"axis": (-1, 0), "keepdims": True})


def keep(g, shape, axis):
    """`g`, the result of reducing an array of `shape`, with the reduced axes back as length 1."""
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return np.reshape(g, [1 if i in [a % len(shape) for a in axes] else n for i, n in enumerate(shape)])


def _count(shape, axis):
    """How many elements one result is made of."""
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return math.prod(shape[a] for a in axes)


def _over(rng, draw, empty=True):
    """Samples of a reduction over every kind of axis."""
    for attributes in AXES:
        yield draw((2, 3, 4)), attributes
    yield draw((3, 3)), {"axis": 1}
    yield draw((3, 1)), {"axis": 1}
    yield draw((5,)), {}
    yield draw((4, 6))[::2, ::-2].T, {"axis": 0}
    if empty:
        yield draw((0, 3)), {"axis": 0}
        yield draw(()), {}


class Sum(Primitive):
    """y = Σ a over axis"""
    analytic = True

    def forward(a, *, axis=None, keepdims=False): return np.sum(a, axis=axis, keepdims=keepdims)
    def grad_a(g, a, axis): return np.broadcast_to(keep(g, a.shape, axis), a.shape)
    def samples(rng): return _over(rng, lambda shape: rng.normal(size=shape))


class Mean(Primitive):
    """y = Σ a / n over axis"""
    analytic = True

    def forward(a, *, axis=None, keepdims=False): return np.mean(a, axis=axis, keepdims=keepdims)
    def grad_a(g, a, axis): return np.broadcast_to(keep(g, a.shape, axis), a.shape) / _count(a.shape, axis)
    def samples(rng): return _over(rng, lambda shape: rng.normal(size=shape), empty=False)


class Var(Primitive):
    """y = Σ (a - mean)² / (n - ddof) over axis; ddof=0 is the biased variance of LayerNorm"""

    def forward(a, *, axis=None, keepdims=False, ddof=0): return np.var(a, axis=axis, keepdims=keepdims, ddof=ddof)

    def grad_a(g, a, axis, ddof):
        # the mean moves too, but Σ (a - mean) = 0, so that it does drops out
        return keep(g, a.shape, axis) * 2 * (a - np.mean(a, axis=axis, keepdims=True)) / (_count(a.shape, axis) - ddof)

    def samples(rng):
        yield from _over(rng, lambda shape: rng.normal(size=shape) + 3.0 * (shape == (3, 1)), empty=False)
        yield rng.normal(size=(4, 5)), {"axis": 1, "ddof": 1}


class Max(Primitive):
    """y = the largest a over axis; equal largest ones share the gradient equally"""

    def forward(a, *, axis=None, keepdims=False): return np.max(a, axis=axis, keepdims=keepdims)

    def grad_a(g, y, a, axis):
        best = a == keep(y, a.shape, axis)
        return keep(g, a.shape, axis) * best / np.sum(best, axis=axis, keepdims=True)

    def samples(rng): return _over(rng, lambda shape: apart(rng, shape), empty=False)


class Min(Primitive):
    """y = the smallest a over axis; equal smallest ones share the gradient equally"""

    def forward(a, *, axis=None, keepdims=False): return np.min(a, axis=axis, keepdims=keepdims)
    def grad_a(g, y, a, axis): return Max.grad_a(g, y, a, axis)
    def samples(rng): return Max.samples(rng)


class LogSumExp(Primitive):
    """y = ln Σ eᵃ over axis, the largest a taken out first so that nothing overflows"""
    name, analytic = "logsumexp", True

    def forward(a, *, axis=None, keepdims=False):
        top = np.max(a.real, axis=axis, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)
        with np.errstate(divide="ignore"):      # nothing but -inf: ln 0 = -inf is the answer
            y = np.log(np.sum(np.exp(a - top), axis=axis, keepdims=True)) + top
        return y if keepdims else np.squeeze(y, axis=axis)

    def grad_a(g, y, a, axis):
        return keep(g, a.shape, axis) * np.exp(a - keep(y, a.shape, axis))      # softmax(a)

    def samples(rng):
        yield from _over(rng, lambda shape: rng.normal(size=shape), empty=False)
        yield 10 * rng.normal(size=(3, 5)), {"axis": 1}


class CumSum(Primitive):
    """y_i = a_0 + … + a_i along axis (None: of the flattened array)"""
    name, analytic = "cumsum", True

    def forward(a, *, axis=None): return np.cumsum(a, axis=axis)

    def grad_a(g, a, axis):     # a_i is in y_i and in all that follow
        return np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis).reshape(a.shape)

    def samples(rng):
        for axis in (0, 1, -1, None):
            yield rng.normal(size=(2, 3, 4)), {"axis": axis}
        for (a,) in unary(rng, shapes=((3,), (1,), (0, 3))):
            yield a, {"axis": 0}


sum, mean, var, max, min, logsumexp, cumsum = (p.function() for p in (Sum, Mean, Var, Max, Min, LogSumExp, CumSum))
