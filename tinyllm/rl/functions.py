"""Three functions of one number that the losses share, each exact where the obvious formula loses its digits.

    log σ(x)      = -log(1 + e⁻ˣ)         overflows for x ≪ 0 when written so
    k3(d)         = e⁻ᵈ - 1 + d ≈ d²/2    cancels for small d: in float32 nothing is left below d = 1e-4
    log(1 - eˣ)   for x < 0               cancels near 0 and far from it
"""

import math

import numpy as np

from ..engine import Primitive


class LogSigmoid(Primitive):
    """y = log σ(a) = -log(1 + e⁻ᵃ)"""

    def forward(a): return -np.logaddexp(0, -a)
    def grad_a(g, y): return -g * np.expm1(y)       # 1 - σ(a), and e^y = σ(a)
    def samples(rng): yield (4 * rng.normal(size=(3, 4)),)


class K3(Primitive):
    """y = e⁻ᵃ - 1 + a, which is never negative and is 0 only at 0"""

    def forward(a): return np.expm1(-a) + a
    def grad_a(g, a): return -g * np.expm1(-a)
    def samples(rng): yield (rng.normal(size=(3, 4)),)


class LogOneMinusExp(Primitive):
    """y = log(1 - eᵃ) for a < 0; of the two forms the one that keeps the digits"""

    def forward(a):
        near = a > -math.log(2)
        return np.where(near, np.log(-np.expm1(np.where(near, a, -1))), np.log1p(-np.exp(np.where(near, -1, a))))

    def grad_a(g, a): return g / -np.expm1(-a)      # -eᵃ / (1 - eᵃ) = -1 / (e⁻ᵃ - 1)
    def samples(rng): yield (-0.1 - 3 * rng.random(size=(3, 4)),)


log_sigmoid, k3, log_one_minus_exp = (p.function() for p in (LogSigmoid, K3, LogOneMinusExp))
