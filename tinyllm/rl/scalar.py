"""A number for every position: what reward models and value functions are.

The network is a language model whose head has one output: a copy of the model with `head` exchanged for a map from its width to
1. It works for every model here, since each ends in norm and head. The weight starts normal with std 1/√(C + 1), or at 0 for
a value function that should begin by knowing nothing. `SharedTrunk` adds the output to the policy's own head instead.
"""

import copy
import math

from .. import ops
from ..nn import Linear, Module
from ..nn import functional as F
from .rewards import last_token_scores


class ScalarModel(Module):
    """values (B, T) for ids (B, T); `model` is copied, its weights with it. `generator` draws the head, None makes it 0."""

    def __init__(self, model, generator=None):
        self.backbone = copy.deepcopy(model)
        width = model.config.n_embd
        self.backbone.head = Linear(width, 1, bias=False, std=1 / math.sqrt(width + 1) if generator else 0.0, generator=generator)
        self.requires_grad_().eval()

    config = property(lambda self: self.backbone.config, doc="the configuration of the copied model")

    def forward(self, ids):
        return self.backbone(ids).squeeze(-1)

    def score(self, rows):
        """The number at the last token of each of `rows`, (B,)."""
        return last_token_scores(self(rows.ids), rows.mask)


class _Head:
    """A head whose weight is computed, not learnt."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, x):
        return F.linear(x, self.weight)


class SharedTrunk(Module):
    """Policy and value function on one trunk: the policy's head with one row more, which starts at 0."""

    def __init__(self, policy):
        self.policy = policy
        self.value = Linear(policy.config.n_embd, 1, bias=False, std=0.0)

    def forward(self, ids):
        """(logits (B, T, V), values (B, T)) of one pass over ids (B, T)."""
        own = self.policy.head
        table = self.policy.wte.weight if own is None else own.weight
        vars(self.policy)["head"] = _Head(ops.concatenate([table, self.value.weight], axis=0))     # (V + 1, C)
        try:
            outputs = self.policy(ids)
        finally:
            vars(self.policy)["head"] = own
        return outputs[..., :-1], outputs[..., -1]
