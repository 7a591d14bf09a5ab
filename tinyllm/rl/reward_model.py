"""Training a reward model on preferences: `ScalarModel` learns to score the chosen completion above the rejected one.

One in ten of the preferences is held out. After training the scores are normalised to mean 0 and standard deviation 1 on the chosen
completions, since only differences were learnt.
"""

from dataclasses import dataclass

import numpy as np

from ..engine import no_grad
from ..engine.random import Generator
from ..errors import UserError
from .loop import Loop, LoopConfig
from .pairs import encode_pairs
from .rewards import Normaliser, accuracy, calibration, reward_loss
from .scalar import ScalarModel


@dataclass
class RewardConfig(LoopConfig):
    """`batch` pairs a step; `margin` and `center` as in `reward_loss`."""

    steps: int = 180
    lr: float = 1e-3
    batch: int = 64
    margin: float = 0.0
    center: float = 0.01
    eval_every: int = 50


class RewardTrainer(Loop):
    """Trains a copy of `model` with a scalar head on preference `records`."""

    columns = (("accuracy", "held-out: right", ".1%"), ("loss", "loss", ".4f"))

    def __init__(self, model, records, task, tokenizer, config, run=None, out=None):
        pairs = encode_pairs(tokenizer, records, model.config.block_size)
        if len(pairs) < 10:
            raise UserError(f"{len(pairs)} preferences; a reward model needs 10 at least, of which one is held out")
        super().__init__({"model": ScalarModel(model, Generator(config.seed + 1))}, ["model"], task, tokenizer, config, run, out)
        held = np.arange(len(pairs)) % 10 == 9
        self.train, self.held = pairs.take(np.flatnonzero(~held)), pairs.take(np.flatnonzero(held))
        self.normaliser = Normaliser()

    def iteration(self):
        index = self.generator.randint(0, len(self.train), (min(self.config.batch, len(self.train)),))
        return self.update("model", self._objective, self.train.take(index))

    def _objective(self, pairs):
        return reward_loss(self.model.score(pairs.chosen), self.model.score(pairs.rejected), margin=self.config.margin, center=self.config.center)

    def evaluate(self):
        chosen, rejected = self._scores(self.held)
        self.normaliser = Normaliser.fit(self._scores(self.train.take(np.arange(min(512, len(self.train)))))[0])
        return {"accuracy": accuracy(chosen, rejected), "loss": reward_loss(chosen, rejected)[0].item(),
                "calibration": calibration(chosen, rejected), "gain": self.normaliser.gain, "bias": self.normaliser.bias}

    def load_more_state(self, state):
        if state["last"]:       # none yet in the checkpoint that a run begins with
            self.normaliser = Normaliser(state["last"]["gain"], state["last"]["bias"])

    def _scores(self, pairs):
        with no_grad():
            return self.model.score(pairs.chosen).numpy(), self.model.score(pairs.rejected).numpy()
