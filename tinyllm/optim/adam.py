"""Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019).

    m ← β₁ m + (1 - β₁) g                   a mean of recent gradients
    v ← β₂ v + (1 - β₂) g²                  and of their squares
    m̂ = m / (1 - β₁ᵗ),  v̂ = v / (1 - β₂ᵗ)   both started at 0, which this takes out
    θ ← θ - lr · m̂ / (√v̂ + eps)

Weight decay is where the two differ. Adam adds weight_decay · θ to g, so that it is divided by √v̂ like the rest;
AdamW takes lr · weight_decay · θ off θ itself ("decoupled"), so that every weight decays at the same rate.
"""

import math

import numpy as np

from ..engine import STATE
from ..fused.kernels import PRECISIONS, kernel
from .optimizer import Optimizer


@kernel("in1 out1 out1 out1 number number number number number number number number number")
def adam_numbers(grad, array, m, v, beta1, new1, beta2, new2, shrink, decay, root, eps, rate):
    """One step of every number: the gradient plus `decay` θ, θ times `shrink`, then θ less rate · m / (√v · root + eps).

    new1 = 1 - β₁ and new2 = 1 - β₂ are given, for taken from a β of single precision they would be wrong in the fifth place.
    """
    for i in range(grad.size):
        g = grad[i] + decay * array[i]
        mean = beta1 * m[i] + new1 * g
        square = beta2 * v[i] + new2 * g * g
        m[i], v[i] = mean, square
        array[i] = array[i] * shrink - rate * mean / (np.sqrt(square) * root + eps)


class Adam(Optimizer):
    """Steps of about lr, along the mean gradient divided by its root mean square.

    Parameters: `params_or_groups`, `lr`, `betas` (β₁, β₂), `eps`, `weight_decay` (added to the gradient).

    >>> from tinyllm import nn
    >>> p = nn.Parameter([1.0]); p.grad = p.numpy() * 1000
    >>> Adam([p], lr=0.1).step()
    >>> p.numpy()
    array([0.9], dtype=float32)
    """

    moments = ("m", "v")
    decoupled = False

    def __init__(self, params_or_groups, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params_or_groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        for group in self.groups:
            if not all(0 <= beta < 1 for beta in group["betas"]):
                raise ValueError(f"{type(self).__name__}: betas={group['betas']}; each is a share of the past kept, from 0 up to, not including, 1")

    def update(self, array, grad, state, group):
        (beta1, beta2), lr, decay, t = group["betas"], group["lr"], group["weight_decay"], state["step"]
        m, v = state["m"], state["v"]
        if STATE.fused and array.dtype in PRECISIONS and all(x.flags.c_contiguous and x.dtype == array.dtype for x in (array, grad, m, v)):
            root, rate = 1 / math.sqrt(1 - beta2**t), lr / (1 - beta1**t)
            shrink, added = (1 - lr * decay, 0.0) if self.decoupled else (1.0, decay)
            adam_numbers(*(x.reshape(-1) for x in (grad, array, m, v)), beta1, 1 - beta1, beta2, 1 - beta2, shrink, added, root, group["eps"], rate)
            return
        if decay and self.decoupled:
            array *= 1 - lr * decay
        elif decay:
            grad = grad + decay * array
        change = np.multiply(grad, 1 - beta1)
        m *= beta1
        m += change
        np.multiply(grad, grad, out=change)
        change *= 1 - beta2
        v *= beta2
        v += change
        np.sqrt(v, out=change)
        change *= 1 / math.sqrt(1 - beta2**t)
        change += group["eps"]
        np.divide(m, change, out=change)
        change *= lr / (1 - beta1**t)
        array -= change


class AdamW(Adam):
    """Adam with decoupled weight decay, which shrinks everything it is given; see `decay_groups`.

    >>> from tinyllm import nn
    >>> p = nn.Parameter([1.0]); p.grad = p.numpy() * 0
    >>> AdamW([p], lr=0.1, weight_decay=0.1).step()
    >>> p.numpy()
    array([0.99], dtype=float32)
    """

    decoupled = True

    def __init__(self, params_or_groups, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params_or_groups, lr, betas, eps, weight_decay)


def decay_groups(model, weight_decay):
    """The usual two groups: parameters of two or more axes decay, biases and norms do not.

    >>> from tinyllm import nn
    >>> [len(group["params"]) for group in decay_groups(nn.Linear(2, 2), 0.1)]
    [1, 1]
    """
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
