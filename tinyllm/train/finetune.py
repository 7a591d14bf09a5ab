"""Fine-tuning: a model that exists learns to answer prompts, or to tell classes apart.

    answers     the loss counts the tokens of the response alone (examples.py)
    classes     the head is exchanged for one with an output for each class, read at the last token

The loop is that of training from scratch (loop.py). With `lora` only low-rank adapters are learned (nn/lora.py); when the run is
loaded they are added into the weights. A run directory holds all of it: `tl.load(run)` gives the tuned model, with the name of
its template in `model.template`, or its classes in `model.labels`.
"""

import contextlib
import dataclasses
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .. import nn, tokenizers
from ..engine import no_grad
from ..engine.random import Generator, manual_seed
from ..errors import UserError
from ..load import build, check_room, describe
from ..nn import Linear
from .checkpoint import file_digest
from .examples import TEMPLATES, ShuffledRows, answer_rows, batch_of, check_lengths, class_rows, read_examples
from .loop import TrainConfig, Trainer
from .run import RunDirectory

HEAD_STD = 0.02     # of a fresh head


@dataclass
class TuneConfig:
    """What is tuned, and on what."""

    source: str                     # a .jsonl file
    template: str = "instruction"   # of answers
    labels: list[str] | None = None      # classes, in the order of their numbers; None: answers
    lora: int = 0                   # rank of adapters; 0: all weights are learned
    val_fraction: float = 0.1       # of the examples, held out
    seed: int = 0

    def __post_init__(self):
        if self.template not in TEMPLATES:
            raise UserError(f"no template is called {self.template!r}; there are {', '.join(TEMPLATES)}")
        if not 0 < self.val_fraction < 1:
            raise UserError(f"val_fraction is {self.val_fraction}; expected a share between 0 and 1")
        if self.lora < 0:
            raise UserError(f"lora is {self.lora}; expected a rank, or 0 for none")


def find_labels(path):
    """The classes of a .jsonl file of {"text", "label"}, sorted."""
    labels = sorted({record["label"] for record in read_examples(path, ("text", "label"))})
    if len(labels) < 2:
        raise UserError(f"{path} has one label, {labels[0]!r}; there is nothing to tell apart")
    return labels


def prepare(model, tune, generator=None, arrays=None):
    """Give `model` the head and the adapters of a `TuneConfig`; returns the adapters or None.

    `arrays` are those that will fill them: UserError where the head and the adapters would be far larger.
    """
    if arrays is not None:
        sides = sum(sum(array.shape) for array in arrays.values() if array.ndim == 2)
        if max(tune.lora * sides, len(tune.labels or ()) * model.config.n_embd) > 4 * sum(array.size for array in arrays.values()):
            raise UserError(f"adapters of rank {tune.lora} and {len(tune.labels or ())} classes are more than the checkpoint has")
    if tune.labels is not None:
        model.head = Linear(model.config.n_embd, len(tune.labels), bias=False, std=HEAD_STD, generator=generator)
        model.labels = list(tune.labels)
    else:
        model.template = tune.template
    if not tune.lora:
        return None
    adapters = nn.lora(model, tune.lora, "all", generator=generator)
    if tune.labels is not None:
        model.head.requires_grad_()
    return adapters


class Tuning:
    """A fine-tuning run: `run`, `model`, `tokenizer`, `trainer`, and the `held_out` examples. `new` and `resume` make one."""

    def __init__(self, model, tokenizer, tune, config, run=None, out=None):
        self.tokenizer, self.tune, self.run = tokenizer, tune, run
        generator = manual_seed(config.seed)
        self.model = model
        self.description = describe(model)
        self.adapters = prepare(model, tune, generator)
        if tune.labels is None:
            records = read_examples(tune.source, ("prompt", "response"))
            rows = answer_rows(tokenizer, records, TEMPLATES[tune.template])
            ends = TEMPLATES[tune.template].end_ids(tokenizer)
            if len(ends) == 1:
                self.description["eos_token_id"] = model.config.eos_token_id = ends[0]
        else:
            records = read_examples(tune.source, ("text", "label"))
            rows = class_rows(tokenizer, records, tune.labels)
        check_lengths(rows, model.config.block_size, tune.source)
        order = Generator(tune.seed).randperm(len(rows))
        held = max(1, min(len(rows) - 1, round(tune.val_fraction * len(rows))))
        self.held_out = [records[i] for i in order[:held]]
        val_rows, train_rows = [rows[i] for i in order[:held]], [rows[i] for i in order[held:]]
        self.tokens = tuple(sum(len(ids) - shown for ids, shown in side) for side in (train_rows, val_rows))
        batches = ShuffledRows(train_rows, config.batch, Generator(int(generator.randint(0, 2**31, 1)[0])))
        validation = [batch_of(val_rows[i:i + config.batch]) for i in range(0, len(val_rows), config.batch)]
        self.trainer = Trainer(model.train(), batches, validation, config, run, out)

    @classmethod
    @contextlib.contextmanager
    def new(cls, path, model, tokenizer, tune, config, out=None):
        """A new run in directory `path`, from a model that is changed on the way. Nothing is written until all is known to fit."""
        tuning = cls(model, tokenizer, tune, config, None, out)
        with RunDirectory.create(path) as run:
            tokenizer.save(run.tokenizer_path)
            run.open_metrics()
            tuning.run = tuning.trainer.run = run
            tuning.trainer.save("last")     # the weights it starts from are nowhere else
            data = {"sources": [str(Path(tune.source).resolve())], "train_tokens": tuning.tokens[0], "val_tokens": tuning.tokens[1],
                    "tokenizer": tokenizer.kind, "sha256": file_digest(tune.source)}
            run.write_config(model=tuning.description, finetune=asdict(tune), train=asdict(config), data=data)
            yield tuning

    @classmethod
    @contextlib.contextmanager
    def resume(cls, path, out=None):
        """The run in directory `path`, at its last checkpoint."""
        run = RunDirectory.open(path)
        told = run.config
        if "finetune" not in told:
            raise UserError(f"{path} is not a run of tinyllm finetune")
        with run.lock():
            with run.understood():
                tune = dataclasses.replace(run.settings("finetune", TuneConfig), source=told["data"]["sources"][0])
                if not Path(tune.source).is_file() or file_digest(tune.source) != told["data"]["sha256"]:
                    raise UserError(f"{path} was tuned on {tune.source}, which is not there any more or has changed: going on would not be the same run")
                check_room(told["model"], run.checkpoints.load("last")[1]["model"], path)
                tuning = cls(build(told["model"]), tokenizers.load(run.tokenizer_path), tune, run.settings("train", TrainConfig), run, out)
                tuning.trainer.restore()
            yield tuning

    def accuracy(self):
        """The share of held-out texts whose class is found, with the weights as they are."""
        right = [classify(self.model, self.tokenizer, record["text"])[0][0] == record["label"] for record in self.held_out]
        return float(np.mean(right))


def classify(model, tokenizer, text):
    """[(label, probability), …] of a text, the likeliest first, by a model that `prepare` gave classes."""
    if not hasattr(model, "labels"):
        raise UserError("this model has no classes: tinyllm finetune --classify makes one that has")
    ids = tokenizer.encode(text, disallowed_special=())
    if not ids:
        raise UserError("an empty text has no last token to read a class from")
    training = model.training
    model.eval()
    with no_grad():
        logits = model(np.array([ids[-model.config.block_size:]])).numpy()[0, -1].astype(np.float64)
    model.train(training)
    p = np.exp(logits - logits.max())
    return sorted(zip(model.labels, (p / p.sum()).tolist()), key=lambda pair: -pair[1])
