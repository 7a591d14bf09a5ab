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

from types import SimpleNamespace

from ..engine import STATE, Primitive


class _Nowhere:
    """A namespace that forgets what is put into it."""

    def __setattr__(self, name, value):
        pass

    def __repr__(self):
        return "NOWHERE"


NOWHERE = _Nowhere()     # the default of `saved`: forward called by hand, or without a graph


class Fused(Primitive):
    """Base of the fused operations; see the module's text."""

    @classmethod
    def apply(cls, *inputs, **attributes):
        """The fast path as a primitive, or under `tl.fused(False)` the definition."""
        if not STATE.fused:
            return cls.definition(*inputs, **attributes)
        if "saved" in cls.defaults and STATE.grad:
            attributes["saved"] = SimpleNamespace()
        return super().apply(*inputs, **attributes)


def rows(x):
    """`x` as a matrix whose rows are the vectors along its last axis: (..., C) -> (N, C)."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
