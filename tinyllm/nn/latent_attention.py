"""Multi-head latent attention (DeepSeek-V2, 2405.04434, section 2.1): heads whose keys and values share one small vector.

    c = norm(W_down h)                      the latent, d_c numbers for all heads together
    [k_h; v_h] = W_up,h c                   each head's key (d_n) and value (d_v) are read off it
    k_r = turn(W_r h)                       d_r more numbers carry the position, one vector for all heads
    score_h = (q_h · k_h + turn(q_r,h) · k_r) / √(d_n + d_r)

A cache keeps c and k_r alone: d_c + d_r numbers a token, where H heads of keys and values would take H (d_n + d_r + d_v).
The position needs its own numbers because a rotation between W_up and the query would stand in the way of this:

    naive       expand c to keys and values of every head, then attend
    absorbed    q_h · (W_k c) = (W_kᵀ q_h) · c: turn the query into latent space instead, attend over c itself as one
                shared key and value (d_c + d_r and d_c numbers), and expand the result: Σ w (W_v c) = W_v Σ w c

Both give the same numbers. Expanding costs work for each past token, absorbing for each new one, so long prompts go the
naive way and single steps the absorbed one; the layer counts multiplications and takes the cheaper.
"""

from ..engine import Tensor
from . import functional as F
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .norm import RMSNorm


class LatentAttention(Module):
    """x (B, T, C) -> (B, T, C); sizes as in the module's text, under the names of DeepSeek's config.json.

    `q_lora_rank`: the query is made by way of so many numbers, too (None: directly); `bias` of the maps down and out;
    `score_factor` multiplies the scores (YaRN's m²); `absorb` forces one of the two ways; the rest is as in `Attention`.
    """

    def __init__(self, n_embd, n_head, *, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim, q_lora_rank=None, norm_eps=1e-6,
                 bias=False, score_factor=1.0, dropout=0.0, std=None, proj_std=None, layer=0, absorb=None, generator=None):
        self.n_head, self.layer, self.score_factor, self.absorb = n_head, layer, score_factor, absorb
        self.d_c, self.d_n, self.d_r, self.d_v = kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim
        drawn = dict(std=std, generator=generator)
        if q_lora_rank is None:
            self.q = Linear(n_embd, n_head * (self.d_n + self.d_r), bias=False, **drawn)
        else:
            self.q_down = Linear(n_embd, q_lora_rank, bias, **drawn)
            self.q_norm = RMSNorm(q_lora_rank, norm_eps)
            self.q_up = Linear(q_lora_rank, n_head * (self.d_n + self.d_r), bias=False, **drawn)
        self.kv_down = Linear(n_embd, self.d_c + self.d_r, bias, **drawn)
        self.kv_norm = RMSNorm(self.d_c, norm_eps)
        self.kv_up = Linear(self.d_c, n_head * (self.d_n + self.d_v), bias=False, **drawn)
        self.proj = Linear(n_head * self.d_v, n_embd, bias, std=proj_std, generator=generator)
        self.dropout = Dropout(dropout, generator)
        self.read_out = None        # a list that collects attention weights; see nn/attention.py

    def forward(self, x, cache=None, rotation=None):
        B, T, _ = x.shape
        query = self.q(x) if hasattr(self, "q") else self.q_up(self.q_norm(self.q_down(x)))     # (B, T, H (d_n + d_r))
        down = self.kv_down(x).reshape(B, 1, T, -1)                                             # (B, 1, T, d_c + d_r)
        latent = F.latent(down, self.kv_norm.weight, rotation, self.kv_norm.eps)                # (B, 1, T, d_c + d_r)
        mask = None
        if cache is not None:
            mask = cache.mask(self.layer, T)                                                    # (B, 1, T, S)
            latent, = map(Tensor, cache.append(self.layer, latent.numpy()))                     # (B, 1, S, d_c + d_r)
        y = F.latent_attention(
            query, latent, self.kv_up.matrix(), self.n_head, rotation, absorb=self.absorbs(T, latent.shape[2]), factor=self.score_factor,
            keep=self.dropout.mask((B, self.n_head, T, T), x.dtype) if cache is None else None, mask=mask,
            return_weights=self.read_out is not None)                                           # (B, T, H·d_v)
        if self.read_out is not None:
            y, weights = y
            self.read_out.append(weights.numpy())
        return self.proj(y)

    def absorbs(self, queries, keys):
        """Whether the absorbed way takes fewer multiplications a head, for so many new tokens and all tokens."""
        if self.absorb is not None:
            return self.absorb
        matrix = self.d_c * (self.d_n + self.d_v)
        absorbed = queries * matrix + queries * keys * (2 * self.d_c + self.d_r)
        naive = keys * matrix + queries * keys * (self.d_n + self.d_r + self.d_v)
        return absorbed < naive

    def details(self):
        return f"n_head={self.n_head}, latent={self.d_c}+{self.d_r}"
