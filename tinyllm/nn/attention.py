"""Causal multi-head self-attention, as a layer."""

from ..engine import Tensor
from . import functional as F
from .dropout import Dropout
from .linear import Linear
from .module import Module


class Attention(Module):
    """x (B, T, C) -> (B, T, C): each token takes a mean of the values of itself and those before it.

    One linear map `qkv` makes queries, keys and values of all heads, `proj` maps the heads' results back. `dropout` acts
    on the attention weights; `bias` and `qkv_bias` (None: as `bias`) say which maps have biases; `std` and `proj_std` are
    as in `Linear`. `layer` is the number under which a cache keeps this layer's keys and values.

    >>> Attention(8, n_head=2)
    Attention(
      n_head=2
      (qkv): Linear(8, 24, bias=True)
      (proj): Linear(8, 8, bias=True)
      (dropout): Dropout(0.0)
    )
    """

    def __init__(self, n_embd, n_head, *, bias=True, qkv_bias=None, dropout=0.0, std=None, proj_std=None, layer=0,
                 generator=None):
        if n_embd % n_head:
            raise ValueError(f"Attention: width {n_embd} is not a multiple of {n_head} heads")
        self.n_head, self.layer = n_head, layer
        self.qkv = Linear(n_embd, 3 * n_embd, bias if qkv_bias is None else qkv_bias, std=std, generator=generator)
        self.proj = Linear(n_embd, n_embd, bias, std=proj_std, generator=generator)
        self.dropout = Dropout(dropout, generator)

    def forward(self, x, cache=None):
        B, T, C = x.shape
        qkv = self.qkv(x)                                                       # (B, T, 3C)
        if cache is None:
            keep = self.dropout.mask((B, self.n_head, T, T), x.dtype)
            return self.proj(F.self_attention(qkv, self.n_head, keep=keep))     # (B, T, C)
        query, key, value = qkv.numpy().reshape(B, T, 3, self.n_head, -1).transpose(2, 0, 3, 1, 4)      # (B, H, T, D)
        key, value = cache.append(self.layer, key, value)                       # (B, H, S, D)
        y = F.attention(Tensor(query), Tensor(key), Tensor(value))              # (B, H, T, D)
        return self.proj(y.transpose(0, 2, 1, 3).reshape(B, T, C))

    def details(self):
        return f"n_head={self.n_head}"
