"""Dropout (Srivastava et al. 2014): in training, each number is set to 0 with probability p.

    y = x · keep,    keep = 1/(1-p) with probability 1-p, else 0

The factor 1/(1-p) keeps the expectation, so that nothing has to change when the model is used.
"""

import numpy as np

from ..engine import STATE, Tensor
from ..engine.random import default_generator


def keep_mask(shape, p, generator=None, dtype=None):
    """An array of `shape`: 0 with probability `p`, else 1/(1-p). Draws from `generator` or the default one."""
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p={p}; expected a probability from 0 up to, not including, 1")
    dtype = np.dtype(STATE.dtype if dtype is None else dtype)
    drawn = (generator or default_generator()).rand(*shape)
    return (drawn >= p) * dtype.type(1 / (1 - p))


def dropout(x, p=0.5, training=True, generator=None):
    """Numbers of `x` set to 0 with probability `p`, the rest divided by 1-p; `x` itself if not training or p is 0.

    >>> import tinyllm as tl
    >>> dropout(tl.Tensor([1.0, 2.0, 3.0, 4.0]), p=0.5, generator=tl.engine.random.Generator(0)).numpy()
    array([0., 4., 0., 0.], dtype=float32)
    """
    if not training or p == 0:
        return x
    x = x if isinstance(x, Tensor) else Tensor(x)
    return x * keep_mask(x.shape, p, generator, x.dtype)
