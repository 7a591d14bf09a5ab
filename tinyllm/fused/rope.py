"""Rotary positions (Su et al. 2021): turn each pair of a head's numbers by an angle that grows with the position.

    angle(t, i) = t · θ^(-2i/D)                  i < D/2
    (a, b) -> (a cos - b sin,  a sin + b cos)

The product of a query at t and a key at s then depends on t - s alone. Which numbers make a pair is a matter
of layout: "halves" pairs i with i + D/2 (Hugging Face), `interleaved` pairs 2i with 2i + 1 (Meta, llama2.c). A
rotation's transpose is the rotation back, so the gradient is turned by minus the angle.
"""

import functools

import numpy as np

from .. import ops
from ._op import Fused, rows


def _pair(size, interleaved):
    """Where the two numbers of every pair are."""
    return ((..., slice(0, None, 2)), (..., slice(1, None, 2))) if interleaved else (
        (..., slice(0, size // 2)), (..., slice(size // 2, None)))


@functools.cache
def _kernels():
    from . import rope_kernels              # needs numba to be imported
    return rope_kernels


def turned(x, rotation, heads, start=0, step=0, back=False):
    """A copy of `x` (..., W) with `heads` heads in its last axis, from `start` and `step` apart, turned by the rotation's angles, or back.

    `rotation`: cos and sin (T, D/2), or with a batch of their own as many lines as x has, and whether pairs are interleaved.
    """
    (cos, sin, interleaved), y = rotation, np.array(x, order="C")
    if y.size:
        cos, sin = (rows(np.asarray(angles, x.dtype)) for angles in (cos, sin))
        _kernels().turn_rows(rows(x), cos, -sin if back else sin, heads, start, step, interleaved, rows(y))
    return y


def turn(x, cos, sin, interleaved):
    """Each pair of the last axis of `x` turned by the angle of (cos, sin)."""
    if cos.ndim > 2:            # tables with a batch of their own: one row for each row of x
        cos, sin = (np.broadcast_to(angles, (*x.shape[:-1], angles.shape[-1])) for angles in (cos, sin))
    return turned(x, (cos, sin, interleaved), 1)


class Rope(Fused):
    """y = x with each pair of its last axis turned by the position's angle"""

    def definition(x, cos, sin, *, interleaved=False):
        first, second = _pair(x.shape[-1], interleaved)
        a, b = x[first], x[second]                                      # (..., T, D/2)
        turned = a * cos - b * sin, a * sin + b * cos
        if interleaved:
            return ops.stack(turned, axis=-1).reshape(x.shape)
        return ops.concatenate(turned, axis=-1)

    def forward(x, cos, sin, *, interleaved=False): return turn(x, cos, sin, interleaved)

    def grad_x(g, cos, sin, interleaved): return turn(g, cos, -sin, interleaved)

    def samples(rng):
        for interleaved in (False, True):
            cos, sin = rope_tables(3, 4, theta=10.0, dtype=np.float64)
            yield rng.normal(size=(2, 3, 4)), cos, sin, {"interleaved": interleaved}
            yield rng.normal(size=(2, 3, 2, 4)).swapaxes(1, 2), cos, sin, {"interleaved": interleaved}


def rope_tables(length, size, theta=10000.0, dtype=None):
    """cos and sin of the angles t · θ^(-2i/size), each (length, size / 2); `dtype` as `tl.default_dtype()` if None.

    >>> cos, sin = rope_tables(2, 4)
    >>> cos.round(4)
    array([[1.    , 1.    ],
           [0.5403, 1.    ]], dtype=float32)
    """
    from ..engine import STATE
    if size % 2:
        raise ValueError(f"rope_tables: size={size}; a head is turned pair by pair, expected an even size")
    angles = np.outer(np.arange(length), theta ** (-np.arange(0, size, 2) / size))      # (T, D/2)
    dtype = STATE.dtype if dtype is None else dtype
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)


def rope(x, cos, sin, interleaved=False):
    """Rotary positions: `x` (..., T, D) turned pair by pair; `cos`, `sin` (T, D/2) from `rope_tables`.

    >>> import tinyllm as tl
    >>> cos, sin = rope_tables(2, 2)
    >>> rope(tl.Tensor([[1.0, 0.0], [1.0, 0.0]]), cos, sin).numpy().round(4)      # by 0 and by 1 radian
    array([[1.    , 0.    ],
           [0.5403, 0.8415]], dtype=float32)
    """
    if np.shape(cos) != np.shape(sin) or 2 * np.shape(cos)[-1] != x.shape[-1] or np.shape(cos)[-2] != x.shape[-2]:
        raise ValueError(f"rope: x {x.shape} with tables {np.shape(cos)} and {np.shape(sin)}; expected x (..., T, D) and tables "
                         f"(T, D/2), here {(x.shape[-2], x.shape[-1] // 2)}: cut the tables to the positions of x")
    return Rope.apply(x, cos, sin, interleaved=interleaved)
