"""Llama (Touvron et al. 2023, 2302.13971 and 2307.09288; Dubey et al. 2024, 2407.21783).

    ids ─ token table ─ [block] × L ─ RMS norm ─ head ─ logits

    block    x = x + attention(norm(x));  x = x + swiglu(norm(x))

What differs from GPT-2, each for a reason: no position table, queries and keys are turned instead (rotary positions), so
that attention depends on distances; RMS norms, which leave the mean alone; a gated feed-forward layer; no biases; and
from Llama 2 70B on, several query heads share a head of keys and values, so that the cache is smaller.

    >>> config = LlamaConfig(vocab_size=65, n_layer=2, n_head=4, n_kv_head=2, n_embd=16, block_size=8)
    >>> model = Llama(config)
    >>> model(np.zeros((1, 8), int)).shape
    (1, 8, 65)
    >>> model.num_params() == config.num_params()
    True

With `qkv_bias` the same layers are Qwen 2's, with `qk_norm` Qwen 3's, with `window` Mistral's.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..nn import Attention, Block, Dropout, Embedding, KVCache, Linear, ModuleList, RMSNorm, RotaryPositions, SwiGLU, init, swiglu_width
from ..nn.positions import checked_scaling
from .base import Config, LanguageModel, positions
from .decoding import one_token, step_for


def _llama3_scaling(factor):
    return {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}


def _published(n_layer, n_head, n_kv_head, n_embd, ffn_dim, block_size, **more):
    sizes = dict(n_layer=n_layer, n_head=n_head, n_kv_head=n_kv_head, n_embd=n_embd, ffn_dim=ffn_dim, block_size=block_size)
    return {"vocab_size": 32000, "norm_eps": 1e-5, "tied": False, "eos_token_id": 2, **sizes, **more}


_V3 = dict(vocab_size=128256, rope_theta=5e5, eos_token_id=128001)
_V31 = dict(**_V3, rope_scaling=_llama3_scaling(8.0))
_V32 = dict(**_V3, rope_scaling=_llama3_scaling(32.0), tied=True)       # Meta's reference code has 8 here, the model 32
_STORIES = dict(tied=True, rope_interleaved=True, eos_token_id=1)       # llama2.c ends a text with the token that starts one

PRESETS = {     # layers, heads, key/value heads, width, feed-forward width, positions
    "llama-7b": _published(32, 32, 32, 4096, swiglu_width(4096, 256), 2048, norm_eps=1e-6),
    "llama-13b": _published(40, 40, 40, 5120, swiglu_width(5120, 256), 2048, norm_eps=1e-6),
    "llama-33b": _published(60, 52, 52, 6656, swiglu_width(6656, 256), 2048, norm_eps=1e-6),
    "llama-65b": _published(80, 64, 64, 8192, swiglu_width(8192, 256), 2048, norm_eps=1e-6),
    "llama-2-7b": _published(32, 32, 32, 4096, swiglu_width(4096, 256), 4096),
    "llama-2-13b": _published(40, 40, 40, 5120, swiglu_width(5120, 256), 4096),
    "llama-2-70b": _published(80, 64, 8, 8192, swiglu_width(8192, 4096, 1.3), 4096),
    "llama-3-8b": _published(32, 32, 8, 4096, swiglu_width(4096, 1024, 1.3), 8192, **_V3),
    "llama-3-70b": _published(80, 64, 8, 8192, swiglu_width(8192, 4096, 1.3), 8192, **_V3),
    "llama-3.1-8b": _published(32, 32, 8, 4096, swiglu_width(4096, 1024, 1.3), 131072, **_V31),
    "llama-3.1-70b": _published(80, 64, 8, 8192, swiglu_width(8192, 4096, 1.3), 131072, **_V31),
    "llama-3.1-405b": _published(126, 128, 8, 16384, swiglu_width(16384, 4096, 1.2), 131072, **_V31),
    "llama-3.2-1b": _published(16, 32, 8, 2048, swiglu_width(2048, 256, 1.5), 131072, **_V32),
    "llama-3.2-3b": _published(28, 24, 8, 3072, swiglu_width(3072, 256, 1.0), 131072, **_V32),
    "stories260k": _published(5, 8, 4, 64, swiglu_width(64, 4), 512, vocab_size=512, **_STORIES),
    "stories15m": _published(6, 6, 6, 288, swiglu_width(288, 32), 256, **_STORIES),
    "stories42m": _published(8, 8, 8, 512, swiglu_width(512, 32), 1024, **_STORIES),
    "stories110m": _published(12, 12, 12, 768, swiglu_width(768, 32), 1024, **_STORIES),
}


@dataclass
class LlamaConfig(Config):
    """The size and kind of a Llama. Raises UserError for numbers that do not go together."""

    vocab_size: int = 32000
    n_layer: int = 6
    n_head: int = 6
    n_embd: int = 288
    block_size: int = 256               # positions the model may look back over
    dropout: float = 0.0                # on embeddings, attention weights and both branches
    bias: bool = False                  # in linear maps
    tied: bool = True                   # the head is the token table
    n_kv_head: int | None = None        # heads of keys and values; None: as many as of queries
    ffn_dim: int | None = None          # None: two thirds of 4C, rounded up to a multiple of 32
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: dict | None = None    # see nn/positions.py
    rope_interleaved: bool = False      # pairs (2i, 2i + 1), Meta's layout; False: (i, i + D/2), Hugging Face's
    head_dim: int | None = None         # None: C / H
    qkv_bias: bool | None = None        # in the attention's first map; None: as bias
    qk_norm: bool = False               # RMS norm of queries and keys
    window: int | None = None           # positions a layer looks back over; None: all
    first_window_layer: int = 0         # layers before this one look back over all
    init_std: float | None = 0.02
    eos_token_id: int | list | None = None

    presets = PRESETS

    def __post_init__(self):
        self.n_kv_head = self.n_head if self.n_kv_head is None else self.n_kv_head
        self.ffn_dim = swiglu_width(self.n_embd, 32) if self.ffn_dim is None else self.ffn_dim
        if self.head_dim is None:
            self.check_heads()
            self.head_dim = self.n_embd // self.n_head
        self.check("vocab_size", "n_layer", "n_head", "n_embd", "block_size", "n_kv_head", "ffn_dim", "head_dim")
        if self.n_head % self.n_kv_head:
            raise UserError(f"LlamaConfig: n_head={self.n_head} is not a multiple of n_kv_head={self.n_kv_head}; each key/value head "
                            "serves the same number of query heads")
        if self.head_dim % 2:
            raise UserError(f"LlamaConfig: heads of size {self.head_dim}; rotary positions turn numbers in pairs, expected an even size")
        if self.window is not None:
            self.check("window")
        self.rope_scaling = checked_scaling(self.rope_scaling)

    def layer_windows(self):
        """The window of each layer, None for those that look back over all."""
        return [None if layer < self.first_window_layer else self.window for layer in range(self.n_layer)]

    def num_params(self):
        """How many numbers a model of this configuration learns, without building it.

        >>> f"{LlamaConfig.preset('llama-3.1-405b').num_params():,}"
        '405,853,388,800'
        """
        C, D, F_, bias = self.n_embd, self.head_dim, self.ffn_dim, int(self.bias)
        qkv_bias = bias if self.qkv_bias is None else int(self.qkv_bias)
        rows = (self.n_head + 2 * self.n_kv_head) * D
        attention = rows * (C + qkv_bias) + C * (self.n_head * D + bias) + 2 * D * int(self.qk_norm)
        mlp = 3 * C * F_ + bias * (2 * F_ + C)
        return self.vocab_size * C * (1 if self.tied else 2) + self.n_layer * (attention + mlp + 2 * C) + C

    def cached_per_token(self):
        """Keys and values of K heads in each layer."""
        return 2 * self.n_kv_head * self.head_dim * self.n_layer


def block(config, layer, generator):
    """The block of number `layer`."""
    C, std = config.n_embd, config.init_std
    proj_std = None if std is None else init.residual_std(std, config.n_layer)
    return Block(
        RMSNorm(C, config.norm_eps),
        Attention(C, config.n_head, config.n_kv_head, config.head_dim, bias=config.bias, qkv_bias=config.qkv_bias,
                  qk_norm=config.norm_eps if config.qk_norm else None, window=config.layer_windows()[layer], dropout=config.dropout,
                  std=std, proj_std=proj_std, layer=layer, generator=generator),
        RMSNorm(C, config.norm_eps),
        SwiGLU(C, config.ffn_dim, config.bias, std=std, proj_std=proj_std, generator=generator),
        dropout=config.dropout, generator=generator)


class Llama(LanguageModel):
    """logits (B, T, V) for whole numbers ids (B, T), T at most `block_size`.

    Initial weights, and later the dropout masks, are drawn from `generator`, or from the one `tl.manual_seed` seeds.
    """

    def __init__(self, config, generator=None):
        self.config = config
        V, C, std = config.vocab_size, config.n_embd, config.init_std
        self.rotary = RotaryPositions(config.head_dim, config.rope_theta, config.rope_scaling, config.rope_interleaved)
        self.wte = Embedding(V, C, std=1.0 if std is None else std, generator=generator)
        self.dropout = Dropout(config.dropout, generator)
        self.blocks = ModuleList(block(config, layer, generator) for layer in range(config.n_layer))
        self.norm = RMSNorm(C, config.norm_eps)
        self.head = None if config.tied else Linear(C, V, bias=False, std=std, generator=generator)

    def forward(self, ids, cache=None):
        if (logits := one_token(self, self.checked(ids, cache), cache)) is not None:
            return logits                                                   # the same, compiled for one token
        return super().forward(ids, cache)                                  # (B, T, V)

    def hidden(self, ids, cache=None):
        """The vectors (B, T, C) that `unembed` makes logits of."""
        ids = self.checked(ids, cache)
        x = self.dropout(self.wte(ids))                                     # (B, T, C)
        rotation = self.rotary.at(positions(ids, cache), x.dtype)
        for block in self.blocks:
            x = self.through(block, x, cache, rotation)                     # (B, T, C)
        if cache is not None:
            cache.advance(ids.shape[1])
        return self.norm(x)                                                 # (B, T, C)

    def make_cache(self, batch, length, pad=None):
        """An empty key/value cache for `batch` rows of at most `length` positions; layers with a window keep a ring."""
        config = self.config
        return KVCache(config.n_layer, batch, config.n_kv_head, length, config.head_dim, self.wte.weight.dtype,
                       windows=config.layer_windows(), pad=pad)

    def step(self, cache):
        return step_for(self, cache) if type(self) is Llama else None      # a subclass may compute something else

    step.__doc__ = LanguageModel.step.__doc__
