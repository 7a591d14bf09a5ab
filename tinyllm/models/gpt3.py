"""How GPT-3 was trained (Brown et al. 2020, section 2.3 and appendix B), as numbers and functions of the tokens seen.

    Adam with β = (0.9, 0.95), ε = 1e-8, weight decay 0.1; gradients clipped to a norm of 1
    learning rate    up in a straight line over 375 million tokens, down along a cosine to a tenth at 260 billion, then constant
    batch            up in a straight line from 32 thousand tokens to the model's own over the first 4 to 12 billion
    text             documents joined by the end-of-text token and cut into windows of 2048; attention may cross their borders

The paper gives the range of the batch's ramp ("depending on the model size"); which size takes which length is a choice
here: 4, 8 and 12 billion for batches of half a million tokens, of one or two, and of 3.2.

`scaled` shrinks the whole recipe to a small number of tokens, so that a small model can go through all of it:

    recipe = GPT3Training.preset("gpt3-125m").scaled(total_tokens=1e6, batch_tokens=2048)
    optimizer, seen = recipe.optimizer(model), 0
    while seen < recipe.total_tokens:
        rows = max(1, recipe.batch_at(seen) // block_size)
        …                                                   # the gradient of a batch of so many rows
        clip_grad_norm(model.parameters(), recipe.clip)
        optimizer.lr = recipe.lr_at(seen)
        optimizer.step()
        seen += rows * block_size
"""

import math
from dataclasses import dataclass, replace

from ..errors import UserError
from ..optim import AdamW, decay_groups

RATES = {   # preset: (tokens in a batch, highest learning rate), table 2.1
    "gpt3-125m": (0.5e6, 6.0e-4), "gpt3-350m": (0.5e6, 3.0e-4), "gpt3-760m": (0.5e6, 2.5e-4), "gpt3-1.3b": (1e6, 2.0e-4),
    "gpt3-2.7b": (1e6, 1.6e-4), "gpt3-6.7b": (2e6, 1.2e-4), "gpt3-13b": (2e6, 1.0e-4), "gpt3-175b": (3.2e6, 0.6e-4),
}


@dataclass(frozen=True)
class GPT3Training:
    """The published recipe for one size; `lr_at` and `batch_at` take the number of tokens seen so far.

    >>> recipe = GPT3Training.preset("gpt3-175b")
    >>> recipe.lr_at(375e6), round(recipe.lr_at(300e9), 9), recipe.batch_at(0), recipe.batch_at(12e9)
    (6e-05, 6e-06, 32000, 3200000)
    """

    batch_tokens: float
    lr: float
    ramp_tokens: float                  # until the batch is whole
    first_batch_tokens: float = 32e3
    warmup_tokens: float = 375e6
    decay_tokens: float = 260e9         # where the cosine ends
    total_tokens: float = 300e9
    floor: float = 0.1                  # of the highest rate
    betas: tuple = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip: float = 1.0

    @classmethod
    def preset(cls, name):
        """The recipe of a preset of `GPTConfig`."""
        if name not in RATES:
            raise UserError(f"no recipe for {name!r}; known are {', '.join(RATES)}")
        batch, lr = RATES[name]
        return cls(batch, lr, 4e9 if batch <= 0.5e6 else 12e9 if batch > 2e6 else 8e9)

    def scaled(self, total_tokens, batch_tokens):
        """The same curves over `total_tokens`, with a full batch of `batch_tokens`."""
        time, size = total_tokens / self.total_tokens, batch_tokens / self.batch_tokens
        return replace(self, batch_tokens=batch_tokens, first_batch_tokens=size * self.first_batch_tokens, total_tokens=total_tokens,
                       **{name: time * getattr(self, name) for name in ("ramp_tokens", "warmup_tokens", "decay_tokens")})

    def optimizer(self, model):
        """AdamW with the recipe's numbers; matrices and tables decay, vectors do not."""
        return AdamW(decay_groups(model, self.weight_decay), lr=self.lr_at(0), betas=self.betas, eps=self.eps)

    def lr_at(self, tokens):
        """The learning rate after so many tokens."""
        if tokens < self.warmup_tokens:
            return self.lr * tokens / self.warmup_tokens
        progress = min((tokens - self.warmup_tokens) / (self.decay_tokens - self.warmup_tokens), 1.0)
        return self.lr * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress)))

    def batch_at(self, tokens):
        """How many tokens the next batch has, after so many tokens."""
        share = min(tokens / self.ramp_tokens, 1.0)
        return round(self.first_batch_tokens + share * (self.batch_tokens - self.first_batch_tokens))
