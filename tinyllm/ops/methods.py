"""What a tensor can do: operators, indexing and methods, hung on the engine's Tensor class.

The engine knows graphs and no arithmetic; this page is where the two meet.
"""

import numpy as np

from ..engine import Tensor
from . import arithmetic, elementwise, indexing, reductions, shaping
from .matmul import matmul


def _operators():
    """`a + b` and its mirror image `1 + b` for each operation on two operands."""
    for sign, primitive in (("add", arithmetic.Add), ("sub", arithmetic.Subtract), ("mul", arithmetic.Multiply),
                            ("truediv", arithmetic.Divide), ("pow", arithmetic.Power)):
        def forth(self, other, apply=primitive.apply):
            return apply(self, other) if other is not None else NotImplemented

        def back(self, other, apply=primitive.apply):
            return apply(other, self) if other is not None else NotImplemented

        setattr(Tensor, f"__{sign}__", forth)
        setattr(Tensor, f"__r{sign}__", back)
    for sign in ("lt", "le", "gt", "ge", "eq", "ne"):
        def compare(self, other, method=f"__{sign}__"):
            if other is None:
                return NotImplemented
            return Tensor(np.asarray(getattr(self.data, method)(other.data if isinstance(other, Tensor) else other)))

        setattr(Tensor, f"__{sign}__", compare)


_operators()
Tensor.__hash__ = object.__hash__
Tensor.__matmul__ = lambda self, other: matmul(self, other)
Tensor.__rmatmul__ = lambda self, other: matmul(other, self)
Tensor.__neg__ = arithmetic.negate
Tensor.__abs__ = arithmetic.abs
Tensor.__getitem__ = indexing.getitem

for module, names in ((arithmetic, "abs clip maximum minimum"), (elementwise, "exp log sqrt tanh sigmoid erf relu sin cos"),
                      (reductions, "sum mean var max min logsumexp cumsum"),
                      (shaping, "swapaxes broadcast_to expand_dims squeeze split pad flip roll"),
                      (indexing, "take take_along_axis masked_fill")):
    for name in names.split():
        setattr(Tensor, name, getattr(module, name))


def _reshape(self, *shape):
    """The same elements in another shape: `x.reshape(2, 3)` or `x.reshape((2, 3))`; one length may be -1."""
    return shaping.reshape(self, tuple(shape[0]) if len(shape) == 1 and np.ndim(shape[0]) else shape)


def _transpose(self, *axes):
    """The axes in another order: `x.transpose(1, 0)`, `x.transpose((1, 0))`, or reversed."""
    return shaping.transpose(self, tuple(axes[0]) if len(axes) == 1 and np.ndim(axes[0]) else axes or None)


def _astype(self, dtype):
    """The same numbers in another dtype; a float stays in the graph, its gradient is cast back."""
    return shaping.astype(self, dtype)


def _argmax(self, axis=None):
    """Index of the largest element, as an array of integers (no gradient)."""
    return np.argmax(self.data, axis=axis)


Tensor.reshape, Tensor.transpose, Tensor.astype, Tensor.argmax = _reshape, _transpose, _astype, _argmax


def _named(tensor, of, suffix):
    """A transposed tensor keeps its name for messages: `fc.weight.T`."""
    if of.name:
        tensor.name = of.name + suffix
    return tensor


Tensor.T = property(lambda self: _named(shaping.transpose(self), self, ".T"), doc="all axes reversed")
Tensor.mT = property(lambda self: _named(shaping.swapaxes(self, -1, -2), self, ".mT"), doc="the last two axes exchanged")
