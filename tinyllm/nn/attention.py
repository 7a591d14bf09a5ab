"""Causal self-attention, as a layer: many heads, grouped heads, or one key for all.

    MHA   every query head has a key/value head of its own              K = H       (Vaswani et al. 2017)
    GQA   each key/value head serves H/K consecutive query heads        1 < K < H   (Ainslie et al. 2023)
    MQA   one key/value head serves all                                 K = 1       (Shazeer 2019)

One map `qkv` makes them all: its rows are the queries of H heads, then K heads of keys, then K heads of values. What the
heads do is the same in each case, so this is one layer, with these options:

    rotation    turns queries and keys by their positions (nn/positions.py); the model makes it once for all layers
    qk_norm     RMSNorm of each query and key before that, so that no score can run away (Qwen 3)
    window w    query i sees keys j with i - w < j <= i: Mistral's sliding window, GPT-3's locally banded layers
"""

import contextlib

from ..engine import Tensor
from . import functional as F
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .norm import RMSNorm


class Attention(Module):
    """x (B, T, C) -> (B, T, C): each token takes a mean of the values of itself and those before it.

    `n_kv_head` key/value heads (None: as many as queries) of `head_size` (None: C / H); `proj` maps the heads' results
    back. `dropout` acts on the attention weights; `bias` and `qkv_bias` (None: as `bias`) say which maps have biases;
    `qk_norm` is the eps of the norms, or None; `std` and `proj_std` are as in `Linear`. `layer` is the number under which a
    cache keeps this layer's keys and values.

    >>> Attention(8, n_head=4, n_kv_head=2, bias=False)
    Attention(
      n_head=4, n_kv_head=2
      (qkv): Linear(8, 16, bias=False)
      (proj): Linear(8, 8, bias=False)
      (dropout): Dropout(0.0)
    )
    """

    def __init__(self, n_embd, n_head, n_kv_head=None, head_size=None, *, bias=True, qkv_bias=None, qk_norm=None, window=None,
                 dropout=0.0, std=None, proj_std=None, layer=0, generator=None):
        n_kv_head = n_head if n_kv_head is None else n_kv_head
        if head_size is None and n_embd % n_head:
            raise ValueError(f"Attention: width {n_embd} is not a multiple of {n_head} heads")
        if n_head % n_kv_head:
            raise ValueError(f"Attention: {n_head} query heads cannot share {n_kv_head} key/value heads evenly")
        D = n_embd // n_head if head_size is None else head_size
        self.n_head, self.n_kv_head, self.head_size, self.window, self.layer = n_head, n_kv_head, D, window, layer
        self.qkv = Linear(n_embd, (n_head + 2 * n_kv_head) * D, bias if qkv_bias is None else qkv_bias, std=std, generator=generator)
        self.proj = Linear(n_head * D, n_embd, bias, std=proj_std, generator=generator)
        self.q_norm, self.k_norm = (None, None) if qk_norm is None else (RMSNorm(D, qk_norm), RMSNorm(D, qk_norm))
        self.dropout = Dropout(dropout, generator)
        self.read_out = None        # a list that collects attention weights; see `reading`

    def forward(self, x, cache=None, rotation=None):
        B, T, _ = x.shape
        H, K, D = self.n_head, self.n_kv_head, self.head_size
        qkv = self.qkv(x)                                                                   # (B, T, (H + 2K) D)
        keep = self.dropout.mask((B, H, T, T), x.dtype) if cache is None else None
        if cache is self.q_norm is self.read_out is None:       # what follows, in one step
            return self.proj(F.self_attention(qkv, H, K, rotation=rotation, window=self.window, keep=keep))
        heads = qkv.reshape(B, T, H + 2 * K, D).transpose(0, 2, 1, 3)                       # (B, H + 2K, T, D)
        query, key, value = heads[:, :H], heads[:, H:H + K], heads[:, H + K:]
        if self.q_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = rotation.turn(query), rotation.turn(key)
        mask = None
        if cache is not None:
            mask = cache.mask(self.layer, T)                                                # (B, 1, T, S)
            key, value = map(Tensor, cache.append(self.layer, key.numpy(), value.numpy()))  # (B, K, S, D)
        y = attend(self, query, key, value, window=self.window, keep=keep, mask=mask)       # (B, H, T, D)
        return self.proj(y.transpose(0, 2, 1, 3).reshape(B, T, H * D))

    def details(self):
        grouped = "" if self.n_kv_head == self.n_head else f", n_kv_head={self.n_kv_head}"
        return f"n_head={self.n_head}{grouped}" + ("" if self.window is None else f", window={self.window}")


def attend(layer, query, key, value, **options):
    """`F.attention`, leaving the weights in the layer's `read_out` where somebody reads them."""
    if layer.read_out is None:
        return F.attention(query, key, value, **options)
    y, weights = F.attention(query, key, value, **options, return_weights=True)
    layer.read_out.append(weights.numpy())
    return y


@contextlib.contextmanager
def reading(model):
    """Collect attention weights: yields a list that gets an array (B, H, T, S) from each layer of each forward.

    >>> import numpy as np, tinyllm as tl
    >>> layer = Attention(8, n_head=2)
    >>> with reading(layer) as weights:
    ...     _ = layer(tl.Tensor(np.ones((1, 2, 8), np.float32)))
    >>> weights[0][0, 0]
    array([[1. , 0. ],
           [0.5, 0.5]], dtype=float32)
    """
    weights = []
    layers = [module for module in model.modules() if hasattr(module, "read_out")]
    for layer in layers:
        layer.read_out = weights
    try:
        yield weights
    finally:
        for layer in layers:
            layer.read_out = None
