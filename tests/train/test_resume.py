"""A run that was stopped and resumed is, bit for bit, the run that was not."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tinyllm.errors import UserError
from tinyllm.train.checkpoint import CheckpointError
from tinyllm.train.data import DataConfig
from tinyllm.train.loop import Stopped, TrainConfig, Trainer
from tinyllm.train.metrics import read_metrics
from tinyllm.train.session import Session

MODEL = {"type": "gpt", "n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 8, "dropout": 0.1}
STEPS = 20


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{i} green bottles, hanging on the wall; " for i in range(99, 0, -1)))
    return path


def settings(text, **changes):
    changes = {"steps": STEPS, "batch": 3, "accumulate": 2, "eval_every": 5, "eval_windows": 4, "warmup": 3, "seed": 7, **changes}
    return DataConfig([str(text)]), MODEL, TrainConfig(**changes)


def start(directory, text, **changes):
    with Session.new(directory, *settings(text, **changes), out=open(os.devnull, "w")) as session:
        session.trainer.fit()


def resume(directory):
    with Session.resume(directory, out=open(os.devnull, "w")) as session:
        session.trainer.fit()


def everything(directory):
    """All that must be equal: the bytes of both checkpoints, and the metrics without the clock's."""
    files = {path.name: path.read_bytes() for path in (directory / "checkpoints").iterdir() if path.suffix == ".safetensors"}
    states = {name: json.loads((directory / "checkpoints" / f"{name}.json").read_text()) for name in ("last", "best")}
    for state in states.values():       # the log has the clock's numbers in it, and so a length of its own
        state["state"].pop("metrics_bytes", None), state.pop("sha256")
    metrics = [{k: v for k, v in record.items() if k not in ("seconds", "tokens_per_second")}
               for record in read_metrics(directory / "metrics.jsonl")]
    return files, states, metrics


@pytest.fixture
def uninterrupted(tmp_path, text):
    start(tmp_path / "whole", text)
    return everything(tmp_path / "whole")


def killed_after(step, monkeypatch):
    """Make the process "die" in the middle of the step after `step`, without any goodbye."""
    original = Trainer.train_step

    def dying(self):
        if self.step == step:
            self._accumulate()          # random streams have moved on, gradients are there
            raise Killed
        return original(self)
    monkeypatch.setattr(Trainer, "train_step", dying)


class Killed(BaseException):
    """Nobody catches this."""


@pytest.mark.parametrize("step", [0, 3, 5, 13, 19])
def test_killed_in_a_step(tmp_path, text, uninterrupted, monkeypatch, step):
    with monkeypatch.context() as patch:
        killed_after(step, patch)
        with pytest.raises(Killed):
            start(tmp_path / "run", text)
    resume(tmp_path / "run")
    assert everything(tmp_path / "run") == uninterrupted


def test_stopped_politely_between_evaluations(tmp_path, text, uninterrupted, monkeypatch):
    original = Trainer.train_step

    def interrupted(self):
        if self.step == 12:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted)
        with pytest.raises(Stopped, match="stopped after step 13, all saved; go on with: tinyllm train --resume .*run"):
            start(tmp_path / "run", text)
    resume(tmp_path / "run")
    assert everything(tmp_path / "run") == uninterrupted


@pytest.mark.parametrize("write", range(1, 9))
def test_killed_while_a_checkpoint_is_written(tmp_path, text, uninterrupted, monkeypatch, write):
    import tinyllm.atomic
    original, count = os.replace, [0]

    def dying(source, target):
        count[0] += 1
        if count[0] == 8 + write:       # the first ones belong to the start of the run and to the first checkpoint
            raise Killed
        original(source, target)
    with monkeypatch.context() as patch:
        patch.setattr(tinyllm.atomic.os, "replace", dying)
        with pytest.raises(Killed):
            start(tmp_path / "run", text)
    resume(tmp_path / "run")
    assert everything(tmp_path / "run") == uninterrupted


def test_resuming_a_finished_run_changes_nothing(tmp_path, text, uninterrupted):
    resume(tmp_path / "whole")
    assert everything(tmp_path / "whole") == uninterrupted


def test_the_same_seed_is_the_same_run_and_another_is_not(tmp_path, text, uninterrupted):
    start(tmp_path / "again", text)
    assert everything(tmp_path / "again") == uninterrupted
    start(tmp_path / "other", text, seed=8)
    assert everything(tmp_path / "other")[2] != uninterrupted[2]


def test_a_changed_text_is_noticed(tmp_path, text, uninterrupted):
    text.write_text(text.read_text().replace("green", "brown"))
    with pytest.raises(UserError, match="another text"):
        resume(tmp_path / "whole")


def test_damage_is_noticed(tmp_path, text, uninterrupted):
    path = next((tmp_path / "whole" / "checkpoints").glob("*.optimizer.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="sha256 differs"):
        resume(tmp_path / "whole")


def test_really_killed_at_any_moment(tmp_path, text):
    """Processes, SIGKILL, the clock's choice of moment."""
    command = [sys.executable, "-m", "tinyllm", "train"]
    options = [str(text), "--layers", "1", "--heads", "2", "--width", "8", "--block", "8", "--batch", "3", "--steps", "120",
               "--eval-every", "5", "--eval-windows", "2", "--seed", "7", "--sample", "0"]
    subprocess.run([*command, *options, "--out", str(tmp_path / "whole")], check=True, stdout=subprocess.DEVNULL)
    for attempt, wait in enumerate((0.05, 0.3)):
        run = tmp_path / f"run{attempt}"
        process = subprocess.Popen([*command, *options, "--out", str(run)], stdout=subprocess.DEVNULL)
        while not (run / "config.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(wait)
        process.kill()
        process.wait()
        subprocess.run([*command, "--resume", str(run), "--sample", "0"], check=True, stdout=subprocess.DEVNULL)
        assert everything(run) == everything(tmp_path / "whole")
