"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

    ids ─ token table + position table ─ [block] × L ─ norm ─ head ─ logits

    block, pre-norm (GPT-2)              x = x + attention(norm(x));  x = x + mlp(norm(x))
    block, post-norm (norm_first=False)  x = norm(x + attention(x));  x = norm(x + mlp(x)), and no norm before the head

Post-norm is the order of the first Transformer; Xiong et al. 2020 show why it wants a warm-up. The head is the token
table again (`tied`), so a model of width C spends V·C numbers on its vocabulary once.

    >>> import numpy as np
    >>> config = GPTConfig(vocab_size=65, n_layer=2, n_head=2, n_embd=16, block_size=8)
    >>> model = GPT(config)
    >>> model(np.zeros((1, 8), int)).shape
    (1, 8, 65)
    >>> model.num_params() == config.num_params()
    True

Sources of the details: openai/gpt-2 (src/model.py); the standard deviations 0.02 and 0.02/√(2L) are the paper's section 2.3.
"""

from dataclasses import dataclass

import numpy as np

from ..engine import STATE, as_array
from ..errors import UserError
from ..nn import Attention, Dropout, Embedding, KVCache, LayerNorm, Linear, Module, ModuleList, init
from ..nn import functional as F
from .base import LanguageModel

PRESETS = {     # name: (n_layer, n_head, n_embd)
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
}
ACTIVATIONS = {"gelu_tanh": "tanh", "gelu": "none"}


@dataclass
class GPTConfig:
    """The size and kind of a GPT. Raises UserError for numbers that do not go together."""

    vocab_size: int = 50257
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    block_size: int = 1024              # positions the model knows
    dropout: float = 0.0                # on embeddings, attention weights and both branches
    bias: bool = True                   # in linear maps and norms
    tied: bool = True                   # the head is the token table
    qkv_bias: bool | None = None        # in the attention's first map; None: as bias
    activation: str = "gelu_tanh"       # or "gelu", the exact one
    norm_eps: float = 1e-5
    norm_first: bool = True             # pre-norm; False: post-norm
    init_std: float | None = 0.02       # None: PyTorch's default initialisation
    eos_token_id: int | None = None     # what ends a text

    def __post_init__(self):
        for name in ("vocab_size", "n_layer", "n_head", "n_embd", "block_size"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise UserError(f"GPTConfig: {name}={value!r}; expected a whole number above 0")
        if self.n_embd % self.n_head:
            raise UserError(f"GPTConfig: n_embd={self.n_embd} is not a multiple of n_head={self.n_head}; every head has the same "
                            f"size: try n_embd={-(-self.n_embd // self.n_head) * self.n_head}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"GPTConfig: dropout={self.dropout}; expected a probability from 0 up to, not including, 1")
        if self.activation not in ACTIVATIONS:
            raise UserError(f"GPTConfig: activation={self.activation!r}; known are {', '.join(ACTIVATIONS)}")

    @classmethod
    def preset(cls, name, **changes):
        """The configuration published under `name`, with `changes` to single fields.

        >>> f"{GPTConfig.preset('gpt2').num_params():,}"
        '124,439,808'
        """
        if name not in PRESETS:
            raise UserError(f"no GPT preset is called {name!r}; known are {', '.join(PRESETS)}")
        n_layer, n_head, n_embd = PRESETS[name]
        published = dict(n_layer=n_layer, n_head=n_head, n_embd=n_embd, dropout=0.1, eos_token_id=50256)
        return cls(**{**published, **changes})

    def num_params(self):
        """How many numbers a model of this configuration learns, without building it."""
        C, bias = self.n_embd, int(self.bias)
        qkv_bias = bias if self.qkv_bias is None else int(self.qkv_bias)
        norm = C + bias * C
        attention = 3 * C * C + qkv_bias * 3 * C + C * C + bias * C
        mlp = 2 * 4 * C * C + bias * (4 * C + C)
        tables = (self.vocab_size + self.block_size) * C
        head = 0 if self.tied else self.vocab_size * C
        return tables + self.n_layer * (2 * norm + attention + mlp) + (norm if self.norm_first else 0) + head


class MLP(Module):
    """C -> 4C -> C with a GELU between."""

    def __init__(self, config, std, proj_std, generator):
        C = config.n_embd
        self.approximate = ACTIVATIONS[config.activation]
        self.fc = Linear(C, 4 * C, config.bias, std=std, generator=generator)
        self.proj = Linear(4 * C, C, config.bias, std=proj_std, generator=generator)

    def forward(self, x):                                       # (B, T, C)
        hidden = F.gelu(self.fc(x), self.approximate)           # (B, T, 4C)
        return self.proj(hidden)                                # (B, T, C)


class Block(Module):
    """Attention, then an MLP, each added to the residual stream."""

    def __init__(self, config, layer, generator):
        std = config.init_std
        proj_std = None if std is None else init.residual_std(std, config.n_layer)
        self.norm_first = config.norm_first
        self.norm1 = LayerNorm(config.n_embd, config.norm_eps, config.bias)
        self.attn = Attention(config.n_embd, config.n_head, bias=config.bias, qkv_bias=config.qkv_bias, dropout=config.dropout,
                              std=std, proj_std=proj_std, layer=layer, generator=generator)
        self.norm2 = LayerNorm(config.n_embd, config.norm_eps, config.bias)
        self.mlp = MLP(config, std, proj_std, generator)
        self.dropout = Dropout(config.dropout, generator)

    def forward(self, x, cache=None):                                   # (B, T, C)
        if self.norm_first:
            x = x + self.dropout(self.attn(self.norm1(x), cache))       # (B, T, C)
            return x + self.dropout(self.mlp(self.norm2(x)))            # (B, T, C)
        x = self.norm1(x + self.dropout(self.attn(x, cache)))           # (B, T, C)
        return self.norm2(x + self.dropout(self.mlp(x)))                # (B, T, C)


class GPT(LanguageModel):
    """logits (B, T, V) for whole numbers ids (B, T), T at most `block_size`.

    Initial weights, and later the dropout masks, are drawn from `generator`, or from the one `tl.manual_seed` seeds.
    """

    def __init__(self, config, generator=None):
        self.config = config
        V, C, std = config.vocab_size, config.n_embd, config.init_std
        self.wte = Embedding(V, C, std=1.0 if std is None else std, generator=generator)
        self.wpe = Embedding(config.block_size, C, std=1.0 if std is None else std, generator=generator)
        self.dropout = Dropout(config.dropout, generator)
        self.blocks = ModuleList(Block(config, layer, generator) for layer in range(config.n_layer))
        self.norm = LayerNorm(C, config.norm_eps, config.bias) if config.norm_first else None
        self.head = None if config.tied else Linear(C, V, bias=False, std=std, generator=generator)

    def forward(self, ids, cache=None):
        ids, past = self._checked(ids, cache), 0 if cache is None else cache.length
        T = ids.shape[1]
        x = self.wte(ids) + self.wpe(np.arange(past, past + T))         # (B, T, C) + (T, C)
        x = self.dropout(x)                                             # (B, T, C)
        for block in self.blocks:
            x = block(x, cache)                                         # (B, T, C)
        if cache is not None:
            cache.advance(T)
        if self.norm is not None:
            x = self.norm(x)                                            # (B, T, C)
        head = self.wte if self.head is None else self.head
        return F.linear(x, head.weight)                                 # (B, T, V)

    def make_cache(self, batch, length):
        """An empty key/value cache for `batch` rows of at most `length` positions."""
        config = self.config
        return KVCache(config.n_layer, batch, config.n_head, length, config.n_embd // config.n_head, self.wte.weight.dtype)

    def _checked(self, ids, cache):
        ids = as_array(ids)
        if ids.ndim != 2 or ids.dtype.kind not in "iu":
            raise ValueError(f"GPT: ids of shape {ids.shape} and dtype {ids.dtype.name}; expected whole numbers (B, T), one row for each "
                             "text: a single text is ids[None, :]")
        past = 0 if cache is None else cache.length
        if past + ids.shape[1] > self.config.block_size:
            after = f" after {past} in the cache" if past else ""
            raise ValueError(f"GPT: {ids.shape[1]} positions{after}; the model knows {self.config.block_size} (block_size): "
                             "give it the last ones only, or build it with a larger block_size")
        if cache is not None and STATE.grad and any(p.requires_grad for p in self.parameters()):
            raise RuntimeError("GPT: a cache keeps arrays, not graphs, so nothing could be learned through it: "
                               "work under tl.no_grad(), or leave the cache out")
        return ids
