"""A training run from its description: what `tinyllm train` starts, and what `--resume` goes on with.

`Session.new` makes a run directory whose config.json says everything that the run is a function of;
`Session.resume` reads it back. Both end in the same place, so a resumed run is the run. Where several processes train
together (parallel.py), the first one reads and writes, and tells the others what they need.
"""

import contextlib
import os
import platform
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .. import tokenizers
from ..engine.random import Generator, manual_seed
from ..errors import UserError
from ..load import build, check_room, describe
from ..text.batches import EpochWindows, EvalWindows, RandomWindows
from ..untrusted import checked_fields
from .data import DataConfig, TrainingData
from .loop import TrainConfig, Trainer, evaluate
from .parallel import ALONE
from .run import RunDirectory
from .watch import Sampler


class OneBatch:
    """The first batch of `batches`, again and again: a model that cannot learn it by heart has a bug."""

    def __init__(self, batches):
        self.block_size, self.batch_size, self._pair = batches.block_size, batches.batch_size, next(batches)

    def __next__(self):
        return self._pair

    def state_dict(self):
        """Nothing: every batch is the same."""
        return {}

    def load_state_dict(self, state):
        """Nothing to go on with."""


class Session:
    """A run about to train: `run`, `data`, `model`, `trainer`. `new` and `resume` are context managers that hold the run's lock.

    In a `team` the first process calls one of these, the others `follow`, and have None for `run` and `data`.
    """

    def __init__(self, run, data, told, out=None, team=ALONE):
        self.told = told = team.same(lambda: {**told, "train_ids": data.train_ids, "val_ids": data.val_ids})
        config, train_ids, val_ids = TrainConfig(**told["train"]), told["train_ids"], told["val_ids"]
        self.run, self.data, self.config, self.team = run, data, config, team
        generator = manual_seed(config.seed)        # draws the weights, and then the dropout masks
        self.model = build(told["model"])
        block = self.model.config.block_size
        order = Generator(int(generator.randint(0, 2**31, 1)[0]))
        if config.stride:
            batches = EpochWindows(train_ids, block, config.batch, order, stride=config.stride)
        else:
            batches = RandomWindows(train_ids, block, config.batch, order)
        self.validation = None
        if config.overfit_batch:
            batches = OneBatch(batches)
        elif len(val_ids):
            self.validation = EvalWindows(val_ids, min(block, len(val_ids) - 1), config.batch, limit=config.eval_windows or None)
        sampler = Sampler(data.tokenizer, config.seed) if team.first else None
        self.trainer = Trainer(self.model, batches, self.validation, config, run, out, sampler, team)

    @classmethod
    @contextlib.contextmanager
    def new(cls, path, data_config, model_description, config, out=None, team=ALONE):
        """A new run in directory `path`. Nothing is written until the text, the model and the settings are known to fit."""
        data = TrainingData(data_config)
        model_description = {**model_description, "vocab_size": data.tokenizer.vocab_size}
        session = cls(None, data, {"model": model_description, "train": asdict(config), "resumed": False}, out, team)
        with RunDirectory.create(path) as run:
            data.tokenizer.save(run.tokenizer_path)
            run.write_config(model=describe(session.model), train=asdict(config), data=data.describe(),
                             tokenizer=data.tokenizer.fingerprint(), versions=_versions())
            run.open_metrics()
            session.run = session.trainer.run = run
            yield session

    @classmethod
    @contextlib.contextmanager
    def resume(cls, path, out=None, team=ALONE):
        """The run in directory `path`, at its last checkpoint (at its beginning, if it was stopped before the first)."""
        run = RunDirectory.open(path)
        with run.lock():
            told = run.config
            if "finetune" in told:
                raise UserError(f"{path} is a run of fine-tuning: go on with tinyllm finetune --resume {path}")
            with run.understood():
                tokenizer = tokenizers.load(run.tokenizer_path)
                described = {name: told["data"][name] for name in DataConfig.__dataclass_fields__}
                data = TrainingData(DataConfig(**checked_fields(DataConfig, described, f"{path}, data", UserError)), tokenizer)
                if data.digest != told["data"]["sha256"] or tokenizer.fingerprint() != told["tokenizer"]:
                    raise UserError(f"{path} was trained on another text or with another tokenizer: {', '.join(data.config.sources)} or "
                                    f"{run.tokenizer_path} has changed since; going on would not be the same run")
                begun = "last" in run.checkpoints
                if begun:
                    check_room(told["model"], run.checkpoints.load("last")[1]["model"], path)
                session = cls(run, data, {**told, "train": asdict(run.settings("train", TrainConfig)), "resumed": begun}, out, team)
                if begun:
                    session.trainer.restore()
                else:
                    run.open_metrics()
            yield session

    @classmethod
    def follow(cls, team):
        """The part of all processes but the first in the run that the first one makes or resumes."""
        session = cls(None, None, {}, open(os.devnull, "w"), team)
        if session.told["resumed"]:
            session.trainer.restore()
        return session

    def final_loss(self):
        """Mean loss over the whole validation text, with the best weights; None without validation.

        The model keeps the best weights.
        """
        if self.validation is None:
            return None
        _, arrays, _ = self.team.same(lambda: self.run.checkpoints.load("best"))
        self.model.load_state_dict(arrays["model"])
        windows = EvalWindows(self.validation.ids, self.validation.block_size, self.config.batch)
        return evaluate(self.model, windows, self.team)


def free_directory(sources, parent="runs"):
    """A name under `runs/` that is not taken, after the first text: runs/tales, runs/tales-2, …"""
    stem = "stdin" if sources[0] == "-" else Path(sources[0]).name.split(".")[0] or "run"
    path, number = Path(parent) / stem, 2
    while path.exists():
        path, number = Path(parent) / f"{stem}-{number}", number + 1
    return path


def _versions():
    from importlib.metadata import PackageNotFoundError, version
    try:
        own = version("tinyllm")
    except PackageNotFoundError:
        own = None
    return {"tinyllm": own, "numpy": np.__version__, "python": platform.python_version()}
