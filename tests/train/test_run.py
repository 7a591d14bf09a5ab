"""Run directories and their locks."""

import os
import signal
import subprocess
import sys

import pytest

from tinyllm.errors import UserError, WorkError
from tinyllm.train.run import RunDirectory


def test_a_run_is_made_once(tmp_path):
    run = RunDirectory.create(tmp_path / "runs" / "a")
    run.write_config(model={})
    assert RunDirectory.open(tmp_path / "runs" / "a").config["model"] == {}
    with pytest.raises(UserError, match="exists: choose another --out"):
        RunDirectory.create(tmp_path / "runs" / "a")


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
    run = RunDirectory.create(tmp_path / "a")
    with run.lock():
        assert (run.path / "lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(WorkError, match=f"in use by process {os.getpid()}"):
            RunDirectory(run.path).lock().__enter__()
    assert not (run.path / "lock").exists()
    with run.lock():
        pass


def test_the_lock_of_a_killed_process_is_stale(tmp_path):
    run = RunDirectory.create(tmp_path / "a")
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
    run = RunDirectory.create(tmp_path / "a")
    (run.path / ".config.json.99.partial").write_text("half")
    with run.lock():
        assert [path.name for path in run.path.iterdir()] == ["lock"]
