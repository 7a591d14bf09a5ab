"""Initial weights.

Layers draw their own: what PyTorch draws by default, or, given `std`, what GPT-2 draws.

    PyTorch     Linear: weight, then bias, uniform in ±1/√in        Embedding: normal, std 1
    GPT-2       weights normal, std 0.02, biases 0; the last linear map of each residual branch std 0.02/√(2L)

A residual stream adds up 2L branches (attention and MLP of L layers), so their scale of 1/√(2L) keeps its variance.
With PyTorch's scheme and the same seed a model has the same weights as its twin in PyTorch.

`with init.empty():` draws nothing at all, for a model whose weights are about to be loaded.
"""

import contextlib
import math
import threading

import numpy as np

from ..engine import STATE
from ..engine.random import default_generator

_LOCAL = threading.local()


@contextlib.contextmanager
def empty():
    """Layers built inside get memory and no values, in no time.

    >>> from tinyllm import nn
    >>> with empty():
    ...     nn.Linear(50_000, 50_000).num_params()
    2500050000
    """
    before, _LOCAL.empty = getattr(_LOCAL, "empty", False), True
    try:
        yield
    finally:
        _LOCAL.empty = before


def _drawn(draw, shape):
    """What `draw(dtype)` returns, or uninitialised memory."""
    return np.empty(shape, STATE.dtype) if getattr(_LOCAL, "empty", False) else draw(STATE.dtype)


def normal(shape, std, generator=None):
    """Normal numbers around 0."""
    return _drawn(lambda dtype: (generator or default_generator()).normal(0.0, std, shape, dtype=dtype), shape)


def fan_in_uniform(shape, fan_in, generator=None):
    """Uniform in ±1/√fan_in: the variance is 1/(3 fan_in), so a sum over fan_in inputs keeps a third of theirs."""
    bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
    return _drawn(lambda dtype: (generator or default_generator()).uniform(-bound, bound, shape, dtype=dtype), shape)


def constant(shape, value):
    """All alike."""
    return _drawn(lambda dtype: np.full(shape, value, dtype), shape)


def residual_std(std, n_layer):
    """std/√(2L), for the maps that write into the residual stream (Radford et al. 2019, section 2.3).

    >>> residual_std(0.02, 2)
    0.01
    """
    return std / math.sqrt(2 * n_layer)
