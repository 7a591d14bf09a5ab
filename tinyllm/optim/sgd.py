"""Stochastic gradient descent, with momentum if wanted.

    g ← g + weight_decay · θ
    b ← momentum · b + g                    (b starts as the first g)
    θ ← θ - lr · b                          Nesterov: θ ← θ - lr · (g + momentum · b)

This is PyTorch's form (Sutskever et al. 2013 put lr inside b).
"""

from .optimizer import Optimizer


class SGD(Optimizer):
    """θ ← θ - lr · g, with momentum (Nesterov's if asked) and weight decay added to the gradient.

    >>> from tinyllm import nn
    >>> p = nn.Parameter([1.0]); p.grad = p.numpy() * 2
    >>> SGD([p], lr=0.1).step()
    >>> p.numpy()
    array([0.8], dtype=float32)
    """

    moments = ("momentum",)

    def __init__(self, params_or_groups, lr=1e-3, momentum=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(params_or_groups, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
        for group in self.groups:
            if group["nesterov"] and not group["momentum"]:
                raise ValueError("SGD: nesterov looks ahead along the momentum, which is 0: give momentum=0.9")

    def update(self, array, grad, state, group):
        momentum = group["momentum"]
        if group["weight_decay"]:
            grad = grad + group["weight_decay"] * array
        if momentum:
            b = state["momentum"]
            if state["step"] > 1:
                b *= momentum
            b += grad
            grad = grad + momentum * b if group["nesterov"] else b
        array -= group["lr"] * grad
