"""The key/value cache: what attention needs of the past, kept.

Causal attention of a token looks back at keys and values that later tokens cannot change, so drawing text one token
at a time computes each of them once. Memory for `capacity` positions is taken at the start; `append` writes the new
positions and returns all that the layer's queries may see. The model, having passed all its layers, calls `advance`.

A layer that looks back over a window of w positions keeps w of them, in a ring: position p lies in slot p mod w. What
the ring has dropped cannot be cropped back to.

Prompts of unequal length share a batch by padding on the left: `pad[b]` slots at the start of row b are empty. They
count as slots, not as positions (`positions`), and no later token sees them (`mask`).
"""

import numpy as np

from ..engine import STATE


class KVCache:
    """Keys and values of `n_layer` layers, each (B, K, capacity, D), of which `length` positions are filled.

    `windows`: for each layer the window it looks back over, or None; `streams`: how many arrays a layer keeps (keys and
    values, or latent attention's one); `pad` (B,): empty slots at the start of each row.

    >>> cache = KVCache(n_layer=1, batch=1, n_head=2, capacity=8, head_size=4)
    >>> keys, values = cache.append(0, np.ones((1, 2, 3, 4)), np.ones((1, 2, 3, 4)))
    >>> cache.advance(3)
    >>> keys.shape, cache.length
    ((1, 2, 3, 4), 3)
    """

    def __init__(self, n_layer, batch, n_head, capacity, head_size, dtype=None, *, streams=2, windows=None, pad=None):
        dtype = STATE.dtype if dtype is None else dtype
        self.windows = [None if w is None or w >= capacity else w for w in windows or [None] * n_layer]
        self.layers = [[np.empty((batch, n_head, capacity if w is None else w, head_size), dtype) for _ in range(streams)]
                       for w in self.windows]
        self.batch, self.capacity, self.length = batch, capacity, 0
        self.reach = 0          # the furthest `length` has been since the last reset: rings hold the positions before it
        self.pad = None if pad is None or not np.any(pad) else np.asarray(pad, np.int64)

    @property
    def nbytes(self):
        """Memory taken, in bytes."""
        return sum(array.nbytes for streams in self.layers for array in streams)

    def append(self, layer, *arrays):
        """Put arrays (B, K, T, D) behind the filled positions; returns for each all that may be seen, (B, K, S, D).

        The positions are in order, but for a full ring given a single one: then they are all that the window holds.
        """
        count = arrays[0].shape[2]
        if self.length + count > self.capacity or len(arrays[0]) != self.batch:
            raise ValueError(f"KVCache for {self.batch} rows of {self.capacity} positions, {self.length} filled, was given "
                             f"{len(arrays[0])} rows of {count}: make a larger one, or crop() it")
        keep = self._line if self.windows[layer] is None else self._ring
        return tuple([keep(kept, new, self.windows[layer]) for kept, new in zip(self.layers[layer], arrays)])

    def _line(self, kept, new, _):
        end = self.length + new.shape[2]
        kept[:, :, self.length:end] = new
        return kept[:, :, :end]

    def _ring(self, kept, new, window):
        start, count = self.length, new.shape[2]
        if count == 1:
            kept[:, :, start % window] = new[:, :, 0]
            return kept[:, :, :start + 1]
        past = np.arange(max(0, start - window + 1), start) % window
        seen = np.concatenate([kept[:, :, past], new], axis=2)
        last = min(count, window)
        kept[:, :, np.arange(start + count - last, start + count) % window] = new[:, :, count - last:]
        return seen

    def positions(self, count):
        """Positions of the next `count` slots: (T,), or (B, T) where rows are padded; a padded slot counts as 0."""
        slots = np.arange(self.length, self.length + count)
        return slots if self.pad is None else np.maximum(slots - self.pad[:, None], 0)

    def mask(self, layer, count):
        """Which of the keys that `append` will return are padding to the next `count` queries: (B, 1, T, S), or None."""
        if self.pad is None:
            return None
        start, window = self.length, self.windows[layer]
        if window is None:
            keys = np.arange(start + count)
        elif count == 1:        # slot s of the ring holds the last position that is s modulo the window
            slots = np.arange(min(start + 1, window))
            keys = start - (start - slots) % window
        else:
            keys = np.arange(max(0, start - window + 1), start + count)
        queries = np.arange(start, start + count)
        padding = keys < self.pad[:, None]                                          # (B, S)
        real = queries >= self.pad[:, None]                                         # (B, T): a padded query may see anything
        return (real[:, :, None] & padding[:, None, :])[:, None]

    def advance(self, count):
        """Count `count` positions as filled: every layer has appended them."""
        self.length += count
        self.reach = max(self.reach, self.length)

    def crop(self, length):
        """Forget all but the first `length` positions; ValueError where a ring has dropped what would be needed."""
        if length >= self.length:
            return
        for window in self.windows:
            if window is not None and length and max(0, length - window + 1) < self.reach - window:
                raise ValueError(f"KVCache: crop to {length} after {self.reach} positions: a layer with a window of {window} keeps only "
                                 f"the last {window}, and needs those before {length} too; reset() it and start again")
        self.length, self.reach = length, self.reach if length else 0

    def reset(self):
        """Forget everything."""
        self.length = self.reach = 0

    def select(self, rows):
        """Keep these rows of the batch, in this order; a row may be taken twice (a beam that splits)."""
        if np.array_equal(rows, np.arange(self.batch)):
            return
        self.layers = [[array[rows] for array in streams] for streams in self.layers]
        self.pad = None if self.pad is None else self.pad[rows]
        self.batch = self.layers[0][0].shape[0]
