"""Functions of one number, applied to every element.

Many derivatives are shortest in terms of the result: (eˣ)' = eˣ is `g * y`, which lets the input go.
"""

import math

import numpy as np

from ..engine import Primitive
from .samples import unary

_erf = np.frompyfunc(math.erf, 1, 1)    # exact to the last place; the fused GELU has a kernel of its own


class Exp(Primitive):
    """y = eᵃ"""
    analytic = True

    def forward(a): return np.exp(a)
    def grad_a(g, y): return g * y
    def samples(rng): return unary(rng)


class Log(Primitive):
    """y = ln a"""
    analytic = True

    def forward(a): return np.log(a)
    def grad_a(g, a): return g / a
    def samples(rng): return unary(rng, low=0.5, high=2.0)


class Sqrt(Primitive):
    """y = √a; the slope at 0 is infinite"""
    analytic = True

    def forward(a): return np.sqrt(a)
    def grad_a(g, y): return g / (2 * y)
    def samples(rng): return unary(rng, low=0.5, high=2.0)


class Tanh(Primitive):
    """y = tanh a"""
    analytic = True

    def forward(a): return np.tanh(a)
    def grad_a(g, y): return g * (1 - y * y)
    def samples(rng): return unary(rng)


class Sigmoid(Primitive):
    """y = 1 / (1 + e⁻ᵃ), without overflow for any a: it is (1 + tanh(a/2)) / 2"""
    analytic = True

    def forward(a): return 0.5 * (1 + np.tanh(0.5 * a))
    def grad_a(g, y): return g * y * (1 - y)
    def samples(rng): return unary(rng)


class Erf(Primitive):
    """y = 2/√π ∫₀ᵃ e^(-t²) dt, the error function"""

    def forward(a): return np.asarray(_erf(a)).astype(np.asarray(a).dtype)
    def grad_a(g, a): return g * (2 / math.sqrt(math.pi)) * np.exp(-a * a)
    def samples(rng): return unary(rng)


class Relu(Primitive):
    """y = max(a, 0); the subgradient at 0 is 0"""

    def forward(a): return np.maximum(a, 0)
    def grad_a(g, a): return g * (a > 0)
    def samples(rng): return unary(rng)


class Sin(Primitive):
    """y = sin a (radians)"""
    analytic = True

    def forward(a): return np.sin(a)
    def grad_a(g, a): return g * np.cos(a)
    def samples(rng): return unary(rng, -math.pi / 2, math.pi / 2)


class Cos(Primitive):
    """y = cos a (radians)"""
    analytic = True

    def forward(a): return np.cos(a)
    def grad_a(g, a): return -g * np.sin(a)
    def samples(rng): return unary(rng)


exp, log, sqrt, tanh, sigmoid, erf, relu, sin, cos = (
    p.function() for p in (Exp, Log, Sqrt, Tanh, Sigmoid, Erf, Relu, Sin, Cos))
