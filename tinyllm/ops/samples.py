"""Inputs on which a primitive is checked: the shapes that break rules, values away from kinks.

Every family draws from the same list: a scalar, a vector, one square and one all-distinct shape, size 1,
size 0, a view that is not contiguous; for two operands also every way of broadcasting.
"""

import numpy as np

SHAPES = ((), (3,), (3, 3), (2, 3, 4), (1,), (0, 3))
BROADCASTS = (((), ()), ((3,), (3,)), ((3, 1), (1, 4)), ((4,), (2, 3, 4)), ((2, 3), ()),
              ((2, 2), (2, 2)), ((1,), (0,)), ((2, 1, 3), (4, 1)), ((1, 1, 2), (1, 1)))


def away(rng, shape, *kinks, low=-2.0, high=2.0, gap=0.1):
    """Uniform values in [low, high] at least `gap` away from every kink."""
    x = rng.uniform(low, high, size=shape)
    for kink in kinks:
        x = np.where(np.abs(x - kink) < gap, kink + np.where(x < kink, -1, 1) * (gap + np.abs(x - kink)), x)
    return x


def unary(rng, *kinks, low=-2.0, high=2.0, shapes=SHAPES):
    """One-operand samples, away from 0 (where many slopes vanish); the last is a transposed, strided view."""
    kinks = (0.0, *kinks)
    for shape in shapes:
        yield (away(rng, shape, *kinks, low=low, high=high),)
    yield (away(rng, (4, 6), *kinks, low=low, high=high)[::2, ::-2].T,)


def binary(rng, low=-2.0, high=2.0, low_b=None, high_b=None, kink=0.0):
    """Two-operand samples over every way of broadcasting; the first operand away from `kink`, the second from 0."""
    for a, b in BROADCASTS:
        yield (away(rng, a, kink, low=low, high=high),
               away(rng, b, 0.0, low=low if low_b is None else low_b, high=high if high_b is None else high_b))


def apart(rng, shape, gap=0.1, axis=None):
    """Values no two of which are closer than `gap`, in random order: no ties anywhere."""
    n = int(np.prod(shape))
    x = (rng.permutation(n) - n / 2) * (2 * gap) + rng.uniform(-gap / 4, gap / 4, size=n)
    return x.reshape(shape)
