"""Supervised fine-tuning: learn the completions of a task by heart, the start of everything else.

    loss = mean over completion tokens of -log π(token)          the prompt is shown, not learnt

`until` stops it half-way: reinforcement learning needs a policy that is right now and then, neither never nor always.
"""

from dataclasses import dataclass

from ..errors import UserError
from ..nn import functional as F
from .loop import Loop, LoopConfig
from .rows import encode_rows


@dataclass
class SFTConfig(LoopConfig):
    """`batch` examples a step; stops when the sampled accuracy on held-out prompts reaches `until`."""

    steps: int = 2000
    lr: float = 2e-3
    batch: int = 128
    until: float = 1.0


class SFT(Loop):
    """Trains `model` on answers of `task`."""

    columns = (("accuracy", "held-out: sampled", ".1%"), ("greedy", "greedy", ".1%"))

    def __init__(self, model, task, tokenizer, config, run=None, out=None):
        if not hasattr(task, "answer"):
            raise UserError("this task has no answer(prompt, rng) to learn from; start from a trained model with --init RUN")
        super().__init__({"model": model}, ["model"], task, tokenizer, config, run, out)

    def iteration(self):
        prompts = self.prompts.draw(self.config.batch, self.generator)
        texts = [self.task.answer(prompt, self.generator) for prompt in prompts]
        rows = encode_rows(self.tokenizer, prompts, texts, self.model.config.block_size)
        return self.update("model", self._objective, rows)

    def _objective(self, rows):
        return F.cross_entropy(self.model(rows.inputs), rows.targets, ignore_index=-1), {}

    def finished(self, record):
        return record["accuracy"] >= self.config.until
