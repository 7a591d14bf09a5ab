"""Group relative policy optimisation (DeepSeekMath, 2402.03300) and its successors.

    for each step:
        sample G completions for each of P prompts; reward them
        advantage of a completion = its reward against the others of its prompt (`group_advantages`)
        `epochs` times: for each minibatch: loss of ratios and advantages (`grpo_loss`), backward, update

There is no value function: the group is the baseline. Groups whose rewards are all equal teach nothing; with `dynamic_sampling`
prompts are drawn anew, a few times, until enough groups disagree. `beta` adds a k3 penalty against the policy at the start.
"""

import copy
import time
from dataclasses import dataclass

import numpy as np

from ..engine import no_grad
from ..errors import UserError
from .advantages import group_advantages, in_groups, no_signal, overlong_penalty
from .logps import entropy, token_logps
from .loop import Loop, LoopConfig, rollout_numbers
from .losses import LOSS_TYPES, grpo_loss
from .masked import masked_mean
from .rollout import sample, scored
from .rows import policy_logps


@dataclass
class GRPOConfig(LoopConfig):
    """`prompts` x `group_size` completions a step; the loss's options are those of `grpo_loss`."""

    steps: int = 1200
    lr: float = 6e-4
    prompts: int = 32
    group_size: int = 8
    epochs: int = 1
    minibatches: int = 1
    temperature: float = 1.0
    loss_type: str = "dapo"
    scale: str = "group"
    clip: float = 0.2
    clip_high: float = 0.28
    delta: float = None
    beta: float = 0.0
    entropy_coef: float = 0.0
    dynamic_sampling: bool = False
    mask_truncated: bool = False
    overlong_cache: int = 0
    eval_every: int = 50
    until: float = 0.97

    def __post_init__(self):
        super().__post_init__()
        for name in ("prompts", "epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.group_size < 2:
            raise UserError(f"group_size is {self.group_size}; expected 2 or more: alone in its group a completion has nothing to be compared to")
        if self.prompts * self.group_size < self.minibatches:
            raise UserError(f"{self.prompts} prompts of {self.group_size} completions do not make {self.minibatches} minibatches")
        if self.loss_type not in LOSS_TYPES:
            raise UserError(f"loss_type {self.loss_type!r}; there are {', '.join(LOSS_TYPES)}")


class GRPO(Loop):
    """Trains `model` on `task`; the reference is a frozen copy of `model` as it is given."""

    columns = (("accuracy", "held-out: sampled", ".1%"), ("greedy", "greedy", ".1%"), ("kl", "KL", ".2f"), ("entropy", "entropy", ".3f"))

    def __init__(self, model, task, tokenizer, config, run=None, out=None):
        reference = copy.deepcopy(model).requires_grad_(False)
        super().__init__({"model": model, "reference": reference}, ["model"], task, tokenizer, config, run, out)

    def iteration(self):
        config, began = self.config, time.perf_counter()
        rollout = self._sample()
        sampled = time.perf_counter()
        rewards = rollout.rewards
        if config.overlong_cache:
            rewards = rewards + overlong_penalty(rollout.lengths, self.task.max_new_tokens, config.overlong_cache)
        advantages = group_advantages(rewards, config.group_size, scale=config.scale)
        if config.mask_truncated:
            rollout.mask[rollout.truncated] = False
        self.last_rollout = rollout, advantages
        numbers = []
        for _ in range(config.epochs):
            for index in self._minibatches(len(rollout)):
                numbers.append(self.update("model", self._objective, rollout.take(index), advantages[index]))
        mean = {name: float(np.mean([n[name] for n in numbers])) for name in numbers[0]}
        return {**rollout_numbers(rollout, config.group_size), **mean, "seconds_sampling": round(sampled - began, 4),
                "seconds_learning": round(time.perf_counter() - sampled, 4)}

    def _sample(self):
        """A rollout with rewards; with dynamic sampling, groups that teach nothing are replaced by others for up to three rounds."""
        config, rollouts = self.config, None
        for _ in range(4 if config.dynamic_sampling else 1):
            prompts = self.prompts.draw(config.prompts, self.generator)
            new = scored(sample(self.model, self.tokenizer, prompts, config.group_size, self.task.max_new_tokens, self.generator,
                                temperature=config.temperature), self.task)
            if not config.dynamic_sampling:
                return new
            rollouts = new if rollouts is None else better_groups(rollouts, new, config.group_size)
            if not no_signal(in_groups(rollouts.rewards, config.group_size)).any():
                break
        return rollouts

    def _minibatches(self, count):
        order = self.generator.randperm(count) if self.config.minibatches > 1 else np.arange(count)
        return [part for part in np.array_split(order, self.config.minibatches) if len(part)]

    def _objective(self, rows, advantages):
        """The loss on some rows, and its numbers."""
        config = self.config
        logits = self.model(rows.inputs)
        logps = token_logps(logits, rows.targets, config.temperature)
        options = {}
        if config.beta:
            with no_grad():
                options = {"beta": config.beta, "ref_logps": policy_logps(self.modules["reference"], rows, config.temperature),
                           "kl_correction": config.epochs * config.minibatches > 1}
        loss, info = grpo_loss(logps, rows.old_logps, advantages, rows.actions, loss_type=config.loss_type, clip=config.clip,
                               clip_high=config.clip_high, delta=config.delta, max_completion_length=self.task.max_new_tokens, **options)
        if config.entropy_coef:
            spread = masked_mean(entropy(logits, config.temperature), rows.actions)
            loss = loss - config.entropy_coef * spread
            info["entropy"] = spread.item()
        return loss, info

    def finished(self, record):
        return record["accuracy"] >= self.config.until


def better_groups(old, new, group_size):
    """`old` with its groups that teach nothing replaced, as far as they go, by groups of `new` that do."""
    silent = np.flatnonzero(no_signal(in_groups(old.rewards, group_size)))
    telling = np.flatnonzero(~no_signal(in_groups(new.rewards, group_size)))
    swap = dict(zip(silent, telling))
    picked = [swap.get(g, None) for g in range(len(old) // group_size)]
    both = old.joined(new)
    rows = [(g if p is None else p + len(picked)) * group_size + i for g, p in enumerate(picked) for i in range(group_size)]
    return both.take(rows)
