"""Operations that move numbers without changing them: each rule moves the gradient back the way it came."""

import builtins

import numpy as np

from ..engine import Primitive


class Reshape(Primitive):
    """y = a in another shape, same order of elements; one length may be -1"""
    analytic = True

    def forward(a, *, shape): return np.reshape(a, shape)
    def grad_a(g, a): return np.reshape(g, a.shape)

    def samples(rng):
        for old, new in (((2, 3, 4), (6, 4)), ((2, 3, 4), (4, -1)), ((6,), (2, 3)), ((), (1, 1)), ((0, 3), (3, 0)), ((1,), ())):
            yield rng.normal(size=old), {"shape": new}
        yield rng.normal(size=(4, 6))[::2, ::-2].T, {"shape": (6,)}


class Transpose(Primitive):
    """y = a with its axes in the order `axes` (None: reversed)"""
    analytic = True

    def forward(a, *, axes=None): return np.transpose(a, axes)
    def grad_a(g, axes): return np.transpose(g, None if axes is None else np.argsort([x % g.ndim for x in axes]))

    def samples(rng):
        for axes in (None, (1, 2, 0), (2, 0, 1), (0, -1, 1)):
            yield rng.normal(size=(2, 3, 4)), {"axes": axes}
        yield rng.normal(size=(3, 3)), {"axes": (1, 0)}


class SwapAxes(Primitive):
    """y = a with two axes exchanged"""
    name, analytic = "swapaxes", True

    def forward(a, *, axis1, axis2): return np.swapaxes(a, axis1, axis2)
    def grad_a(g, axis1, axis2): return np.swapaxes(g, axis1, axis2)

    def samples(rng):
        for one, two in ((0, 1), (-1, -2), (0, 2)):
            yield rng.normal(size=(2, 3, 4)), {"axis1": one, "axis2": two}


class BroadcastTo(Primitive):
    """y = a stretched to `shape`; its rule is the identity, the walk sums over the stretched axes"""
    analytic = True

    def forward(a, *, shape): return np.broadcast_to(a, shape)
    def grad_a(g): return g

    def samples(rng):
        for old, new in (((3,), (2, 3)), ((3, 1), (3, 4)), ((), (2, 2)), ((1, 3), (0, 3)), ((2, 3), (2, 3))):
            yield rng.normal(size=old), {"shape": new}


class ExpandDims(Primitive):
    """y = a with new axes of length 1"""
    analytic = True

    def forward(a, *, axis): return np.expand_dims(a, axis)
    def grad_a(g, a): return np.reshape(g, a.shape)

    def samples(rng):
        for axis in (0, -1, 1, (0, 2)):
            yield rng.normal(size=(2, 3)), {"axis": axis}
        yield rng.normal(size=()), {"axis": 0}


class Squeeze(Primitive):
    """y = a without axes of length 1 (`axis`: only those)"""
    analytic = True

    def forward(a, *, axis=None): return np.squeeze(a, axis)
    def grad_a(g, a): return np.reshape(g, a.shape)

    def samples(rng):
        for axis in (None, 0, (0, 2)):
            yield rng.normal(size=(1, 3, 1)), {"axis": axis}


class Concatenate(Primitive):
    """y = the arrays one after another along an existing axis"""
    analytic = True

    def forward(*arrays, axis=0): return np.concatenate(arrays, axis=axis)
    def grad_arrays(g, shapes, axis): return np.split(g, np.cumsum([shape[axis] for shape in shapes])[:-1], axis=axis)

    def samples(rng):
        yield rng.normal(size=(2, 3)), rng.normal(size=(4, 3))
        yield rng.normal(size=(2, 3)), rng.normal(size=(2, 1)), rng.normal(size=(2, 2)), {"axis": 1}
        yield rng.normal(size=(2, 3)), rng.normal(size=(2, 0)), {"axis": -1}
        yield rng.normal(size=(3,)),


class Stack(Primitive):
    """y = arrays of one shape along a new axis"""
    analytic = True

    def forward(*arrays, axis=0): return np.stack(arrays, axis=axis)
    def grad_arrays(g, axis): return np.moveaxis(g, axis, 0)

    def samples(rng):
        for axis in (0, 1, -1):
            yield rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), {"axis": axis}
        yield rng.normal(size=()), rng.normal(size=())


class Pad(Primitive):
    """y = a with `value` around it; `width` as in np.pad: n, (before, after), or one pair an axis"""
    analytic = True

    def forward(a, *, width, value=0): return np.pad(a, width, constant_values=value)

    def grad_a(g, a, width):
        before = np.broadcast_to(width, (a.ndim, 2))[:, 0]
        return g[tuple([slice(start, start + n) for start, n in zip(before, a.shape)])]

    def samples(rng):
        for width in (1, (1, 2), ((1, 0), (2, 3)), ((0, 0), (0, 0))):
            yield rng.normal(size=(2, 3)), {"width": width}
        yield rng.normal(size=(3,)), {"width": (2, 1), "value": 7.0}


class Flip(Primitive):
    """y = a read backwards along axis (None: along all)"""
    analytic = True

    def forward(a, *, axis=None): return np.flip(a, axis)
    def grad_a(g, axis): return np.flip(g, axis)

    def samples(rng):
        for axis in (None, 0, -1, (0, 1)):
            yield rng.normal(size=(2, 3, 4)), {"axis": axis}


class Roll(Primitive):
    """y = a moved cyclically by `shift` places along axis (None: flattened)"""
    analytic = True

    def forward(a, *, shift, axis=None): return np.roll(a, shift, axis)
    def grad_a(g, shift, axis): return np.roll(g, np.negative(shift), axis)

    def samples(rng):
        for shift, axis in ((1, None), (2, 0), (-1, -1), ((1, 2), (0, 1))):
            yield rng.normal(size=(3, 4)), {"shift": shift, "axis": axis}


class AsType(Primitive):
    """y = a in another dtype; the walk casts the gradient back"""
    name = "astype"

    def forward(a, *, dtype): return np.asarray(a).astype(dtype)
    def grad_a(g): return g

    def samples(rng):
        yield rng.normal(size=(2, 3)), {"dtype": np.float64}
        yield rng.normal(size=()), {"dtype": np.float64}


reshape, transpose, swapaxes, broadcast_to, expand_dims, squeeze = (
    p.function() for p in (Reshape, Transpose, SwapAxes, BroadcastTo, ExpandDims, Squeeze))
pad, flip, roll, astype = (p.function() for p in (Pad, Flip, Roll, AsType))


def concatenate(arrays, axis=0):
    """Join a list of tensors along an existing axis.

    >>> import tinyllm as tl
    >>> tl.ops.concatenate([tl.Tensor([1.0]), tl.Tensor([2.0, 3.0])]).numpy()
    array([1., 2., 3.], dtype=float32)
    """
    return Concatenate.apply(*arrays, axis=axis)


def stack(arrays, axis=0):
    """Join a list of tensors of one shape along a new axis."""
    return Stack.apply(*arrays, axis=axis)


def split(a, indices_or_sections, axis=0):
    """Cut `a` along axis into equal parts (an int) or at the given places (a list), as np.split does.

    Returns a list of tensors. Raises ValueError if the parts would not be equal.
    """
    n, axis = a.shape[axis], axis % a.ndim
    if isinstance(indices_or_sections, (int, np.integer)):
        if n % indices_or_sections:
            raise ValueError(f"split: axis {axis} of {a.shape} has length {n}, which is not {indices_or_sections} equal parts")
        cuts = range(0, n + 1, n // indices_or_sections)
    else:
        cuts = [0, *indices_or_sections, n]
    lead = (builtins.slice(None),) * axis
    return [a[(*lead, builtins.slice(i, j))] for i, j in zip(cuts, cuts[1:])]
