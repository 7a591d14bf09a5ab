"""The loop that every trainer here shares.

    for each step:
        iteration()     what the algorithm does: sample, score, advantages, epochs of minibatches, updates; returns its numbers
        every `eval_every` steps: evaluate() on held-out prompts, a checkpoint, a line on the screen

`sft.py`, `reward_model.py`, `ppo.py`, `grpo.py` and `dpo.py` each fill in the first two. A checkpoint holds all modules (also the
frozen reference), the optimizers and the random stream, so that a run that was stopped and resumed is the run. Numbers go to metrics.jsonl.
"""

import math
import time
from dataclasses import dataclass

import numpy as np

from ..engine import AnomalyError, anomaly, no_grad
from ..engine.random import Generator
from ..errors import UserError, WorkError
from ..optim import AdamW, clip_factor, grad_norm
from ..train.checkpoint import pack_optimizer, unpack_optimizer
from ..train.interrupt import StopRequest
from ..train.loop import Stopped
from ..train.progress import Progress, clock_time
from .advantages import zero_signal_fraction
from .logps import entropy
from .masked import masked_mean
from .rollout import refuse_dropout, sample, scored
from .rows import policy_logps
from .tasks import Prompts


@dataclass
class LoopConfig:
    """What every trainer has."""

    steps: int = 200
    lr: float = 1e-3
    grad_clip: float = 1.0
    eval_every: int = 20
    eval_prompts: int = 256
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "eval_every", "eval_prompts"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; expected 1 or more")
        for name in ("lr", "grad_clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}; expected a number, 0 or above")


class Loop:
    """Base of the trainers. `modules` (name -> module) is what a checkpoint holds; `learning` names those that are updated.

    `run` is a RunDirectory or None; `out` a stream for progress (None: stdout).
    """

    columns = ()        # (name in the record, title, format) of the line on the screen

    def __init__(self, modules, learning, task, tokenizer, config, run=None, out=None):
        self.modules, self.task, self.tokenizer, self.config, self.run, self.out = modules, task, tokenizer, config, run, out
        self.model = modules["model"]
        refuse_dropout(self.model)
        self.optimizers = {name: AdamW(modules[name].parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0) for name in learning}
        self.rates = {name: config.lr for name in learning}
        self.prompts = Prompts(task)
        self.generator = Generator(config.seed)
        self.step, self.seconds, self.last = 0, 0.0, {}
        self.evaluated = None       # the step of the last evaluation, whose numbers are in `last`

    def iteration(self):
        """One step of the algorithm; returns its numbers."""
        raise NotImplementedError

    def evaluate(self):
        """Numbers of the model as it is."""
        return held_out(self.model, self.tokenizer, self.task, self.config.eval_prompts, reference=self.modules.get("reference"))

    def finished(self, record):
        """Whether an evaluation says that there is nothing left to do."""
        return False

    def update(self, name, objective, *args):
        """One step of the optimizer of module `name` down the gradient, clipped, of the loss in (loss, numbers) = `objective(*args)`.

        Returns the numbers with "loss" and "grad_norm". The learning rate falls in a straight line, to a tenth at the last step. Raises
        WorkError before a NaN or Inf gets into the weights, and says where it came from.
        """
        optimizer = self.optimizers[name]
        optimizer.lr = self.rates[name] * (1 - 0.9 * self.step / self.config.steps)
        optimizer.zero_grad()
        loss, numbers = objective(*args)
        loss.backward()
        norm = grad_norm(optimizer.parameters)
        if not (math.isfinite(norm) and math.isfinite(loss.item())):
            kept = f"; {self.run.path} keeps its last checkpoint" if self.run else ""
            raise WorkError(f"step {self.step + 1}: loss {loss.item()}, gradient norm {norm}: {self._culprit(name, objective, *args)}. This update "
                            f"was not made{kept}. A lower --lr usually helps")
        optimizer.step(clip_factor(norm, self.config.grad_clip or math.inf))
        return {"loss": loss.item(), **numbers, "grad_norm": norm}

    def _culprit(self, name, objective, *args):
        """Where a NaN or Inf came from: a parameter, or what the loss does when it is computed once more, watched."""
        for parameter in self.optimizers[name].parameters:
            if not np.isfinite(parameter.numpy()).all():
                return f"parameter {parameter.name} already has a NaN or Inf"
        self.optimizers[name].zero_grad()
        try:
            with anomaly():
                objective(*args)[0].backward()
        except AnomalyError as error:
            return str(error)
        if math.isfinite(grad_norm(self.optimizers[name].parameters)):
            return "it did not happen again when the update was computed once more: suspect the machine"
        return "every operation is finite, the sum over the gradients is not: it overflows"

    def fit(self):
        """Run to the end; returns the last evaluation."""
        progress = Progress(self.config.steps, self.step, self.out)
        with StopRequest() as stop:
            if self.evaluated is None:
                self._evaluated(progress)
            while not self._ended():
                began = time.perf_counter()
                record = self.iteration()
                self.step += 1
                self.seconds += (record_seconds := time.perf_counter() - began)
                self._log({"step": self.step, **record, "seconds": round(record_seconds, 4)})
                if self.step % self.config.eval_every == 0 or self.step == self.config.steps:
                    self._evaluated(progress)
                elif stop.requested:
                    self.save()
                if stop.requested and not self._ended():
                    raise Stopped(f"stopped after step {self.step}" + (
                        f", all saved; go on with: tinyllm rl --resume {self.run.path}" if self.run else ""))
        return self.last

    def _ended(self):
        return self.step >= self.config.steps or (0 < self.step == self.evaluated and self.finished(self.last))

    def _evaluated(self, progress):
        self.last, self.evaluated = self.evaluate(), self.step
        self._log({"step": self.step, **{f"eval_{name}": value for name, value in self.last.items()}})
        self.save()
        shown = [f"{title} {self.last[name]:{form}}" for name, title, form in self.columns if name in self.last]
        rate = self.seconds / self.step if self.step else 0
        left = f"   {rate:.3f} s/step   at most {clock_time(rate * (self.config.steps - self.step))} left" if self.step else ""
        progress.say(f"step {self.step:>{len(str(self.config.steps))}}/{self.config.steps}   {'   '.join(shown)}{left}")

    # ---- what a checkpoint holds

    def save(self):
        """Write the "last" checkpoint, if there is a run directory."""
        if self.run is None:
            return
        arrays = {name: module.state_dict() for name, module in self.modules.items()}
        numbers = {}
        for name, optimizer in self.optimizers.items():
            arrays[f"{name}-optimizer"], numbers[name] = pack_optimizer(optimizer)
        state = {"optimizers": numbers, "generator": self.generator.get_state(), "seconds": self.seconds, "last": self.last,
                 "evaluated": self.evaluated, "metrics_bytes": self.run.metrics.sync(), **self.more_state()}
        self.run.checkpoints.save("last", self.step, arrays, state)

    def restore(self):
        """Continue from the run's "last" checkpoint; the metrics are cut back to it."""
        self.step, arrays, state = self.run.checkpoints.load("last")
        for name, module in self.modules.items():
            module.load_state_dict(arrays[name])
        for name, optimizer in self.optimizers.items():
            unpack_optimizer(optimizer, arrays[f"{name}-optimizer"], state["optimizers"][name])
        self.generator.set_state(state["generator"])
        self.seconds, self.last, self.evaluated = state["seconds"], state["last"], state["evaluated"]
        self.load_more_state(state)
        self.run.open_metrics(keep=state["metrics_bytes"])

    def more_state(self):
        """What else the next step depends on, as JSON can hold it."""
        return {}

    def load_more_state(self, state):
        """Take back what `more_state` gave."""

    def _log(self, record):
        if self.run is not None:
            self.run.metrics.write(**record)


def held_out(model, tokenizer, task, count, *, reference=None, temperature=1.0, seed=1, samples=6):
    """How a model does on `count` held-out prompts: sampled and greedy accuracy, reward, KL, entropy, length, and samples.

    Accuracy is the share of completions of full reward. The prompts and the random numbers are the same for every call.
    """
    rng = Generator(seed)
    prompts = Prompts(task).draw(count, rng, held_out=True)
    longest = task.max_new_tokens
    rollout = scored(sample(model, tokenizer, prompts, 1, longest, rng, temperature=temperature), task)
    greedy = scored(sample(model, tokenizer, prompts, 1, longest, rng, temperature=0), task)
    with no_grad():
        spread = entropy(model(rollout.inputs), temperature).numpy()
        ref = None if reference is None else policy_logps(reference, rollout, temperature).numpy()
    full = lambda rewards: float((np.nan_to_num(rewards) >= 1 - 1e-9).mean())
    record = {"accuracy": full(rollout.rewards), "greedy": full(greedy.rewards), "reward": float(np.nanmean(rollout.rewards)),
              "entropy": float(masked_mean(spread, rollout.actions)), "length": float(rollout.lengths.mean()),
              "truncated": float(rollout.truncated.mean())}
    if ref is not None:
        record["kl"] = float((rollout.old_logps - ref).sum(axis=1).mean())
    shown = range(min(samples, len(rollout)))
    record["samples"] = [[rollout.prompts[i], rollout.texts[i], float(np.nan_to_num(rollout.rewards[i]))] for i in shown]
    return record


def pass_at_k(successes, count, k):
    """Chance that one of `k` samples is right, from `successes` right ones among `count`: 1 - C(n-c, k)/C(n, k) (2107.03374).

    >>> pass_at_k(1, 4, 2)
    0.5
    """
    if not 1 <= k <= count:
        raise UserError(f"pass@{k} of {count} samples; expected 1 <= k <= {count}")
    return 1.0 - math.comb(count - successes, k) / math.comb(count, k)


def rollout_numbers(rollout, group_size=None):
    """What a training rollout says about itself, for the metrics."""
    numbers = {"reward": float(np.nanmean(rollout.rewards)), "length": float(rollout.lengths.mean()), "truncated": float(rollout.truncated.mean())}
    if group_size:
        numbers["no_signal"] = zero_signal_fraction(rollout.rewards, group_size)
    return numbers
