"""Picking elements out and putting gradients back: where an element was picked twice, its gradients add up."""

import numpy as np

from ..engine import Primitive, Tensor
from .samples import unary


def scatter(shape, index, g):
    """Zeros of `shape` with `g` added at `index`; repeated places add up."""
    out = np.zeros(shape, g.dtype)
    if _is_basic(index):
        out[index] = g      # a slice never meets an element twice
    else:
        np.add.at(out, index, g)
    return out


def _is_basic(index):
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, slice, np.integer)) and not isinstance(p, bool) for p in parts)


class GetItem(Primitive):
    """y = a[index], with everything NumPy can index by"""
    name, analytic = "getitem", True

    def forward(a, *, index): return a[index]
    def grad_a(g, a, index): return scatter(a.shape, index, g)

    def samples(rng):
        for index in (1, slice(None, None, -2), (slice(1), Ellipsis, 0), (None, 1), -1, Ellipsis,
                      np.array([0, 2, 0]), (np.array([0, 2]), np.array([[1], [0]])), (slice(None), np.array([1, 1])),
                      rng.random((3, 2, 3)) < 0.5, np.array([True, False, True]), np.array([], dtype=int)):
            yield rng.normal(size=(3, 2, 3)), {"index": index}


class Take(Primitive):
    """y = a[..., indices, ...] along axis (None: of the flattened array); an index may repeat"""
    analytic = True

    def forward(a, indices, *, axis=None): return np.take(a, indices, axis=axis)

    def grad_a(g, a, indices, axis):
        if axis is None:
            return scatter(a.size, indices, g).reshape(a.shape)
        lead = (slice(None),) * (axis % a.ndim)
        return scatter(a.shape, (*lead, indices), g)

    def samples(rng):
        for indices, axis in (([0, 2, 0], 0), ([[1, 1], [0, 2]], 1), (1, -1), ([[5, 0], [5, 7]], None), ([], 0)):
            yield rng.normal(size=(3, 3, 2)), np.array(indices, dtype=int), {"axis": axis}


class TakeAlongAxis(Primitive):
    """y[i, j] = a[i, indices[i, j]] (for axis 1): one choice of places for each row"""
    analytic = True

    def forward(a, indices, *, axis=-1): return np.take_along_axis(a, indices, axis)

    def grad_a(g, a, indices, axis):
        places = list(np.ogrid[tuple([slice(n) for n in g.shape])])
        places[axis] = indices
        return scatter(a.shape, tuple(places), g)

    def samples(rng):
        yield rng.normal(size=(3, 4)), np.array([[0, 0], [3, 1], [2, 2]]), {"axis": 1}
        yield rng.normal(size=(3, 4)), np.array([[0, 1, 1, 2]]), {"axis": 0}
        yield rng.normal(size=(2, 3, 4)), rng.integers(0, 4, size=(2, 3, 1)), {}
        yield rng.normal(size=(5,)), np.array([4, 4, 0]), {"axis": 0}


class ScatterAdd(Primitive):
    """y = base, with source[i] added at row index[i] (np.add.at on the first axis): the transpose of take"""
    analytic = True

    def forward(base, index, source):
        y = np.array(base, dtype=np.result_type(base, source))
        np.add.at(y, index, source)
        return y

    def grad_base(g): return g
    def grad_source(g, index): return g[index]

    def samples(rng):
        yield rng.normal(size=(4, 2)), np.array([0, 3, 0]), rng.normal(size=(3, 2))
        yield rng.normal(size=(4,)), np.array([[1, 1], [2, 0]]), rng.normal(size=(2, 2))
        yield rng.normal(size=(4, 2)), np.array([1, 2]), rng.normal(size=(2,))
        yield rng.normal(size=(4, 2)), np.array([], dtype=int), rng.normal(size=(0, 2))


class MaskedFill(Primitive):
    """y = value where mask holds, else a; what is covered gets gradient 0"""

    def forward(a, mask, *, value): return np.where(mask, np.asarray(value, np.asarray(a).dtype), a)
    def grad_a(g, mask): return np.where(mask, 0, g)

    def samples(rng):
        yield rng.normal(size=(3, 4)), rng.random((3, 4)) < 0.5, {"value": -1e9}
        yield rng.normal(size=(2, 3, 3)), np.triu(np.ones((3, 3), bool), 1), {"value": 0.0}
        for (a,) in unary(rng, shapes=((), (3,), (0, 3))):
            yield a, np.array(True), {"value": 2.0}


take, take_along_axis, scatter_add, masked_fill = (p.function() for p in (Take, TakeAlongAxis, ScatterAdd, MaskedFill))


def getitem(a, index):
    """`a[index]`: basic, integer-array and boolean indexing, as NumPy's; index arrays are copied."""
    index = tuple([_plain(part) for part in index]) if isinstance(index, tuple) else _plain(index)
    return GetItem.apply(a, index=index)


def _plain(part):
    if isinstance(part, Tensor):
        part = part.data
    return np.array(part) if isinstance(part, (np.ndarray, list)) else part
