"""The key/value cache: what attention needs of the past, kept.

Causal attention of a token looks back at keys and values that later tokens cannot change, so drawing text one token
at a time computes each of them once. Memory for `capacity` positions is taken at the start; `append` writes the new
positions and returns views of all so far. The model, having passed all its layers, calls `advance`.
"""

import numpy as np

from ..engine import STATE


class KVCache:
    """Keys and values of `n_layer` layers, (L, B, K, capacity, D), of which `length` positions are filled.

    >>> cache = KVCache(n_layer=1, batch=1, n_head=2, capacity=8, head_size=4)
    >>> keys, values = cache.append(0, np.ones((1, 2, 3, 4)), np.ones((1, 2, 3, 4)))
    >>> cache.advance(3)
    >>> keys.shape, cache.length
    ((1, 2, 3, 4), 3)
    """

    def __init__(self, n_layer, batch, n_head, capacity, head_size, dtype=None):
        shape = (n_layer, batch, n_head, capacity, head_size)
        dtype = STATE.dtype if dtype is None else dtype
        self.keys, self.values = np.empty(shape, dtype), np.empty(shape, dtype)
        self.length, self.capacity = 0, capacity

    def append(self, layer, keys, values):
        """Put (B, K, T, D) arrays behind the filled positions; all keys and values of the layer, (B, K, S, D)."""
        end = self.length + keys.shape[2]
        if end > self.capacity or keys.shape[0] != self.keys.shape[1]:
            raise ValueError(f"KVCache for {self.keys.shape[1]} rows of {self.capacity} positions, {self.length} filled, was given "
                             f"{keys.shape[0]} rows of {keys.shape[2]}: make a larger one, or crop() it")
        self.keys[layer, :, :, self.length:end] = keys
        self.values[layer, :, :, self.length:end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, count):
        """Count `count` positions as filled: every layer has appended them."""
        self.length += count

    def crop(self, length):
        """Forget all but the first `length` positions."""
        self.length = min(self.length, length)

    def reset(self):
        """Forget everything."""
        self.length = 0
