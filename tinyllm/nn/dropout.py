"""Dropout as a layer."""

from . import functional as F
from .module import Module


class Dropout(Module):
    """In training, sets numbers to 0 with probability `p` and divides the rest by 1-p; in eval mode, nothing.

    Draws from `generator`, or from the one `tl.manual_seed` seeds.

    >>> Dropout(0.1)
    Dropout(0.1)
    """

    def __init__(self, p=0.5, generator=None):
        if not 0 <= p < 1:
            raise ValueError(f"Dropout({p}): expected a probability from 0 up to, not including, 1")
        self.p, self.generator = p, generator

    def forward(self, x):
        return F.dropout(x, self.p, self.training, self.generator)

    def mask(self, shape, dtype=None):
        """What an array of `shape` is to be multiplied by; None where nothing is dropped."""
        return F.keep_mask(shape, self.p, self.generator, dtype) if self.training and self.p else None

    def details(self):
        return f"{self.p}"
