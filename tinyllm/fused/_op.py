"""A fast path beside its definition: the base class of every fused operation.

    class Softmax(Fused):
        '''y = eˣ / Σ eˣ'''
        def definition(x, *, axis=-1):   ...    # composed of primitives: what the stepper walks
        def forward(x, *, axis=-1):      ...    # the fast path, on arrays
        def grad_x(g, y, axis):          ...    # its rule

A fused operation is a primitive with a second way to be computed. `tl.fused(False)` makes `apply` run the
definition instead; one parametrised test (tests/fused/test_definitions.py) holds values and gradients of both
together, and the registry's gradient check covers the rules like those of any primitive.

What forward computes on the way and a rule can use again (a norm's scale, attention's weights) it puts into
`saved`, a keyword-only parameter that `apply` fills with a fresh namespace for each call. Where no graph is
recorded nothing is kept.
"""

from math import prod
from types import SimpleNamespace

import numpy as np

from ..engine import STATE, Primitive
from .kernels import PRECISIONS


class _Nowhere:
    """A namespace that forgets what is put into it."""

    def __setattr__(self, name, value):
        pass

    def __repr__(self):
        return "NOWHERE"


NOWHERE = _Nowhere()     # the default of `saved`: forward called by hand, or without a graph


class Fused(Primitive):
    """Base of the fused operations; see the module's text."""

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        cls.real = tuple(name in cls.differentiable for name in cls.inputs)     # which inputs have a rule

    @classmethod
    def apply(cls, *inputs, **attributes):
        """The fast path as a primitive; the definition under `tl.fused(False)`, and where precisions mix or are not a kernel's."""
        if not STATE.fused or not cls.suits(inputs):
            return cls.definition(*inputs, **attributes)
        if "saved" in cls.defaults and STATE.grad:
            attributes["saved"] = SimpleNamespace()
        return super().apply(*inputs, **attributes)

    @classmethod
    def suits(cls, inputs):
        """Whether the inputs that have rules, numbers aside, are all float32 or all float64."""
        found, last = None, len(cls.real) - 1
        for i, x in enumerate(inputs):
            if cls.real[min(i, last)] and type(x) is not float:
                dtype = getattr(x, "dtype", None)
                if dtype is not found and (dtype not in PRECISIONS if found is None else dtype != found):
                    return False
                found = dtype
        return found is not None


def rows(x):
    """`x` as a matrix whose rows are the vectors along its last axis, in C order: (..., C) -> (N, C)."""
    if x.ndim != 2:
        x = x.reshape(prod(x.shape[:-1]), x.shape[-1])
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


def flat(x):
    """`x` as one row, in C order: for what is done to each number alone."""
    return x.reshape(-1) if x.flags.c_contiguous else np.ascontiguousarray(x).reshape(-1)


def vector(x, size, dtype):
    """A weight or bias as an array (size,) in C order, where one number stands for all."""
    if type(x) is np.ndarray and x.shape == (size,) and x.flags.c_contiguous:
        return x
    return np.ascontiguousarray(np.broadcast_to(np.asarray(x, dtype), (size,)))
