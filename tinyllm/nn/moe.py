"""Mixture of experts (DeepSeekMoE, 2401.06066; DeepSeek-V2, 2405.04434; DeepSeek-V3, 2412.19437, section 2.1.2).

    y = Σ over the k chosen experts of gate · expert(x)  +  shared(x)

Each token is worked on by k of E small feed-forward layers, and by one that all tokens share. A router scores them:

    softmax (V2)    s = softmax(W x);   the k best are chosen;  gate = s
    sigmoid (V3)    s = sigmoid(W x);   the k best of s + b are chosen;  gate = s, normalised to sum 1

`routed_scaling_factor` multiplies the gates. Experts may stand in groups (one machine each): only those of the `topk_group` best
groups can then be chosen, a group being as good as its best expert (V2) or its two best (V3); the others score -∞.

Left alone, a router would send every token to the same few experts. Two things keep it fair:
    bias        after each update b_i falls by γ if expert i had more than its share, and rises by γ if less; b has no
                gradient and no part in the gate, so it moves the choice without bending the loss (V3)
    balance     α Σ_i f_i P_i for each sequence: f_i the share of choices that fell on i (times E), P_i its mean score
"""

import numpy as np

from ..engine import STATE
from ..fused.gates import SCORES, best
from . import functional as F
from . import init
from .feed_forward import SwiGLU
from .linear import Linear
from .module import Module, ModuleList, Parameter

def limit_groups(scores, n_group, topk_group, top):
    """`scores` (..., E) with -∞ outside the `topk_group` groups whose `top` best experts have the largest sum.

    >>> limit_groups(np.array([[0.9, 0.0, 0.5, 0.5]]), n_group=2, topk_group=1, top=2)
    array([[-inf, -inf,  0.5,  0.5]])
    """
    groups = scores.reshape(*scores.shape[:-1], n_group, -1)                        # (..., G, E/G)
    worth = np.sort(groups, axis=-1)[..., -top:].sum(axis=-1)                       # (..., G)
    kept = np.zeros(worth.shape, bool)
    np.put_along_axis(kept, best(worth, topk_group), True, axis=-1)
    return np.where(kept[..., None], groups, -np.inf).reshape(scores.shape)


class MoE(Module):
    """x (B, T, C) -> (B, T, C) by way of k of `n_routed_experts` layers C -> F -> C, and `n_shared_experts`·F shared.

    The names are those of DeepSeek's config.json. In training it keeps what `balance_loss` and `update_bias` need.
    """

    def __init__(self, n_embd, moe_ffn_dim, n_routed_experts, num_experts_per_tok, n_shared_experts=0, *, scoring_func="softmax", n_group=1,
                 topk_group=1, norm_topk_prob=False, routed_scaling_factor=1.0, std=None, proj_std=None, generator=None):
        self.k, self.scoring_func, self.n_group, self.topk_group = num_experts_per_tok, scoring_func, n_group, topk_group
        self.norm_topk_prob, self.routed_scaling_factor = norm_topk_prob, routed_scaling_factor
        drawn = dict(std=std, proj_std=proj_std, generator=generator)
        self.router = Linear(n_embd, n_routed_experts, bias=False, std=std, generator=generator)
        self.experts = ModuleList(SwiGLU(n_embd, moe_ffn_dim, **drawn) for _ in range(n_routed_experts))
        self.shared = SwiGLU(n_embd, n_shared_experts * moe_ffn_dim, **drawn) if n_shared_experts else None
        if scoring_func == "sigmoid":
            self.router_bias = Parameter(init.constant(n_routed_experts, 0), requires_grad=False)      # moved by rule alone
        self.load = np.zeros(n_routed_experts, np.int64)        # choices that fell on each expert since the last update_bias
        self.routing = None                                     # (logits (B, T, E), chosen (B, T, k)) of the last forward

    def forward(self, x):
        logits = self.router(x)                                                     # (B, T, E)
        chosen = self.choose(SCORES[self.scoring_func](logits.detach()).numpy())    # (B, T, k)
        gates = F.gates(logits, chosen, self.scoring_func, self.norm_topk_prob, self.routed_scaling_factor)
        weights = [m.matrix() for expert in self.experts for m in (expert.gate, expert.up, expert.down)]
        y = F.experts(x, gates, chosen, weights)                                    # (B, T, C)
        if self.shared is not None:
            y = y + self.shared(x)
        if self.training:
            self.routing = logits, chosen
            if STATE.grad:
                self.load += np.bincount(chosen.ravel(), minlength=len(self.load))
        return y

    def choose(self, scores):
        """Which experts work on each token: scores (..., E) -> (..., k), the best first."""
        v3 = self.scoring_func == "sigmoid"
        if v3:
            scores = scores + self.router_bias.numpy()
        if self.n_group > 1:
            scores = limit_groups(scores, self.n_group, self.topk_group, top=2 if v3 else 1)
        return best(scores, self.k)

    def balance_loss(self):
        """Σ_i f_i P_i of the last forward, a mean over its sequences; 1 when all experts are used alike.

        To be called before the backward pass of that forward; ValueError if there was none in training.
        """
        if self.routing is None:
            raise ValueError("MoE: no routing to balance: call the model in training mode first")
        logits, chosen = self.routing
        scores = SCORES[self.scoring_func](logits)
        B, T, E = scores.shape
        counts = (chosen.reshape(B, -1, 1) == np.arange(E)).sum(axis=1)                             # (B, E)
        f = (counts * (E / (self.k * T))).astype(scores.dtype)
        share = scores if self.scoring_func == "softmax" else scores / scores.sum(axis=-1, keepdims=True)
        return (share.mean(axis=1) * f).sum() / B

    def update_bias(self, rate):
        """Move each expert's bias by `rate` towards an even load, and start counting anew."""
        if self.scoring_func == "sigmoid":
            self.router_bias.copy_(self.router_bias.numpy() - rate * np.sign(self.load - self.load.mean()))
        self.load[:] = 0

    def details(self):
        return f"top {self.k} of {len(self.load)}, {self.scoring_func}"
