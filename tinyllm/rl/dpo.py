"""Direct preference optimisation (2305.18290): the preferences of a reward model's training, without the reward model.

    for each step: log-probabilities of a batch of chosen and rejected completions under the policy; `dpo_loss` against those under the
    reference, which are computed once; one update.
"""

import copy
from dataclasses import dataclass

import numpy as np

from ..engine import no_grad
from ..errors import UserError
from .loop import Loop, LoopConfig
from .pairs import encode_pairs
from .preference import AVERAGED, KINDS, dpo_loss
from .rows import policy_logps


@dataclass
class DPOConfig(LoopConfig):
    """`batch` pairs a step; `beta`, `kind` and `label_smoothing` as in `dpo_loss`."""

    steps: int = 180
    lr: float = 2e-4
    batch: int = 64
    beta: float = 1.0
    kind: str = "sigmoid"
    label_smoothing: float = 0.0
    eval_every: int = 30

    def __post_init__(self):
        super().__post_init__()
        if self.kind not in KINDS:
            raise UserError(f"kind {self.kind!r}; there are {', '.join(KINDS)}")


class DPO(Loop):
    """Trains `model` on preference `records`; the reference is a frozen copy of `model` as it is given (or another of its kind)."""

    columns = (("accuracy", "held-out: sampled", ".1%"), ("greedy", "greedy", ".1%"), ("reward", "reward", ".3f"), ("kl", "KL", ".2f"))

    def __init__(self, model, records, task, tokenizer, config, run=None, out=None, reference=None):
        reference = copy.deepcopy(model).requires_grad_(False) if reference is None else reference
        check_reference(model, reference)
        super().__init__({"model": model, "reference": reference}, ["model"], task, tokenizer, config, run, out)
        self.pairs = encode_pairs(tokenizer, records, model.config.block_size)
        self._look_up_reference()

    def _look_up_reference(self):
        """The reference never changes, so neither do its log-probabilities: they are computed once."""
        with no_grad():
            sums = [self._sums(self.modules["reference"], side).numpy() for side in (self.pairs.chosen, self.pairs.rejected)]
        self.ref_chosen, self.ref_rejected = sums

    def restore(self):
        super().restore()
        self._look_up_reference()

    def iteration(self):
        index = self.generator.randint(0, len(self.pairs), (min(self.config.batch, len(self.pairs)),))
        return self.update("model", self._objective, self.pairs.take(index), self.ref_chosen[index], self.ref_rejected[index])

    def _objective(self, pairs, ref_chosen, ref_rejected):
        config = self.config
        lengths = {"chosen_lengths": pairs.chosen.lengths, "rejected_lengths": pairs.rejected.lengths} if config.kind in AVERAGED else {}
        chosen, rejected = self._sums(self.model, pairs.chosen), self._sums(self.model, pairs.rejected)
        loss, info = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=config.beta, kind=config.kind,
                              label_smoothing=config.label_smoothing, **lengths)
        return loss, {"pair_accuracy": info["accuracy"], "margin": float(np.mean(info["margin"])),
                      "logp_chosen": float(chosen.numpy().mean()), "logp_rejected": float(rejected.numpy().mean())}

    def _sums(self, model, rows):
        """Summed log-probabilities of the completions, (B,)."""
        return policy_logps(model, rows).sum(axis=1)


def check_reference(model, reference):
    """UserError unless the reference is a model of the same architecture."""
    mine, its = ({name: p.shape for name, p in m.named_parameters()} for m in (model, reference))
    if mine != its:
        differ = next(iter({*mine.items()} ^ {*its.items()}))
        raise UserError(f"the reference is another architecture than the policy (parameter {differ[0]} {differ[1]} is in one of them only): "
                        "their log-probabilities belong to different vocabularies or models; use the model that the policy started from")
