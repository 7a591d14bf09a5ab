"""The training loop.

    for each step:
        for each of `accumulate` batches: loss ← mean cross-entropy; backward; gradients add up, each / accumulate
        (a batch is cut into shards that work at once: shards.py)
        a loss or gradient that is not finite stops the run here, before it can touch the weights
        clip the gradients' global norm; set the learning rate of this step; one optimizer update
        every `eval_every` steps: loss on the validation windows, "best" and "last" checkpoints

Everything the next step depends on (weights, optimizer, random streams, place in the data, best loss) is in a
checkpoint, so a run that was stopped and resumed ends with the same bits as one that was not.
"""

import contextlib
import functools
import math
import time
from dataclasses import dataclass

import numpy as np

from ..engine import AnomalyError, anomaly, no_grad, threads
from ..engine.memory import keep_freed_memory
from ..engine.random import default_generator
from ..errors import UserError, WorkError
from ..optim import AdamW, clip_factor, constant, decay_groups, grad_norm, linear, warmup_cosine, warmup_stable_decay
from ..text.batches import IGNORE
from .blas import use_one_thread
from .checkpoint import pack_optimizer, unpack_optimizer
from .interrupt import StopRequest
from .parallel import ALONE
from .progress import Progress
from .shards import Shards
from .watch import layer_grad_norms

SCHEDULES = {
    "cosine": lambda c: warmup_cosine(c.lr, warmup=c.warmup, total=c.steps, floor=c.min_lr),
    "linear": lambda c: _after_warmup(c, linear(c.lr, c.min_lr, c.steps - c.warmup)),
    "constant": lambda c: _after_warmup(c, constant(c.lr)),
    "wsd": lambda c: warmup_stable_decay(c.lr, warmup=c.warmup, decay=c.steps // 5, total=c.steps, floor=c.min_lr),
}
MOST_SHARDS = 256
SPIKE = 10      # a gradient norm this many times the usual one is marked in metrics.jsonl


def _after_warmup(config, schedule):
    def warmed(step):
        return config.lr * (step + 1) / (config.warmup + 1) if step < config.warmup else schedule(step - config.warmup)
    return warmed


@dataclass
class TrainConfig:
    """How a model is trained; one step sees `batch * accumulate` windows of text."""

    steps: int = 2000
    batch: int = 16
    accumulate: int = 1
    lr: float = 1e-3
    min_lr: float = 1e-4
    warmup: int = 100
    schedule: str = "cosine"
    betas: tuple = (0.9, 0.99)
    weight_decay: float = 0.1
    clip: float = 1.0
    eval_every: int = 250
    eval_windows: int = 200     # of the validation text, at each evaluation; 0 is all of it
    early_stop: int = 0         # evaluations without a new best loss before stopping; 0 is never
    skip_bad_steps: int = 0     # how many steps with a NaN or Inf may be left out before the run stops
    overfit_batch: bool = False
    seed: int = 0
    stride: int = 0             # distance between windows that are each seen once an epoch; 0: windows start anywhere
    shards: int = 1             # parts of a batch that are worked on at once; a run's numbers depend on it, not on the threads
    recompute: bool = False     # backward makes each block's graph again instead of finding it kept; the numbers are the same

    def __post_init__(self):
        self.betas = tuple(self.betas)
        for name, low in (("steps", 1), ("batch", 1), ("accumulate", 1), ("warmup", 0), ("eval_every", 1), ("eval_windows", 0),
                          ("early_stop", 0), ("skip_bad_steps", 0), ("stride", 0), ("shards", 1)):
            if getattr(self, name) < low:
                raise UserError(f"{name} is {getattr(self, name)}; expected {low} or more")
        for name in ("lr", "min_lr", "weight_decay", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}; expected a number, 0 or above")
        if not (len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)):
            raise UserError(f"betas are {self.betas}; expected two numbers from 0 up to, not including, 1")
        if self.shards > MOST_SHARDS:
            raise UserError(f"shards is {self.shards}; each is a copy of the model's gradients: expected {MOST_SHARDS} at most")
        if self.schedule not in SCHEDULES:
            raise UserError(f"schedule {self.schedule!r}; there are {', '.join(SCHEDULES)}")


class Stopped(WorkError):
    """The run was asked to stop (Ctrl-C) and has saved itself."""


class Trainer:
    """Trains `model` on `batches`, such as `text.RandomWindows`: an iterator of (ids, targets) that saves its state.

    `validation`: (ids, targets) pairs, such as `text.EvalWindows`, or None; `run`: a `RunDirectory` to keep
    checkpoints and metrics in, or None; `out`: where the progress is shown (standard output); `sampler`: writes a few
    words with the model at each evaluation, or None; `team`: the processes that train together (parallel.py). `fit()` does the
    whole of it; `train_step()` is one step.
    """

    def __init__(self, model, batches, validation, config, run=None, out=None, sampler=None, team=ALONE):
        self.model, self.batches, self.validation, self.config, self.run, self.out = model, batches, validation, config, run, out
        self.sampler, self.team = sampler, team
        if min(config.shards, config.batch) < team.size:
            raise UserError(f"{team.size} processes, but batches of {config.batch} windows in {config.shards} shards: start {min(config.shards, config.batch)} "
                            "processes at most, or begin a run with more --batch and --shards")
        use_one_thread()
        keep_freed_memory()
        model.recompute = config.recompute
        self.shards = Shards(model, config.shards, team.rank, team.size)
        self.parameters = list(model.parameters())
        self.optimizer = AdamW(decay_groups(model, config.weight_decay), lr=config.lr, betas=config.betas)
        self.optimizer.lie_like(self.shards.flats[0])
        self.schedule = SCHEDULES[config.schedule](config)
        self.step = 0
        self.best = {"loss": None, "step": 0}
        self.waited = 0             # evaluations since the best one
        self.skipped = 0
        self.last_loss = None       # of the last step that was not skipped
        self.usual_norm = None      # running mean of the gradient norm

    # ---- one step

    def train_step(self):
        """One update; returns its record for the metrics. Raises WorkError, weights untouched, on a NaN or Inf."""
        config, before = self.config, self._stream_state()
        loss = self._accumulate()
        layers = layer_grad_norms(self.model) if self.step == 0 or self._evaluation_is_due(self.step + 1) else None
        norm = grad_norm(self.parameters)
        lr = self.schedule(self.step)
        record = {"step": self.step + 1, "loss": loss, "lr": lr, "grad_norm": float(norm)}
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._bad_step(before, loss, norm)
            record |= {"loss": None, "grad_norm": None, "skipped": True}
        else:
            if self.usual_norm is not None and norm > SPIKE * self.usual_norm:
                record["spike"] = True
            if layers is not None:
                record["layer_grad_norms"] = layers
            self.usual_norm = record["grad_norm"] if self.usual_norm is None else 0.98 * self.usual_norm + 0.02 * record["grad_norm"]
            self.optimizer.lr = lr
            self.optimizer.step(clip_factor(norm, config.clip or math.inf))
            self.model.after_step()
        self.step += 1
        return record

    def _accumulate(self):
        """Gradients of the mean loss over `accumulate` batches; returns that loss."""
        return sum(self.team.add_up(self.shards, self.own_share())) / self.config.accumulate

    def own_share(self):
        """What this process adds to the gradients, and to the losses of the batches."""
        self.shards.begin()
        losses = [self.shards.gradients(*next(self.batches), 1 / self.config.accumulate) for _ in range(self.config.accumulate)]
        self.shards.finish()
        return losses

    @contextlib.contextmanager
    def rehearsal(self):
        """What is done to the next batches inside leaves no trace: random streams and gradients are put back."""
        streams = self._stream_state()
        try:
            yield
        finally:
            self.shards.begin()
            self._load_stream_state(streams)

    def _bad_step(self, before, loss, norm):
        """Run the step once more, slowly, to find where the trouble began; stop, unless the step may be skipped."""
        after = self._stream_state()
        self._load_stream_state(before)
        culprit = next((f"parameter {name} already has a NaN or Inf" for name, parameter in self.model.named_parameters()
                        if not np.isfinite(parameter.numpy()).all()), None)
        if culprit is None:
            found, losses = "", []
            try:
                with anomaly():
                    losses = self.own_share()
            except AnomalyError as error:
                found = str(error)
            culprit = next(filter(None, self.team.gather(found)), None)
        if culprit is None:
            again = sum(self.team.add_up(self.shards, losses))
            finite = math.isfinite(again) and math.isfinite(grad_norm(self.parameters))
            culprit = ("it did not happen again when the step was run once more, on the same numbers: suspect the machine" if finite else
                       "every operation is finite, the sum over the gradients is not: it overflows")
        self.shards.begin()
        self._load_stream_state(after)
        if self.skipped < self.config.skip_bad_steps:
            self.skipped += 1
            return
        kept = f"; {self.run.path} keeps its last checkpoint" if self.run and "last" in self.run.checkpoints else ""
        raise WorkError(f"step {self.step + 1}: loss {loss}, gradient norm {norm}: {culprit}. Nothing was updated{kept}. "
                        "A lower --lr or a longer --warmup usually helps; --skip-bad-steps N goes on without such steps")

    # ---- the whole run

    def fit(self, look=None):
        """Train to the end; returns the best validation loss (the last training loss without validation).

        `look(self)` is called once, after the second step, when kernels are compiled and the optimizer is filled; what it says is shown.
        """
        config = self.config
        progress = Progress(config.steps, self.step, self.out)
        try:
            with StopRequest() as stop:
                while self.step < config.steps and not (config.early_stop and self.waited >= config.early_stop):
                    began = time.perf_counter()
                    record = self.train_step()
                    seconds = time.perf_counter() - began
                    if record["loss"] is not None:
                        self.last_loss = record["loss"]
                    tokens = self.batches.batch_size * self.batches.block_size * config.accumulate
                    progress.step(self.step, self.last_loss, tokens)
                    self._log({**record, "seconds": round(seconds, 4), "tokens_per_second": round(tokens / seconds)})
                    if look is not None and self.step in (progress.first + 2, config.steps):
                        progress.say(look(self))
                        look = None
                    if self._evaluation_is_due(self.step):
                        progress.keep(self.step, self.last_loss, self._evaluate())
                    if self.team.any(stop.requested):
                        if not self._evaluation_is_due(self.step):
                            self.save("last")
                        raise Stopped(f"stopped after step {self.step}" + (
                            f", all saved; go on with: tinyllm {self._command()} --resume {self.run.path}" if self.run else ""))
        finally:
            progress.close()
        return self.last_loss if self.validation is None else self.best["loss"]

    def _evaluation_is_due(self, step):
        return step % self.config.eval_every == 0 or step == self.config.steps

    def _command(self):
        return "finetune" if "finetune" in self.run.config else "train"

    def _evaluate(self):
        """Validation loss, the "best" checkpoint if it is the lowest so far, and the "last" one; None without validation."""
        if self.validation is None:
            self.save("last")
            return None
        self.team.check_equal(self.shards.flats[0].data, "the weights")
        loss = evaluate(self.model, self.validation, self.team)
        self._log({"step": self.step, "val_loss": loss, **({} if self.sampler is None else {"sample": self.sampler(self.model)})})
        better = self.best["loss"] is None or loss < self.best["loss"]
        if better:
            self.best, self.waited = {"loss": loss, "step": self.step}, 0
            self.save("best")
        else:
            self.waited += 1
        self.save("last")
        return loss

    # ---- what a checkpoint holds

    def save(self, name):
        """Write a checkpoint into the run directory, if there is one; "best" holds the weights alone."""
        if self.run is None:
            return
        arrays = {"model": self.model.state_dict()}
        if name == "best":
            self.run.checkpoints.save("best", self.step, arrays, {"best": self.best})
            return
        arrays["optimizer"], numbers = pack_optimizer(self.optimizer)
        state = {"best": self.best, "waited": self.waited, "skipped": self.skipped, "usual_norm": self.usual_norm, "last_loss": self.last_loss,
                 "optimizer": numbers, "streams": self._stream_state(), "metrics_bytes": self.run.metrics.sync()}
        self.run.checkpoints.save("last", self.step, arrays, state)

    def restore(self):
        """Continue from the run's "last" checkpoint; the metrics are cut back to it."""
        step, arrays, state = self.team.same(lambda: self.run.checkpoints.load("last"))
        self.model.load_state_dict(arrays["model"])
        unpack_optimizer(self.optimizer, arrays["optimizer"], state["optimizer"])
        self._load_stream_state(state["streams"])
        self.step, self.best, self.waited = step, state["best"], state["waited"]
        self.skipped, self.usual_norm, self.last_loss = state["skipped"], state["usual_norm"], state["last_loss"]
        if self.run is not None:
            self.run.open_metrics(keep=state["metrics_bytes"])

    def _stream_state(self):
        return {"batches": self.batches.state_dict(), "generator": default_generator().get_state()}

    def _load_stream_state(self, state):
        self.batches.load_state_dict(state["batches"])
        default_generator().set_state(state["generator"])

    def _log(self, record):
        if self.run is not None:
            self.run.metrics.write(**record)


def evaluate(model, pairs, team=ALONE):
    """Mean loss in nats per token over (ids, targets) pairs, in eval mode and without a graph; IGNORE does not count.

    The ranks of a `team` take turns at the pairs.
    """
    def one(ids, targets):
        kept = int((targets != IGNORE).sum())
        return model.loss(ids, targets, ignore_index=IGNORE).item() * kept, kept

    training = model.training
    model.eval()
    work = [functools.partial(one, *pair) for pair in pairs]
    results = np.zeros((len(work), 2))
    with no_grad():
        results[team.rank::team.size] = np.reshape(threads.run(work[team.rank::team.size]), (-1, 2))
    if training:
        model.train()
    team.sum(results)
    return sum(results[:, 0].tolist()) / sum(results[:, 1].tolist())
