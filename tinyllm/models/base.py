"""What every language model here shares: checks, the loss, drawing text, and what a cache of it costs.

A model gives `config` (a `Config`) and `forward(ids, cache=None)`, which turns whole numbers (B, T) into logits (B, T, V). If it
gives `hidden(ids, cache=None)` instead, the vectors (B, T, C) that `unembed` makes logits of, `loss` does without the logits.
`make_cache(batch, length, pad=None)` returns an empty cache of keys and values, whose `length` grows by T at each
`forward(ids, cache=...)`.
"""

import dataclasses

import numpy as np

from ..engine import STATE, as_array
from ..errors import UserError
from ..nn import functional as F
from ..nn.attention import reading
from ..nn.module import Module
from ..nn.recomputed import recomputed

HALF = {"bfloat16": 2}      # what NumPy has no dtype for, in bytes


@dataclasses.dataclass
class Config:
    """Base of the configurations: sizes that are checked, presets that are published."""

    presets = {}        # name: the fields that differ from the defaults

    @classmethod
    def preset(cls, name, **changes):
        """The configuration published under `name`, with `changes` to single fields."""
        if name not in cls.presets:
            raise UserError(f"no {cls.__name__.removesuffix('Config')} preset is called {name!r}; known are {', '.join(cls.presets)}")
        return cls(**{**cls.presets[name], **changes})

    def check(self, *sizes):
        """UserError unless these fields are whole numbers above 0, and `dropout` is a probability."""
        for name in sizes:
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise UserError(f"{type(self).__name__}: {name}={value!r}; expected a whole number above 0")
        if not 0 <= self.dropout < 1:
            raise UserError(f"{type(self).__name__}: dropout={self.dropout}; expected a probability from 0 up to, not including, 1")

    def check_heads(self):
        """UserError unless `n_head` heads of equal size make up the width."""
        if self.n_embd % self.n_head:
            raise UserError(f"{type(self).__name__}: n_embd={self.n_embd} is not a multiple of n_head={self.n_head}; every head has the "
                            f"same size: try n_embd={-(-self.n_embd // self.n_head) * self.n_head}")

    def cached_per_token(self):
        """How many numbers a cache keeps for one more token, over all layers."""
        raise NotImplementedError

    def kv_bytes_per_token(self, dtype=np.float16):
        """Bytes that the cache grows by with each token; `dtype` one of NumPy's or "bfloat16".

        A layer with a window stops growing when the window is full.
        """
        return self.cached_per_token() * (HALF.get(dtype) or np.dtype(dtype).itemsize)


class LanguageModel(Module):
    """Base of GPT, Llama and DeepSeek: logits (B, T, V) for ids (B, T), and what follows from them."""

    hidden = None       # or a method
    recompute = False   # whether backward makes each block's graph again: a third more arithmetic, far less memory

    def forward(self, ids, cache=None):
        return self.unembed(self.hidden(ids, cache))

    def through(self, block, x, *context):
        """`block(x, *context)`, as `recompute` says."""
        return recomputed(block, x, *context) if self.recompute and self.training and STATE.grad else block(x, *context)

    def loss(self, ids, targets, ignore_index=-100):
        """Mean cross-entropy in nats of `targets` (B, T) given `ids` (B, T); a scalar Tensor.

        The caller shifts: `targets[:, t]` is the token that follows `ids[:, t]`. Targets equal to
        `ignore_index` do not count.
        """
        if self.hidden is None:
            return F.cross_entropy(self(ids), targets, ignore_index=ignore_index)
        return self.surprise(self.hidden(ids), targets, ignore_index)

    def surprise(self, x, targets, ignore_index=-100):
        """Mean cross-entropy of `targets` (...) given the vectors x (..., C) that the logits are made of."""
        table = self.wte.weight if self.head is None else self.head.matrix()
        return F.linear_cross_entropy(x, table, targets, ignore_index)

    def unembed(self, x):
        """Logits (..., V) of vectors x (..., C): by the head, or by the token table where the two are one."""
        return F.linear(x, self.wte.weight) if self.head is None else self.head(x)

    def auxiliary_losses(self):
        """Further terms of the last forward, name -> scalar Tensor, to be added to the loss before its backward."""
        return {}

    def after_step(self):
        """What a model changes by rule, not by gradient, after an update of its parameters."""

    def make_cache(self, batch, length, pad=None):
        """An empty cache for `batch` rows of at most `length` positions; `pad` (B,): empty slots before each row."""
        raise NotImplementedError

    def step(self, cache):
        """The next token's `forward` in one compiled call, `step(id) -> logits (V,)`, or None; see models/decoding.py."""
        return None

    def kv_bytes_per_token(self, dtype=np.float16):
        """Bytes that the cache grows by with each token, as `config.kv_bytes_per_token`."""
        return self.config.kv_bytes_per_token(dtype)

    def attention_weights(self, ids):
        """How much each token of `ids` (B, T) looks at each other: for every layer an array (B, H, T, T)."""
        from ..engine import no_grad
        with reading(self) as weights, no_grad():
            self(ids)
        return weights

    def checked(self, ids, cache=None):
        """`ids` as an array (B, T) that fits the model's window and the cache; says what is wrong otherwise."""
        ids, model = as_array(ids), type(self).__name__
        if ids.ndim != 2 or ids.dtype.kind not in "iu":
            raise ValueError(f"{model}: ids of shape {ids.shape} and dtype {ids.dtype.name}; expected whole numbers (B, T), one row for "
                             "each text: a single text is ids[None, :]")
        past = 0 if cache is None else cache.length
        if past + ids.shape[1] > self.config.block_size:
            after = f" after {past} in the cache" if past else ""
            raise ValueError(f"{model}: {ids.shape[1]} positions{after}; the model knows {self.config.block_size} (block_size): "
                             "give it the last ones only, or build it with a larger block_size")
        if cache is not None and STATE.grad and any(p.requires_grad for p in self.parameters()):
            raise RuntimeError(f"{model}: a cache keeps arrays, not graphs, so nothing could be learned through it: "
                               "work under tl.no_grad(), or leave the cache out")
        return ids

    # Generation and files are floors above the models, so nothing here may need them to be imported; the methods
    # below fetch them when they are called, for the sake of `model.generate(...)`.

    def generate(self, ids, max_new_tokens, **options):
        """Continue `ids` by `max_new_tokens`; see `tinyllm.generate.generate` for the options."""
        from ..generate import generate
        return generate(self, ids, max_new_tokens, **options)

    def stream(self, ids, max_new_tokens, **options):
        """Yield the ids that continue `ids`, as they are drawn; see `tinyllm.generate.stream`."""
        from ..generate import stream
        return stream(self, ids, max_new_tokens, **options)

    @classmethod
    def from_pretrained(cls, path):
        """The model of this class in a Hugging Face directory, or whatever else `tl.load` reads; in eval mode."""
        from ..load import load
        model, _ = load(path, tokenizer=False)
        if not isinstance(model, cls):
            raise UserError(f"{path} holds a {type(model).__name__}, not a {cls.__name__}: tl.load(path) takes either")
        return model

    def save_pretrained(self, path, tokenizer=None):
        """Write a directory that transformers loads unchanged; see `tinyllm.weights.hf.save`."""
        from ..weights import hf
        hf.save(self, path, tokenizer)


def positions(ids, cache):
    """The positions of `ids` (B, T): (T,), or (B, T) where the rows of the cache are padded."""
    return np.arange(ids.shape[1]) if cache is None else cache.positions(ids.shape[1])
