"""Run directories and their locks."""

import os
import signal
import subprocess
import sys

import pytest

from tinyllm.errors import UserError, WorkError
from tinyllm.train.run import RunDirectory


def test_a_run_is_made_once(tmp_path):
    with RunDirectory.create(tmp_path / "runs" / "a") as run:
        run.write_config(model={})
    assert RunDirectory.open(tmp_path / "runs" / "a").config["model"] == {}
    assert [path.name for path in run.path.iterdir()] == ["config.json"]
    with pytest.raises(UserError, match="exists: choose another --out"), RunDirectory.create(tmp_path / "runs" / "a"):
        pass


def test_a_directory_with_anything_in_it_is_not_taken_for_a_run(tmp_path):
    for name in ("tokenizer.json", "checkpoints"):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match="exists"), RunDirectory.create(tmp_path):
            pass
        (tmp_path / name).rmdir()
    with RunDirectory.create(tmp_path / "a") as run, pytest.raises(UserError, match="exists"), RunDirectory.create(run.tokenizer_path.parent / "lock"):
        pass


def test_a_start_that_was_interrupted_can_be_made_again(tmp_path):
    with pytest.raises(KeyboardInterrupt), RunDirectory.create(tmp_path / "a") as run:
        run.tokenizer_path.write_text("half of a start")
        run.checkpoints.save("last", 0, {}, {})
        raise KeyboardInterrupt
    with pytest.raises(UserError, match="was interrupted before it began"):
        RunDirectory.open(tmp_path / "a")
    with RunDirectory.create(tmp_path / "a") as run:
        assert not run.tokenizer_path.exists() and "last" not in run.checkpoints
        run.write_config(model={})
    assert [path.name for path in run.path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("content, message", [(None, "has no config.json"), ("{", "not JSON"), ("[" * 100_000, "not JSON"),
                                              ("[]", "not the config of a run"), ('{"format": "tinyllm-run"}', "not the config")])
def test_what_is_no_run(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=message):
        RunDirectory.open(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        RunDirectory.open(tmp_path / "nowhere")


def test_a_second_process_is_refused_and_told_who_is_at_work(tmp_path):
    with RunDirectory.create(tmp_path / "a") as run:
        assert (run.path / "lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(WorkError, match=f"in use by process {os.getpid()}"):
            RunDirectory(run.path).lock().__enter__()
        with pytest.raises(WorkError, match=f"in use by process {os.getpid()}"), RunDirectory.create(run.path):
            pass
    assert not (run.path / "lock").exists()
    with run.lock():
        pass


def test_the_lock_of_a_killed_process_is_stale(tmp_path):
    run = RunDirectory(tmp_path)
    program = ("import sys, time; from tinyllm.train.run import RunDirectory\n"
               "with RunDirectory(sys.argv[1]).lock(): print('held', flush=True); time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", program, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(WorkError, match=f"process {process.pid}"):
        run.lock().__enter__()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (run.path / "lock").exists()
    with run.lock():
        assert (run.path / "lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_sweeps_what_a_killed_write_left(tmp_path):
    run = RunDirectory(tmp_path)
    run.checkpoints.directory.mkdir()
    for directory in (run.path, run.checkpoints.directory):
        (directory / ".config.json.99.partial").write_text("half")
    with run.lock():
        assert sorted(path.name for path in run.path.iterdir()) == ["checkpoints", "lock"]
        assert not list(run.checkpoints.directory.iterdir())
