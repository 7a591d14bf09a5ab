"""Operations on two operands (and the choice between two), with NumPy's broadcasting.

A rule here never thinks about broadcasting: it returns the gradient in the shape of `y`, and the walk sums
it over the axes along which its input was stretched.
"""

import numpy as np

from ..engine import Primitive
from .samples import away, binary, unary


class Add(Primitive):
    """y = a + b"""
    symbol, analytic = "+", True

    def forward(a, b): return a + b
    def grad_a(g): return g
    def grad_b(g): return g
    def samples(rng): return binary(rng)


class Subtract(Primitive):
    """y = a - b"""
    symbol, analytic = "-", True

    def forward(a, b): return a - b
    def grad_a(g): return g
    def grad_b(g): return -g
    def samples(rng): return binary(rng)


class Multiply(Primitive):
    """y = a * b"""
    symbol, analytic = "*", True

    def forward(a, b): return a * b
    def grad_a(g, b): return g * b
    def grad_b(g, a): return g * a
    def samples(rng): return binary(rng)


class Divide(Primitive):
    """y = a / b"""
    symbol, analytic = "/", True

    def forward(a, b): return a / b
    def grad_a(g, b): return g / b
    def grad_b(g, y, b): return -g * y / b      # ∂(a/b)/∂b = -a/b² = -y/b
    def samples(rng): return binary(rng, low_b=0.5, high_b=2.0)


class Negate(Primitive):
    """y = -a"""
    analytic = True

    def forward(a): return -a
    def grad_a(g): return -g
    def samples(rng): return unary(rng)


class Power(Primitive):
    """y = a ** b; where b is 0 the gradient of a is 0, also at a = 0; where a is 0 that of b is 0"""
    symbol, analytic = "**", True

    def forward(a, b): return np.power(a, b)
    def grad_a(g, a, b): return g * b * np.power(a, np.where(b == 0, 1, b - 1))
    def grad_b(g, y, a): return g * y * np.log(np.where(a == 0, 1, a))      # a^b = exp(b log a)

    def samples(rng):
        yield from binary(rng, low=0.5, high=2.0, low_b=-2.0, high_b=3.0, kink=1.0)     # ln 1 = 0 tells nothing
        yield np.array([0.5, 1.5, 0.7]), np.array([0.0, 1.0, 2.0])


class Maximum(Primitive):
    """y = the larger of a and b; a tie gives each half the gradient"""

    def forward(a, b): return np.maximum(a, b)
    def grad_a(g, a, b): return g * np.where(a == b, 0.5, a > b)
    def grad_b(g, a, b): return g * np.where(a == b, 0.5, b > a)

    def samples(rng):
        for a, b in binary(rng):
            yield a, np.where(np.abs(a - b) < 0.1, b + 0.25, b) if np.shape(a) == np.shape(b) else b + 4 * rng.choice([-1, 1])


class Minimum(Primitive):
    """y = the smaller of a and b; a tie gives each half the gradient"""

    def forward(a, b): return np.minimum(a, b)
    def grad_a(g, a, b): return g * np.where(a == b, 0.5, a < b)
    def grad_b(g, a, b): return g * np.where(a == b, 0.5, b < a)
    def samples(rng): return Maximum.samples(rng)


class Where(Primitive):
    """y = a where condition holds, else b; what is not chosen gets gradient 0, NaN or not"""

    def forward(condition, a, b): return np.where(condition, a, b)
    def grad_a(g, condition): return np.where(condition, g, 0)
    def grad_b(g, condition): return np.where(condition, 0, g)

    def samples(rng):
        for a, b in binary(rng):
            yield rng.random(np.broadcast_shapes(np.shape(a), np.shape(b))) < 0.5, a, b
        yield np.array([[True], [False]]), rng.normal(size=3), rng.normal(size=(2, 3))


class Abs(Primitive):
    """y = |a|; the subgradient at 0 is 0"""

    def forward(a): return np.abs(a)
    def grad_a(g, a): return g * np.sign(a)
    def samples(rng): return unary(rng)


class Clip(Primitive):
    """y = a held between low and high (either may be None); on a bound the gradient passes, as in PyTorch"""

    def forward(a, *, low=None, high=None): return np.clip(a, low, high)

    def grad_a(g, a, low, high):
        return g * ((a >= (-np.inf if low is None else low)) & (a <= (np.inf if high is None else high)))

    def samples(rng):
        for (a,) in unary(rng, -0.7, 1.0):
            yield a, {"low": -0.7, "high": 1.0}
        yield away(rng, (2, 3), 0.5), {"high": 0.5}
        yield away(rng, (2, 3), 0.5), {"low": 0.5}


add, subtract, multiply, divide, negate = (p.function() for p in (Add, Subtract, Multiply, Divide, Negate))
power, maximum, minimum, where, abs, clip = (p.function() for p in (Power, Maximum, Minimum, Where, Abs, Clip))
