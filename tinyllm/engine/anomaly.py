"""Find the first operation that yields NaN or Inf, forward or backward, and the line that called it.

An operation is blamed for a NaN if none of its inputs had one, and for an Inf likewise, so the -inf of a
causal mask, which is given on purpose, is nobody's fault.
"""

import os
import sys

import numpy as np

from .state import Watcher
from .tensor import Tensor

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class AnomalyError(FloatingPointError):
    """A NaN or Inf appeared; the message says where."""


def calling_line():
    """`file:line` of the innermost caller outside the package."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


class anomaly(Watcher):
    """`with tl.anomaly():` raises AnomalyError at the first NaN or Inf and names the operation.

    >>> import tinyllm as tl
    >>> x = tl.Tensor([0.0, 1.0], requires_grad=True, name="x")
    >>> with tl.anomaly(), np.errstate(divide="ignore"):
    ...     tl.ops.sqrt(x).sum().backward()
    Traceback (most recent call last):
    ...
    tinyllm.engine.anomaly.AnomalyError: backward of sqrt: dL/da of x has Inf at [0]; the operation was called at ...
    """

    def forward(self, node, primitive, inputs, attributes, output):
        where = calling_line()
        if node is not None:
            node.where = (where, [getattr(x, "name", None) for x in inputs])
        bad = _first_bad(output.data)
        if bad and not any(_has(bad, x) for x in (*inputs, *attributes.values())):
            named = ", ".join(f"{n} {np.shape(x.data if isinstance(x, Tensor) else x)}" for n, x in zip(_labels(primitive, inputs), inputs))
            raise AnomalyError(f"forward of {primitive.name}({named}) yields {bad}, called at {where}")

    def rule(self, node, position, g, gradient):
        bad = _first_bad(gradient)
        if bad:
            where, names = node.where or ("a line before anomaly() was entered", [None] * (position + 1))
            of = f" of {names[position]}" if names[position] else ""
            inputs = node.primitive.inputs
            raise AnomalyError(f"backward of {node.primitive.name}: dL/d{inputs[min(position, len(inputs) - 1)]}{of} "
                               f"has {bad}; the operation was called at {where}")


def _labels(primitive, inputs):
    names = (*primitive.inputs, *[primitive.inputs[-1]] * len(inputs))
    return [getattr(x, "name", None) or n for n, x in zip(names, inputs)]


def _has(bad, value):
    """Whether `value` already carries the kind of trouble named first in `bad`."""
    value = value.data if isinstance(value, Tensor) else value
    if not isinstance(value, (float, np.ndarray, np.generic)) or np.asarray(value).dtype.kind != "f":
        return False
    return bool((np.isnan if bad.startswith("NaN") else np.isinf)(value).any())


def _first_bad(array):
    """Kind and place of the first non-finite element; None if there is none."""
    array = np.asarray(array)
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return None
    at = np.argwhere(~np.isfinite(array))[0].tolist()
    return f"{'NaN' if np.isnan(array[tuple(at)]) else 'Inf'} at {at}"
