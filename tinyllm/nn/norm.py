"""Normalisation over the last axis, with a learned scale."""

from . import functional as F
from . import init
from .module import Module, Parameter


class LayerNorm(Module):
    """(x - mean) / √(var + eps) · weight + bias over the last axis; weight starts at 1, bias (or None) at 0.

    >>> LayerNorm(4)
    LayerNorm(4, eps=1e-05, bias=True)
    """

    def __init__(self, size, eps=1e-5, bias=True):
        self.eps = eps
        self.weight = Parameter(init.constant(size, 1))
        self.bias = Parameter(init.constant(size, 0)) if bias else None

    def forward(self, x):
        return F.layer_norm(x, self.weight, self.bias, self.eps)

    def after(self, x, branch):
        """The residual stream x + branch, and its norm."""
        x = x + branch
        return x, self(x)

    def details(self):
        return f"{self.weight.size}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(Module):
    """x / √(mean(x²) + eps) · weight over the last axis; weight starts at 1.

    >>> RMSNorm(4)
    RMSNorm(4, eps=1e-05)
    """

    def __init__(self, size, eps=1e-5):
        self.eps = eps
        self.weight = Parameter(init.constant(size, 1))

    def forward(self, x):
        return F.rms_norm(x, self.weight, self.eps)

    def after(self, x, branch):
        """The residual stream x + branch, and its norm."""
        return F.add_rms_norm(x, branch, self.weight, self.eps)

    def details(self):
        return f"{self.weight.size}, eps={self.eps}"
