"""Proximal policy optimisation for language models (Schulman et al. 2017; Ziegler et al. 2019; Ouyang et al. 2022).

    for each step:
        sample one completion for each of B prompts; score them (the task's reward, or a reward model's)
        reward of a token = -kl_coef · (log π - log ref), and the score on the last token          `shape_rewards`
        values of all states; advantages and returns (`gae`), whitened over the batch
        `epochs` times: for each minibatch: clipped policy loss and clipped value loss, one update of each network

The value function is a network of its own, a copy of the policy at the start with a scalar head that begins at 0 (`scalar.py`), or of the
reward model where there is one; with `shared` it is one more output of the policy, and the loss is policy + vf_coef · value. KL is counted once, in the reward: `target_kl` steers its price (`AdaptiveKL`).
"""

import copy
import time
from dataclasses import dataclass

import numpy as np

from ..engine import no_grad
from ..errors import UserError
from .advantages import gae, penalize_missing_end, shape_rewards, whiten
from .kl import AdaptiveKL, FixedKL
from .logps import entropy, token_logps
from .loop import Loop, LoopConfig, rollout_numbers
from .losses import ppo_loss, value_loss
from .masked import masked_mean
from .rollout import sample, scored
from .rows import policy_logps
from .scalar import ScalarModel, SharedTrunk

UNFINISHED = -3.0       # score of a completion without its end, in standard deviations: reward models have only read finished ones


@dataclass
class PPOConfig(LoopConfig):
    """`episodes` completions a step, learnt from `epochs` times in `minibatches` parts."""

    steps: int = 400
    lr: float = 6e-4
    value_lr: float = 1e-3
    episodes: int = 256
    epochs: int = 2
    minibatches: int = 2
    temperature: float = 1.0
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    clip_high: float = None
    dual_clip: float = None
    value_clip: float = 0.2
    shared: bool = False            # policy and value function on one trunk
    vf_coef: float = 0.1            # weight of the value loss there
    value_warmup: int = 10          # steps in which only the value function learns (a network of its own)
    kl_coef: float = 0.01
    target_kl: float = 0.0          # nats a completion; 0: the coefficient stays
    kl_horizon: int = 10_000
    kl_stop: float = 0.1            # a pass over the rollout ends when the policy has moved so many nats a token
    entropy_coef: float = 0.0
    missing_end: float = 0.0        # taken off the score of a completion without an end
    eval_every: int = 25
    until: float = 0.97

    def __post_init__(self):
        super().__post_init__()
        for name in ("episodes", "epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not (0 <= self.gamma <= 1 and 0 <= self.lam <= 1):
            raise UserError(f"gamma={self.gamma}, lam={self.lam}; expected numbers from 0 to 1")


class PPO(Loop):
    """Trains `model` on `task`; `reward_model` (with its `normaliser`) replaces the task's reward in learning, never in evaluation."""

    columns = (("accuracy", "held-out: sampled", ".1%"), ("greedy", "greedy", ".1%"), ("reward", "reward", ".3f"), ("kl", "KL", ".2f"),
               ("entropy", "entropy", ".3f"))

    def __init__(self, model, task, tokenizer, config, run=None, out=None, reward_model=None, normaliser=None, loss_beta=0.0):
        if loss_beta and config.kl_coef:
            raise UserError(f"KL is counted once: kl_coef={config.kl_coef} takes it off the reward, and loss_beta={loss_beta} would add it to "
                            "the loss as well")
        reference = copy.deepcopy(model).requires_grad_(False)
        value = SharedTrunk(model) if config.shared else ScalarModel(model if reward_model is None else reward_model.backbone)
        modules = {"model": model, "reference": reference, "value": value}
        if reward_model is not None:
            modules["reward"] = reward_model.requires_grad_(False)
        super().__init__(modules, ["value"] if config.shared else ["model", "value"], task, tokenizer, config, run, out)
        if not config.shared:
            self.rates["value"] = config.value_lr
        self.normaliser = normaliser or (lambda scores: scores)
        self.price = AdaptiveKL(config.kl_coef, config.target_kl, config.kl_horizon) if config.target_kl else FixedKL(config.kl_coef)

    def scores(self, rollout):
        """What learning takes for the reward of each completion, (B,).

        A reward model's opinion of a completion that was cut off is worth nothing, and a policy would soon find out.
        """
        if "reward" in self.modules:
            with no_grad():
                scores = self.normaliser(self.modules["reward"].score(rollout).numpy())
            return np.where(rollout.truncated, UNFINISHED, scores)
        if not np.isfinite(rollout.rewards).all():
            where = int(np.argmin(np.isfinite(rollout.rewards)))
            raise UserError(f"the task's reward of {rollout.texts[where]!r} for {rollout.prompts[where]!r} is NaN; PPO needs a number for every "
                            "completion (GRPO leaves such completions out)")
        return rollout.rewards

    def iteration(self):
        config, began = self.config, time.perf_counter()
        prompts = self.prompts.draw(config.episodes, self.generator)
        rollout = scored(sample(self.model, self.tokenizer, prompts, 1, self.task.max_new_tokens, self.generator,
                                temperature=config.temperature), self.task)
        sampled = time.perf_counter()
        scores = self.scores(rollout)
        if config.missing_end:
            scores = penalize_missing_end(scores, rollout.truncated, config.missing_end)
        with no_grad():
            ref = policy_logps(self.modules["reference"], rollout, config.temperature).numpy()
            values = self._outputs(rollout)[1].numpy()
        mask = rollout.actions
        rewards = shape_rewards(scores, rollout.old_logps, ref, mask, beta=self.price.coefficient)
        advantages, returns = gae(rewards, values, mask, config.gamma, config.lam)
        advantages = whiten(advantages, mask)
        self.last_rollout = rollout, advantages
        numbers = self._epochs(rollout, advantages, returns, values)
        kl = float(((rollout.old_logps - ref) * mask).sum(axis=1).mean())
        coefficient = self.price.coefficient
        self.price.update(kl, len(rollout))
        return {**rollout_numbers(rollout), "score": float(np.mean(scores)), "kl": kl, "kl_coef": coefficient, **numbers,
                "seconds_sampling": round(sampled - began, 4), "seconds_learning": round(time.perf_counter() - sampled, 4)}

    def _epochs(self, rollout, advantages, returns, values):
        """All passes over one rollout; means of the numbers of the single updates."""
        config, numbers = self.config, []
        for _ in range(config.epochs):
            for index in np.array_split(self.generator.randperm(len(rollout)), config.minibatches):
                rows = rollout.take(index)
                width = rows.actions.shape[1]
                numbers.append(self._learn(rows, *[x[index, :width] for x in (advantages, returns, values)]))
            if np.mean([n.get("approx_kl", 0.0) for n in numbers[-config.minibatches:]]) > config.kl_stop:
                break
        return {name: float(np.mean([n[name] for n in numbers])) for name in numbers[0]}

    def _outputs(self, rows):
        """(logits, values) of both networks, or of the one; logits are None where only values are asked for."""
        outputs = self.modules["value"](rows.inputs)
        return outputs if self.config.shared else (None, outputs)

    def _learn(self, rows, advantages, returns, old_values):
        """One update on some rows; its numbers. In the first steps the value function learns alone."""
        if self.config.shared:
            return self.update("value", self._shared_loss, rows, advantages, returns, old_values)
        numbers = self.update("value", self._value_loss, rows, returns, old_values)
        del numbers["loss"], numbers["grad_norm"]       # these names are the policy's
        if self.step >= self.config.value_warmup:
            numbers |= self.update("model", self._policy_loss, rows, advantages)
        return numbers

    def _shared_loss(self, rows, advantages, returns, old_values):
        logits, values = self._outputs(rows)
        policy, numbers = self._policy_loss(rows, advantages, logits)
        value, more = self._value_loss(rows, returns, old_values, values)
        return policy + self.config.vf_coef * value, {**more, **numbers, "loss": policy.item()}

    def _value_loss(self, rows, returns, old_values, values=None):
        values = self._outputs(rows)[1] if values is None else values
        loss, info = value_loss(values, old_values, returns, rows.actions, clip=self.config.value_clip)
        return loss, {"value_loss": loss.item(), "value_clip_fraction": info["clip_fraction"], "explained_variance": info["explained_variance"]}

    def _policy_loss(self, rows, advantages, logits=None):
        config = self.config
        logits = self.model(rows.inputs) if logits is None else logits
        logps = token_logps(logits, rows.targets, config.temperature)
        loss, info = ppo_loss(logps, rows.old_logps, advantages, rows.actions, clip=config.clip, clip_high=config.clip_high,
                              dual_clip=config.dual_clip)
        if config.entropy_coef:
            loss = loss - config.entropy_coef * masked_mean(entropy(logits, config.temperature), rows.actions)
        return loss, info

    def finished(self, record):
        return record["accuracy"] >= self.config.until

    def more_state(self):
        return {"kl_coef": self.price.coefficient}

    def load_more_state(self, state):
        self.price.coefficient = state["kl_coef"]
