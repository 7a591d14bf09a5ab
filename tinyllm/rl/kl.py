"""How far the policy has moved from a reference: estimates of a KL divergence from sampled tokens.

With x drawn from π and d = log π(x) - log ref(x):

    name  value          mean over x        spread   differentiated as a loss, on samples of π itself
    k1    d              KL(π‖ref)          wide     0: the mean of a score is 0, so this does nothing
    k2    d²/2           close to it        narrow   ∇ KL(π‖ref), exactly
    k3    e⁻ᵈ - 1 + d    KL(π‖ref)          narrow   ∇ KL(ref‖π), the other direction
    k1 subtracted from the reward                    ∇ KL(π‖ref), exactly, through the policy gradient

(Schulman, joschu.net/blog/kl-approx; the last column is tested by summing over all x.) So k1 belongs into the reward
and k2 or k3 into the loss. `drift` asks how far an update has gone; its samples come from the old policy.
"""

import numpy as np

from ..errors import UserError
from .functions import k3
from .masked import as_mask, constant, keep, masked_mean, tensor


def kl(logps, ref_logps, kind="k3"):
    """The estimate `kind` of KL(π‖ref) for each token; a Tensor of the shape of `logps`.

    >>> kl(np.array([-0.2]), np.array([-0.9]), "k1").numpy().round(2)
    array([0.7])
    """
    logps = tensor(logps)
    d = logps - constant(ref_logps, logps)
    if kind == "k1":
        return d
    if kind == "k2":
        return d * d / 2
    if kind == "k3":
        return k3(d)
    raise UserError(f'kl: kind {kind!r}; expected "k1", "k2" or "k3"')


def drift(logps, old_logps, mask):
    """Estimates of KL(old‖new) from samples of the old policy: {"k1", "k2", "k3"}, means over `mask`.

    >>> drift([[-1.0]], [[-1.0]], [[1]])["k3"]
    0.0
    """
    mask = as_mask(mask, np.shape(constant(logps)))
    e = keep(constant(logps) - constant(old_logps), mask)
    values = {"k1": -e, "k2": e * e / 2, "k3": np.expm1(e) - e}
    return {name: float(masked_mean(value, mask)) for name, value in values.items()}


class AdaptiveKL:
    """A KL coefficient that steers the KL of a whole completion towards `target` nats (Ziegler et al. 2019, section 2.2).

        e = clip(kl / target - 1, -0.2, 0.2);   coefficient *= 1 + e · n / horizon

    >>> control = AdaptiveKL(0.2, target=6.0, horizon=10_000)
    >>> round(control.update(9.0, 64), 6)
    0.200256
    """

    def __init__(self, coefficient, target=6.0, horizon=10_000):
        if not (coefficient >= 0 and target > 0 and horizon > 0):
            raise UserError(f"AdaptiveKL(coefficient={coefficient}, target={target}, horizon={horizon}); expected numbers "
                            "above 0 (the coefficient may be 0)")
        self.coefficient, self.target, self.horizon = coefficient, target, horizon

    def update(self, kl, episodes):
        """Take note of the mean KL of `episodes` completions; returns the new coefficient."""
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.coefficient *= 1 + error * episodes / self.horizon
        return self.coefficient


class FixedKL:
    """A KL coefficient that stays what it is.

    >>> FixedKL(0.05).update(100.0, 64)
    0.05
    """

    def __init__(self, coefficient):
        self.coefficient = coefficient

    def update(self, kl, episodes):
        """The coefficient, whatever was measured."""
        return self.coefficient
