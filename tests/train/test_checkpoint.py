"""Checkpoints: whole or absent, shared where they are equal, checked when they are read."""

import json
import os

import numpy as np
import pytest

from tinyllm.errors import WorkError
from tinyllm.train.checkpoint import CheckpointError, Checkpoints

ARRAYS = {"model": {"w": np.arange(4, dtype=np.float32)}, "optimizer": {"w.m": np.ones(4, np.float32)}}


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path / "checkpoints")
    made.save("last", 5, ARRAYS, {"note": "é", "x": 0.1})
    return made


def names(checkpoints):
    return sorted(path.name for path in checkpoints.directory.iterdir())


def test_what_was_saved_comes_back(checkpoints):
    step, arrays, state = checkpoints.load("last")
    assert step == 5 and state == {"note": "é", "x": 0.1}
    assert arrays["model"]["w"].tolist() == [0, 1, 2, 3] and arrays["optimizer"]["w.m"].tolist() == [1] * 4
    assert "last" in checkpoints and "best" not in checkpoints


def test_two_checkpoints_of_one_step_share_their_files(checkpoints):
    checkpoints.save("best", 5, {"model": ARRAYS["model"]}, {})
    assert names(checkpoints) == ["000005.model.safetensors", "000005.optimizer.safetensors", "best.json", "last.json"]


def test_files_nobody_names_any_more_are_removed(checkpoints):
    checkpoints.save("best", 5, {"model": ARRAYS["model"]}, {})
    (checkpoints.directory / ".last.json.123.partial").write_text("half")
    checkpoints.save("last", 6, ARRAYS, {})
    assert names(checkpoints) == ["000005.model.safetensors", "000006.model.safetensors", "000006.optimizer.safetensors",
                                  "best.json", "last.json"]


@pytest.mark.parametrize("change", [
    lambda record: record["state"].update(x=0.2), lambda record: record.update(step=6), lambda record: record.pop("sha256"),
    lambda record: record["files"]["model"].update(file="../../elsewhere")])
def test_a_changed_json_is_refused(checkpoints, change):
    path = checkpoints.directory / "last.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="last.json is not what was written"):
        checkpoints.load("last")


@pytest.mark.parametrize("content, message", [("{", "not JSON"), ("[" * 100_000, "not JSON"), ("[]", "not a checkpoint"), ("{}", "not a checkpoint")])
def test_a_file_that_is_no_checkpoint(checkpoints, content, message):
    (checkpoints.directory / "last.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load("last")


def test_changed_or_missing_arrays_are_refused(checkpoints):
    path = checkpoints.directory / "000005.model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\7")
    with pytest.raises(CheckpointError, match="000005.model.safetensors is not what was written"):
        checkpoints.load("last")
    path.unlink()
    with pytest.raises(CheckpointError, match="needs 000005.model.safetensors"):
        checkpoints.load("last")


def test_a_link_out_of_the_directory_is_not_followed(checkpoints, tmp_path):
    path = checkpoints.directory / "000005.model.safetensors"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="links that lead out of it are not followed"):
        checkpoints.load("last")


def test_a_write_that_fails_keeps_the_old_checkpoint(checkpoints, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WorkError, match="cannot write .*: No space left on device"):
            checkpoints.save("last", 6, ARRAYS, {})
    assert checkpoints.load("last")[0] == 5
    assert not [name for name in names(checkpoints) if name.endswith(".partial")]


def test_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint 'best'"):
        Checkpoints(tmp_path).load("best")


def test_a_file_that_a_checkpoint_names_is_never_written_to(checkpoints):
    """Another machine, set back to step 4, comes to a step 5 that differs in the last bits."""
    before = {path.name: path.read_bytes() for path in checkpoints.directory.iterdir()}
    other = {"model": {"w": ARRAYS["model"]["w"] + np.float32(1e-7)}, "optimizer": ARRAYS["optimizer"]}
    checkpoints.save("best", 5, other, {})
    assert {name: (checkpoints.directory / name).read_bytes() for name in before} == before
    assert checkpoints.load("best")[1]["model"]["w"][0] == np.float32(1e-7) and checkpoints.load("last")[1]["model"]["w"][0] == 0
    assert names(checkpoints) == ["000005.model.2.safetensors", "000005.model.safetensors", "000005.optimizer.safetensors", "best.json", "last.json"]
    checkpoints.save("last", 5, other, {})
    assert names(checkpoints) == ["000005.model.2.safetensors", "000005.optimizer.safetensors", "best.json", "last.json"]


def test_a_damaged_file_is_not_shared(checkpoints):
    path = checkpoints.directory / "000005.model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\7")
    checkpoints.save("best", 5, {"model": ARRAYS["model"]}, {})
    assert checkpoints.load("best")[1]["model"]["w"].tolist() == [0, 1, 2, 3]


def test_collecting_keeps_everything_while_a_checkpoint_cannot_be_read(checkpoints):
    orphan = checkpoints.directory / "000009.model.safetensors"
    orphan.write_bytes(b"")
    (checkpoints.directory / "best.json").write_text("{")
    checkpoints.collect()
    assert orphan.exists()
    (checkpoints.directory / "best.json").unlink()
    checkpoints.collect()
    assert not orphan.exists() and checkpoints.load("last")[0] == 5
