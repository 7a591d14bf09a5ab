"""DeepSeek-V2 and V3 (2405.04434, 2412.19437): latent attention and mixtures of experts.

    ids ─ token table ─ [block] × L ─ RMS norm ─ head ─ logits

    block    x = x + latent attention(norm(x));  x = x + experts(norm(x))       the first few blocks: swiglu, as Llama's

    >>> config = DeepSeekConfig(vocab_size=65, n_layer=2, n_head=2, n_embd=16, block_size=8, kv_lora_rank=8, qk_nope_head_dim=8,
    ...                         qk_rope_head_dim=4, v_head_dim=8, n_routed_experts=4, moe_ffn_dim=8)
    >>> model = DeepSeek(config)
    >>> model(np.zeros((1, 8), int)).shape
    (1, 8, 65)
    >>> model.num_params() == config.num_params()
    True

The loss of `model.loss` is the language model's alone. `model.auxiliary_losses()` has what training adds: the balance
of the experts, and with `mtp_depth` D the loss of D further modules that predict one more token each,

    h' = M [norm(h_i); norm(table(t_{i+1}))],   a block,   norm and head as the model's:   the logits of t_{i+2}

which are left out when text is drawn. `model.after_step()` moves the routers' biases; call it after the optimizer.
"""

from dataclasses import dataclass

import numpy as np

from .. import ops
from ..errors import UserError
from ..fused.gates import SCORES
from ..nn import Block, Dropout, Embedding, KVCache, LatentAttention, Linear, MoE, Module, ModuleList, RMSNorm, RotaryPositions, SwiGLU
from ..nn import init, swiglu_width
from ..nn.positions import checked_scaling, magnitude
from .base import Config, LanguageModel, positions
from .decoding import one_token, step_for

LATENT_NORM_EPS = 1e-6      # of the norms inside latent attention, whatever norm_eps says


def _yarn(mscale):
    return {"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1,
            "mscale": mscale, "mscale_all_dim": mscale}


_SHARED = dict(kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, block_size=163840, tied=False, norm_eps=1e-6)
_V2 = dict(**_SHARED, vocab_size=102400, rope_scaling=_yarn(0.707), scoring_func="softmax", norm_topk_prob=False, first_k_dense=1,
           n_shared_experts=2, num_experts_per_tok=6, balance_alpha=1e-3, eos_token_id=100001)

PRESETS = {
    "deepseek-v2-lite": dict(**_V2, n_layer=27, n_head=16, n_embd=2048, ffn_dim=10944, moe_ffn_dim=1408, n_routed_experts=64),
    "deepseek-v2": dict(**_V2, n_layer=60, n_head=128, n_embd=5120, ffn_dim=12288, moe_ffn_dim=1536, n_routed_experts=160, q_lora_rank=1536,
                        n_group=8, topk_group=3, routed_scaling_factor=16.0),
    "deepseek-v3": dict(**_SHARED, vocab_size=129280, n_layer=61, n_head=128, n_embd=7168, ffn_dim=18432, moe_ffn_dim=2048, q_lora_rank=1536,
                        n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8, n_group=8, topk_group=4, first_k_dense=3,
                        routed_scaling_factor=2.5, rope_scaling=_yarn(1.0), eos_token_id=1),
}


@dataclass
class DeepSeekConfig(Config):
    """The size and kind of a DeepSeek; the defaults are a small V3. Raises UserError for numbers that do not go together."""

    vocab_size: int = 32000
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    block_size: int = 256               # positions the model may look back over
    dropout: float = 0.0                # on embeddings, attention weights and both branches
    bias: bool = False                  # in the attention's maps down and out
    tied: bool = True                   # the head is the token table
    q_lora_rank: int | None = None      # the query by way of so many numbers; None: directly
    kv_lora_rank: int | None = None     # d_c, the latent; None: C / 2
    qk_nope_head_dim: int | None = None     # d_n, of each head's key, without position; None: C / H
    qk_rope_head_dim: int | None = None     # d_r, turned, shared by all heads; None: half of C / H
    v_head_dim: int | None = None       # d_v; None: C / H
    ffn_dim: int | None = None          # of the dense blocks; None: two thirds of 4C, rounded up to a multiple of 32
    n_routed_experts: int = 8
    n_shared_experts: int = 1
    num_experts_per_tok: int = 2
    moe_ffn_dim: int | None = None      # of one expert; None: all together are as large as a dense block's
    first_k_dense: int = 1              # blocks before this one have no experts
    n_group: int = 1
    topk_group: int = 1
    norm_topk_prob: bool = True         # the gates of a token sum to 1
    routed_scaling_factor: float = 1.0
    scoring_func: str = "sigmoid"       # V3, with biases; or "softmax", V2
    balance_alpha: float = 1e-4         # α of the balance loss
    bias_update_rate: float = 1e-3      # γ of the routers' biases
    mtp_depth: int = 0                  # further tokens that modules of their own predict in training
    mtp_weight: float = 0.3             # λ of their loss
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: dict | None = None    # see nn/positions.py
    rope_interleaved: bool = True       # pairs (2i, 2i + 1), as in the published files
    init_std: float | None = 0.02
    eos_token_id: int | list | None = None

    presets = PRESETS

    def __post_init__(self):
        self.check("vocab_size", "n_layer", "n_head", "n_embd", "block_size", "n_routed_experts")
        D = self.n_embd // self.n_head
        ffn_dim = swiglu_width(self.n_embd, 32) if self.ffn_dim is None else self.ffn_dim
        sizes = dict(ffn_dim=ffn_dim, kv_lora_rank=self.n_embd // 2, qk_nope_head_dim=D, qk_rope_head_dim=max(2, D // 4 * 2), v_head_dim=D,
                     moe_ffn_dim=-(-ffn_dim // (self.n_routed_experts + self.n_shared_experts)))
        for name, size in sizes.items():
            setattr(self, name, size if getattr(self, name) is None else getattr(self, name))
        self.check("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim",
                   "v_head_dim", "ffn_dim", "num_experts_per_tok", "moe_ffn_dim", "n_group", "topk_group",
                   *(["q_lora_rank"] if self.q_lora_rank is not None else []))
        E, k, G, kept = self.n_routed_experts, self.num_experts_per_tok, self.n_group, self.topk_group
        if self.qk_rope_head_dim % 2:
            raise UserError(f"DeepSeekConfig: qk_rope_head_dim={self.qk_rope_head_dim}; rotary positions turn numbers in pairs, expected "
                            "an even size")
        if self.scoring_func not in SCORES:
            raise UserError(f"DeepSeekConfig: scoring_func={self.scoring_func!r}; known are {', '.join(SCORES)}")
        if E % G or kept > G or k > E // G * kept:
            raise UserError(f"DeepSeekConfig: {k} of {E} experts for each token, from {kept} of {G} groups: the groups must be equal and "
                            "those kept hold at least as many experts as are chosen")
        if G > 1 and self.scoring_func == "sigmoid" and E // G < 2:
            raise UserError(f"DeepSeekConfig: {G} groups of {E // G}; a group is ranked by its two best experts, expected two or more in each")
        self.rope_scaling = checked_scaling(self.rope_scaling)

    @property
    def score_factor(self):
        """What YaRN multiplies the scores by."""
        scaling = self.rope_scaling or {}
        return magnitude(scaling["factor"], scaling["mscale_all_dim"]) ** 2 if scaling.get("mscale_all_dim") else 1.0

    def num_params(self):
        """How many numbers a model of this configuration learns, the routers' biases among them, without building it.

        >>> f"{DeepSeekConfig.preset('deepseek-v3').num_params():,}"
        '671,026,419,200'
        """
        C, H, bias, v3 = self.n_embd, self.n_head, int(self.bias), int(self.scoring_func == "sigmoid")
        query = H * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        rank = self.q_lora_rank
        attention = query * C if rank is None else rank * (C + bias) + rank + query * rank
        attention += (self.kv_lora_rank + self.qk_rope_head_dim) * (C + bias) + self.kv_lora_rank
        attention += H * (self.qk_nope_head_dim + self.v_head_dim) * self.kv_lora_rank + C * (H * self.v_head_dim + bias)
        dense = attention + 2 * C + 3 * C * self.ffn_dim
        experts = attention + 2 * C + self.n_routed_experts * (C + v3) + 3 * C * self.moe_ffn_dim * (self.n_routed_experts + self.n_shared_experts)
        n_dense = min(self.first_k_dense, self.n_layer)
        blocks = n_dense * dense + (self.n_layer - n_dense) * experts
        further = self.mtp_depth * (2 * C + 2 * C * C + C + experts)
        return self.vocab_size * C * (1 if self.tied else 2) + blocks + C + further

    def cached_per_token(self):
        """The latent and the turned key in each layer."""
        return (self.kv_lora_rank + self.qk_rope_head_dim) * self.n_layer


def block(config, layer, generator):
    """The block of number `layer`: dense among the first few, with experts after."""
    C, std = config.n_embd, config.init_std
    drawn = dict(std=std, proj_std=None if std is None else init.residual_std(std, config.n_layer), generator=generator)
    norm1 = RMSNorm(C, config.norm_eps)
    attention = LatentAttention(
        C, config.n_head, q_lora_rank=config.q_lora_rank, kv_lora_rank=config.kv_lora_rank, qk_nope_head_dim=config.qk_nope_head_dim,
        qk_rope_head_dim=config.qk_rope_head_dim, v_head_dim=config.v_head_dim, norm_eps=LATENT_NORM_EPS, bias=config.bias,
        score_factor=config.score_factor, dropout=config.dropout, layer=layer, **drawn)
    norm2 = RMSNorm(C, config.norm_eps)
    if layer < config.first_k_dense:
        mlp = SwiGLU(C, config.ffn_dim, **drawn)
    else:
        mlp = MoE(C, config.moe_ffn_dim, config.n_routed_experts, config.num_experts_per_tok, config.n_shared_experts,
                  scoring_func=config.scoring_func, n_group=config.n_group, topk_group=config.topk_group,
                  norm_topk_prob=config.norm_topk_prob, routed_scaling_factor=config.routed_scaling_factor, **drawn)
    return Block(norm1, attention, norm2, mlp, dropout=config.dropout, generator=generator)


class FurtherToken(Module):
    """One module of multi-token prediction: the stream (B, T, C) and the next tokens' rows (B, T, C) -> a stream one token on."""

    def __init__(self, config, generator):
        C = config.n_embd
        self.norm_stream, self.norm_token = RMSNorm(C, config.norm_eps), RMSNorm(C, config.norm_eps)
        self.proj = Linear(2 * C, C, bias=False, std=config.init_std, generator=generator)
        self.block = block(config, max(config.n_layer, config.first_k_dense), generator)
        self.norm = RMSNorm(C, config.norm_eps)

    def forward(self, stream, token, rotation):
        x = ops.concatenate([self.norm_stream(stream), self.norm_token(token)], axis=-1)       # (B, T, 2C)
        return self.block(self.proj(x), None, rotation)                                         # (B, T, C)


class DeepSeek(LanguageModel):
    """logits (B, T, V) for whole numbers ids (B, T), T at most `block_size`.

    Initial weights, and later the dropout masks, are drawn from `generator`, or from the one `tl.manual_seed` seeds.
    """

    def __init__(self, config, generator=None):
        self.config = config
        V, C, std = config.vocab_size, config.n_embd, config.init_std
        self.rotary = RotaryPositions(config.qk_rope_head_dim, config.rope_theta, config.rope_scaling, config.rope_interleaved)
        self.wte = Embedding(V, C, std=1.0 if std is None else std, generator=generator)
        self.dropout = Dropout(config.dropout, generator)
        self.blocks = ModuleList(block(config, layer, generator) for layer in range(config.n_layer))
        self.norm = RMSNorm(C, config.norm_eps)
        self.head = None if config.tied else Linear(C, V, bias=False, std=std, generator=generator)
        self.mtp = ModuleList(FurtherToken(config, generator) for _ in range(config.mtp_depth))
        self.last = None        # (stream, targets, ignore_index) of the last loss in training, for the modules of `mtp`

    def forward(self, ids, cache=None):
        if (logits := one_token(self, self.checked(ids, cache), cache)) is not None:
            return logits                                                       # the same, compiled for one token
        return super().forward(ids, cache)                                      # (B, T, V)

    def hidden(self, ids, cache=None):
        """The vectors (B, T, C) that `unembed` makes logits of."""
        stream = self._stream(ids, cache)                                       # (B, T, C)
        if self.training:
            self._forget()      # nobody asks for the balance of a forward without a loss, and keeping it keeps the graph
        return self.norm(stream)                                                # (B, T, C)

    def _stream(self, ids, cache=None):
        """The residual stream (B, T, C) behind the last block."""
        ids = self.checked(ids, cache)
        x = self.dropout(self.wte(ids))                                         # (B, T, C)
        rotation = self.rotary.at(positions(ids, cache), x.dtype)
        for block in self.blocks:
            x = self.through(block, x, cache, rotation)                         # (B, T, C)
        if cache is not None:
            cache.advance(ids.shape[1])
        return x

    def loss(self, ids, targets, ignore_index=-100):
        stream = self._stream(ids)
        if len(self.mtp) and self.training:
            self.last = stream, np.asarray(targets), ignore_index
        return self.surprise(self.norm(stream), targets, ignore_index)

    loss.__doc__ = LanguageModel.loss.__doc__

    def auxiliary_losses(self):
        """{"mtp": …, "balance": …} of the last `loss` in training, weighted, where the config asks for them.

        To be added to the loss before its backward pass, which frees the graph that they share.
        """
        losses = {}
        if self.last is not None:
            losses["mtp"] = self._further_loss(*self.last)
        routed = [mlp for mlp in self._mixtures() if mlp.routing is not None]
        if self.config.balance_alpha and routed:
            losses["balance"] = sum((mlp.balance_loss() for mlp in routed), 0.0) * self.config.balance_alpha
        self._forget()
        return losses

    def _forget(self):
        """Let go of what the last loss left for `auxiliary_losses`."""
        self.last = None
        for mlp in self._mixtures():
            mlp.routing = None

    def _further_loss(self, stream, targets, ignore_index):
        """λ/D · Σ of the losses of the modules of `mtp`; module k = 1 … D predicts what stands k after the target."""
        total = 0.0
        for module in self.mtp:
            known, targets = targets[:, :-1], targets[:, 1:]                    # what follows the stream, and what follows that
            stream = stream[:, :-1]
            if not known.size:
                break
            row = self.wte(np.where(known == ignore_index, 0, known))           # (B, T', C)
            stream = module(stream, row, self.rotary.at(np.arange(known.shape[1]), stream.dtype))
            wanted = np.where(known == ignore_index, ignore_index, targets)
            total = total + self.surprise(module.norm(stream), wanted, ignore_index)
        return total * (self.config.mtp_weight / len(self.mtp))

    def _mixtures(self):
        blocks = [*self.blocks, *(module.block for module in self.mtp)]
        return [block.mlp for block in blocks if isinstance(block.mlp, MoE)]

    def after_step(self):
        """Move the routers' biases towards an even load."""
        for mlp in self._mixtures():
            mlp.update_bias(self.config.bias_update_rate)

    def make_cache(self, batch, length, pad=None):
        """An empty cache of latents for `batch` rows of at most `length` positions."""
        config = self.config
        return KVCache(config.n_layer, batch, 1, length, config.kv_lora_rank + config.qk_rope_head_dim, self.wte.weight.dtype, streams=1,
                       pad=pad)

    def step(self, cache):
        return step_for(self, cache) if type(self) is DeepSeek else None      # a subclass may compute something else

    step.__doc__ = LanguageModel.step.__doc__
