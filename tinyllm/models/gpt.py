"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners") and GPT-3 (Brown et al. 2020).

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

GPT-3 is the same model with 2048 positions whose layers are in turn dense and locally banded (a token looks back over
the last `band_width` positions, as in the Sparse Transformer, Child et al. 2019). The paper says neither which layers are the
dense ones nor how wide the band is, so both are settings here; the presets' 0 and 256 are a choice. How GPT-3 was
trained is in models/gpt3.py.

Sources of the details: openai/gpt-2 (src/model.py); the standard deviations 0.02 and 0.02/√(2L) are the paper's section 2.3.
"""

from dataclasses import dataclass

from ..errors import UserError
from ..nn import Attention, Block, Dropout, Embedding, KVCache, LayerNorm, Linear, Module, ModuleList, init
from ..nn import functional as F
from .base import Config, LanguageModel, positions
from .decoding import one_token, step_for

ACTIVATIONS = {"gelu_tanh": "tanh", "gelu": "none"}


def _gpt2(n_layer, n_head, n_embd):
    return dict(n_layer=n_layer, n_head=n_head, n_embd=n_embd, dropout=0.1, eos_token_id=50256)


def _gpt3(n_layer, n_head, n_embd):
    return dict(n_layer=n_layer, n_head=n_head, n_embd=n_embd, block_size=2048, band_width=256, eos_token_id=50256)


PRESETS = {     # layers, heads, width
    "gpt2": _gpt2(12, 12, 768),
    "gpt2-medium": _gpt2(24, 16, 1024),
    "gpt2-large": _gpt2(36, 20, 1280),
    "gpt2-xl": _gpt2(48, 25, 1600),
    "gpt3-125m": _gpt3(12, 12, 768),
    "gpt3-350m": _gpt3(24, 16, 1024),
    "gpt3-760m": _gpt3(24, 16, 1536),
    "gpt3-1.3b": _gpt3(24, 16, 2048),       # the paper's table says 24 heads of 128, which are not 2048
    "gpt3-2.7b": _gpt3(32, 32, 2560),
    "gpt3-6.7b": _gpt3(32, 32, 4096),
    "gpt3-13b": _gpt3(40, 40, 5120),        # the table says 5140, which 40 heads of 128 are not
    "gpt3-175b": _gpt3(96, 96, 12288),
}


@dataclass
class GPTConfig(Config):
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
    eos_token_id: int | list | None = None      # what ends a text
    band_width: int | None = None       # GPT-3: positions that a banded layer looks back over; None: all layers are dense
    dense_parity: int = 0               # the dense layers are those with layer % 2 equal to this

    presets = PRESETS

    def __post_init__(self):
        self.check("vocab_size", "n_layer", "n_head", "n_embd", "block_size")
        self.check_heads()
        if self.activation not in ACTIVATIONS:
            raise UserError(f"GPTConfig: activation={self.activation!r}; known are {', '.join(ACTIVATIONS)}")
        if self.band_width is not None:
            self.check("band_width")
        if self.dense_parity not in (0, 1):
            raise UserError(f"GPTConfig: dense_parity={self.dense_parity!r}; expected 0 (layers 0, 2, … are dense) or 1")

    def layer_windows(self):
        """The window of each layer, None for dense ones."""
        return [None if layer % 2 == self.dense_parity else self.band_width for layer in range(self.n_layer)]

    def num_params(self):
        """How many numbers a model of this configuration learns, without building it.

        >>> f"{GPTConfig.preset('gpt2').num_params():,}"
        '124,439,808'
        """
        C, bias = self.n_embd, int(self.bias)
        qkv_bias = bias if self.qkv_bias is None else int(self.qkv_bias)
        norm = C + bias * C
        attention = 3 * C * C + qkv_bias * 3 * C + C * C + bias * C
        mlp = 2 * 4 * C * C + bias * (4 * C + C)
        tables = (self.vocab_size + self.block_size) * C
        head = 0 if self.tied else self.vocab_size * C
        return tables + self.n_layer * (2 * norm + attention + mlp) + (norm if self.norm_first else 0) + head

    def cached_per_token(self):
        """Keys and values of all heads in each layer."""
        return 2 * self.n_embd * self.n_layer


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


def block(config, layer, generator):
    """The block of number `layer`."""
    C, std = config.n_embd, config.init_std
    proj_std = None if std is None else init.residual_std(std, config.n_layer)
    return Block(
        LayerNorm(C, config.norm_eps, config.bias),
        Attention(C, config.n_head, bias=config.bias, qkv_bias=config.qkv_bias, window=config.layer_windows()[layer],
                  dropout=config.dropout, std=std, proj_std=proj_std, layer=layer, generator=generator),
        LayerNorm(C, config.norm_eps, config.bias),
        MLP(config, std, proj_std, generator),
        dropout=config.dropout, norm_first=config.norm_first, generator=generator)


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
        self.blocks = ModuleList(block(config, layer, generator) for layer in range(config.n_layer))
        self.norm = LayerNorm(C, config.norm_eps, config.bias) if config.norm_first else None
        self.head = None if config.tied else Linear(C, V, bias=False, std=std, generator=generator)

    def forward(self, ids, cache=None):
        if (logits := one_token(self, self.checked(ids, cache), cache)) is not None:
            return logits                                               # the same, compiled for one token
        return super().forward(ids, cache)                              # (B, T, V)

    def hidden(self, ids, cache=None):
        """The vectors (B, T, C) that `unembed` makes logits of."""
        ids = self.checked(ids, cache)
        x = self.wte(ids) + self.wpe(positions(ids, cache))             # (B, T, C) + (T, C)
        x = self.dropout(x)                                             # (B, T, C)
        for block in self.blocks:
            x = self.through(block, x, cache)                           # (B, T, C)
        if cache is not None:
            cache.advance(ids.shape[1])
        return x if self.norm is None else self.norm(x)                 # (B, T, C)

    def make_cache(self, batch, length, pad=None):
        """An empty key/value cache for `batch` rows of at most `length` positions; banded layers keep a ring."""
        config = self.config
        return KVCache(config.n_layer, batch, config.n_head, length, config.n_embd // config.n_head, self.wte.weight.dtype,
                       windows=config.layer_windows(), pad=pad)

    def step(self, cache):
        return step_for(self, cache) if type(self) is GPT else None      # a subclass may compute something else

    step.__doc__ = LanguageModel.step.__doc__
