"""Rows of text that grow token by token, and what the model says comes next.

This is what drawing, beam search and best-of-n have in common. A `Decoder` holds the rows, feeds the model the new tokens
only (its cache has the rest), and goes on past the end of the model's window:

    up to `block_size` tokens     the cache serves; prompts of unequal length are padded on the left, which no token sees
    beyond                        each row's last `block_size` tokens are computed afresh for every token, for positions
                                  change as the window slides and cached keys and values would not
"""

import numpy as np

from .engine.state import no_grad


class Decoder:
    """`prompts`: a list of whole-number arrays, each (T,) and not empty; there is room for `room` more tokens in each row."""

    def __init__(self, model, prompts, room, use_cache=True):
        self.model, self.block_size = model, model.config.block_size
        self.length = max(map(len, prompts))                                    # slots filled in every row
        self.pad = np.array([self.length - len(prompt) for prompt in prompts])  # of which so many at the start are empty
        self.slots = np.empty((len(prompts), self.length + room), np.int64)
        for row, prompt, pad in zip(self.slots, prompts, self.pad):
            row[:pad], row[pad:self.length] = prompt[0], prompt                 # some id has to stand in an empty slot
        self.cache = None
        if use_cache and self.length < self.block_size:
            padding = {"pad": self.pad} if self.pad.any() else {}
            self.cache = model.make_cache(len(prompts), min(self.length + room, self.block_size), **padding)

    def logits(self):
        """Logits (B, V) of the token after each row, as an array that the next call may write again."""
        if self.cache is not None and self.length > self.block_size:
            self.cache = None
        if self.cache is not None:
            if (step := self.step()) is not None:
                return step(self.slots[0, self.length - 1])[None]
            return next_logits(self.model, self.slots[:, self.cache.length:self.length], self.cache)
        starts = np.maximum(self.pad, self.length - self.block_size)
        out = None
        for start in np.unique(starts):                 # rows that show the same number of tokens go together
            rows = np.flatnonzero(starts == start)
            part = next_logits(self.model, self.slots[rows, start:self.length])
            if out is None:
                out = np.empty((len(starts), part.shape[1]), part.dtype)
            out[rows] = part
        return out

    def step(self):
        """The compiled step of the only row, if there is one and it has but one new token; see `models.decoding.Step`."""
        if self.cache is None or self.length != self.cache.length + 1 or self.length > self.block_size:
            return None
        return self.model.step(self.cache)

    def append(self, ids):
        """Put one id behind each row, or several (n,) behind the only one."""
        count = len(ids) if len(self.slots) == 1 else 1
        self.slots[:, self.length:self.length + count] = np.reshape(ids, (-1, count))
        self.length += count

    def select(self, rows):
        """Keep these rows, in this order; a row may be taken twice."""
        self.slots, self.pad = self.slots[rows], self.pad[rows]
        if self.cache is not None:
            self.cache.select(rows)

    def rows(self):
        """Each row as an array, prompt and all."""
        return [row[pad:self.length].copy() for row, pad in zip(self.slots, self.pad)]


def next_logits(model, ids, cache=None):
    """Logits (B, V) of the token after `ids` (B, T), as an array: no graph, no dropout."""
    training = model.training
    if training:
        model.eval()
    try:
        with no_grad():
            return model(ids, cache=cache).numpy()[:, -1]
    finally:
        if training:
            model.train()
