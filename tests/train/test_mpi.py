"""Training over MPI: the run of one process, whatever happens to one of several.

These tests start real processes with `mpiexec`; they are skipped where it or mpi4py is missing.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyllm.errors import UserError
from tinyllm.train import parallel
from tinyllm.train.metrics import read_metrics
from tinyllm.weights import safetensors

MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
needs_mpi = pytest.mark.skipif(MPIEXEC is None or importlib.util.find_spec("mpi4py") is None, reason="needs mpiexec and mpi4py")

STEPS = 12
MAIN = "\nimport sys\nfrom tinyllm.cli import main\nsys.exit(main(sys.argv[1:]))"
HANG = 600      # seconds; a run takes a few, more where kernels are to be compiled


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"{i} green bottles, hanging on the wall; " for i in range(99, 0, -1)))
    return path


def words(text, out, **changes):
    """The command line of a short run; a change of None leaves a flag out."""
    flags = {"layers": 1, "heads": 2, "width": 8, "block": 8, "batch": 7, "accumulate": 2, "steps": STEPS, "warmup": 2, "dropout": 0.1,
             "eval-every": 5, "eval-windows": 12, "shards": 2, "seed": 7, "sample": 0, "threads": 1, **changes}
    return ["train", str(text), "--out", str(out), *[word for name, value in flags.items() if value is not None for word in (f"--{name}", str(value))]]


def start(processes, *arguments, patch="", input=None):
    """Run the command line in `processes` processes, after the statements of `patch`."""
    launcher = [MPIEXEC, "-n", str(processes)] if processes > 1 else []
    return subprocess.run([*launcher, sys.executable, "-c", patch + MAIN, *arguments], capture_output=True, text=True, timeout=HANG, input=input)


def done(finished):
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def only_line(finished):
    """The one line on standard error, without what mpiexec itself says there."""
    lines = [line for line in finished.stderr.splitlines() if not line.startswith("[mpiexec@")]
    assert len(lines) == 1, finished.stderr
    return lines[0]


def metrics(run):
    return [{k: v for k, v in record.items() if k not in ("seconds", "tokens_per_second")} for record in read_metrics(run / "metrics.jsonl")]


def weights(run, name="last"):
    record = json.loads((run / "checkpoints" / f"{name}.json").read_text())
    return safetensors.load(run / "checkpoints" / record["files"]["model"]["file"])


def same_bits(run, other):
    """The arrays of both checkpoints, the random streams in them and all metrics are equal."""
    for name in ("last", "best"):
        records = [json.loads((r / "checkpoints" / f"{name}.json").read_text()) for r in (run, other)]
        for record in records:
            record["state"].pop("metrics_bytes", None)      # the log has the clock's numbers in it
            record.pop("sha256")
        assert records[0] == records[1]                     # sha256 of the arrays among it
    assert metrics(run) == metrics(other)


@pytest.fixture(scope="module")
def alone(text, tmp_path_factory):
    """Runs of one process, by their settings, each made once."""
    made = {}

    def run(**changes):
        key = tuple(sorted(changes.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("alone") / "run"
            done(start(1, *words(text, made[key], **changes)))
        return made[key]
    return run


@needs_mpi
@pytest.mark.parametrize("changes", [{}, {"model": "deepseek"}, {"model": "llama", "accumulate": 1, "clip": 0}])
def test_two_processes_with_a_shard_each_have_the_bits_of_one(tmp_path, text, alone, changes):
    """Dropout, rows that do not divide evenly, and the counts of experts included."""
    output = done(start(2, *words(text, tmp_path / "run", **changes)))
    assert "2 processes share 2 shards of each batch" in output and output.count("validation loss") == 1
    same_bits(tmp_path / "run", alone(**changes))


@needs_mpi
@pytest.mark.parametrize("processes, shards", [(2, 5), (3, 3), (3, 7)])
def test_any_number_of_processes_is_one_process_up_to_rounding(tmp_path, text, alone, processes, shards):
    done(start(processes, *words(text, tmp_path / "run", shards=shards)))
    expected = alone(shards=shards)
    for name, array in weights(expected).items():
        np.testing.assert_allclose(weights(tmp_path / "run")[name], array, rtol=1e-4, atol=1e-5)
    ours, theirs = metrics(tmp_path / "run"), metrics(expected)
    assert [set(record) for record in ours] == [set(record) for record in theirs] and len(ours) == STEPS + 3     # one process writes
    for one, other in zip(ours, theirs):
        for name in {"loss", "val_loss", "grad_norm", "lr"} & set(one):
            assert one[name] == pytest.approx(other[name], rel=1e-5)


@needs_mpi
def test_without_flags_each_process_has_shards_and_only_the_first_reads(tmp_path, text):
    run = tmp_path / "run"
    output = done(start(3, *words("-", run, shards=None, threads=None, steps=2), input=text.read_text()))
    config = json.loads((run / "config.json").read_text())["train"]
    assert config["shards"] >= 3 and f"3 processes share {config['shards']} shards" in output
    assert "tokens to train on" in output.splitlines()[0]


STOP_ONE = """
import os, signal
from tinyllm.train.loop import Trainer
step = Trainer.train_step
def signalled(self):
    if self.step == 6 and self.team.rank == 1:
        os.kill(os.getpid(), signal.{})
    return step(self)
Trainer.train_step = signalled
"""


@needs_mpi
@pytest.mark.parametrize("signal, processes, resumed_by", [("SIGTERM", 2, 2), ("SIGINT", 2, 1)])
def test_a_signal_to_one_stops_all_and_the_run_goes_on_from_there(tmp_path, text, alone, signal, processes, resumed_by):
    run = tmp_path / "run"
    stopped = start(processes, *words(text, run), patch=STOP_ONE.format(signal))
    assert stopped.returncode == 1
    assert only_line(stopped) == f"tinyllm: stopped after step 7, all saved; go on with: tinyllm train --resume {run}"
    assert "going on after step 7" in done(start(resumed_by, "train", "--resume", str(run), "--sample", "0"))
    same_bits(run, alone())


@needs_mpi
def test_resumed_before_the_first_checkpoint_it_begins_again(tmp_path, text, alone):
    run, patch = tmp_path / "run", FAIL.format(step=2, rank=1, error="RuntimeError('no')")
    assert start(2, *words(text, run), patch=patch).returncode == 1
    done(start(2, "train", "--resume", str(run), "--sample", "0"))
    same_bits(run, alone())


FAIL = """
from tinyllm.train.shards import Shards
work, calls = Shards.gradients, [0]
def failing(self, *arguments):
    calls[0] += 1
    if calls[0] == 2 * {step} and self.mine[0] == {rank}:
        raise {error}
    return work(self, *arguments)
Shards.gradients = failing
"""


@needs_mpi
@pytest.mark.parametrize("rank, error, line", [
    (0, "MemoryError()", "tinyllm: out of memory"),
    (2, "MemoryError()", "tinyllm: process 3 of 3: MemoryError"),
    (1, "KeyError('x')", "tinyllm: process 2 of 3: KeyError: 'x'"),
])
def test_an_error_in_one_process_ends_all_with_one_line(tmp_path, text, rank, error, line):
    failed = start(3, *words(text, tmp_path / "run", shards=3), patch=FAIL.format(step=3, rank=rank, error=error))
    assert failed.returncode == 1
    assert only_line(failed).startswith(line)
    assert len(metrics(tmp_path / "run")) == 2      # steps that were done before


@needs_mpi
def test_a_checkpoint_that_cannot_be_written_ends_all(tmp_path, text):
    patch = """
import errno
from tinyllm.train import checkpoint
def full(path, tensors):
    raise checkpoint.WorkError(f"cannot write {path}: No space left on device")
checkpoint.safetensors.save = full
"""
    failed = start(2, *words(text, tmp_path / "run"), patch=patch)
    assert failed.returncode == 1 and only_line(failed).endswith("No space left on device")


@needs_mpi
def test_a_killed_process_takes_the_others_with_it(tmp_path, text):
    killed = start(2, *words(text, tmp_path / "run"), patch=STOP_ONE.format("SIGKILL"))
    assert killed.returncode != 0
    done(start(2, "train", "--resume", str(tmp_path / "run"), "--sample", "0"))


OVERFLOW = """
import numpy as np
np.seterr(all="ignore")
from tinyllm.train.loop import Trainer
share, models = Trainer.own_share, set()
def overflowing(self):
    if self.step != 3 or 1 not in self.shards.mine:
        return share(self)
    model = self.shards.models[self.shards.mine.index(1)]
    model.loss = lambda *arguments: type(model).loss(model, *arguments) * 1e30 * 1e30
    try:
        return share(self)
    finally:
        del model.loss
Trainer.own_share = overflowing
"""


@needs_mpi
def test_a_bad_number_in_one_process_stops_all_before_the_update(tmp_path, text):
    failed = start(2, *words(text, tmp_path / "run"), patch=OVERFLOW)
    assert failed.returncode == 1
    line = only_line(failed)
    assert line.startswith("tinyllm: step 4: loss inf") and "forward of multiply" in line and "Nothing was updated" in line


@needs_mpi
def test_all_leave_out_the_same_bad_step(tmp_path, text):
    flags = {"skip-bad-steps": 1, "model": "deepseek"}
    for processes, run in ((1, tmp_path / "one"), (2, tmp_path / "two")):
        done(start(processes, *words(text, run, **flags), patch=OVERFLOW))
    assert metrics(tmp_path / "two")[3]["skipped"]
    same_bits(tmp_path / "two", tmp_path / "one")


DIFFERENT = """
from tinyllm.train.session import Session
follow = Session.follow.__func__
def drifted(cls, team):
    session = follow(cls, team)
    next(session.model.parameters()).data[0] += 1e-7
    return session
Session.follow = classmethod(drifted)
"""


@needs_mpi
def test_weights_that_drift_apart_are_noticed(tmp_path, text):
    failed = start(2, *words(text, tmp_path / "run"), patch=DIFFERENT)
    assert failed.returncode == 1
    assert only_line(failed).startswith("tinyllm: the weights are no longer the same in all 2 processes")


@needs_mpi
def test_mistakes_are_told_once(tmp_path, text):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("")
    taken = start(3, *words(text, tmp_path / "there", shards=3))
    assert taken.returncode == 2 and "there exists: choose another --out" in only_line(taken)
    missing = start(3, *words(tmp_path / "nothing.txt", tmp_path / "run"))
    assert missing.returncode == 2 and "nothing.txt" in only_line(missing)
    crowded = start(3, *words(text, tmp_path / "run"))
    assert crowded.returncode == 2
    assert "3 processes, but batches of 7 windows in 2 shards: start 2 processes at most" in only_line(crowded)
    absent = start(3, *words(text, tmp_path / "run"), patch="import sys; sys.modules['mpi4py'] = None")
    assert absent.returncode == 2 and 'pip install "tinyllm[mpi]"' in only_line(absent)


def test_without_a_launcher_nothing_is_asked_of_mpi(monkeypatch):
    for name in parallel.SIZES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert type(parallel.team()) is parallel.Alone
    monkeypatch.setenv("PMI_SIZE", "1")
    assert type(parallel.team()) is parallel.Alone


def test_a_missing_package_is_named_by_the_first_process_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    with pytest.raises(UserError, match=r'4 processes were started, but training together takes mpi4py.*pip install "tinyllm\[mpi\]"'):
        parallel.team()
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    with pytest.raises(SystemExit) as leaving:
        parallel.team()
    assert leaving.value.code == 2
