"""`tinyllm train`: the run it leaves, how it stops and goes on, and what it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tinyllm.cli
from tinyllm.load import load
from tinyllm.train.metrics import read_metrics
from tinyllm.train.run import RunDirectory

SMALL = ["--layers", "1", "--heads", "2", "--width", "16", "--block", "16", "--batch", "4", "--seed", "0"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYLLM_DEBUG", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(tinyllm.__file__).parents[1]))    # for the processes that start elsewhere
    (tmp_path / "text.txt").write_text("the cat sat on the mat and the rat sat on the cat. " * 40)


def tinyllm_(capsys, *words):
    code = tinyllm.cli.main(list(words))
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def refused(capsys, *words, code=2):
    """The one line that says why."""
    before = sorted(os.listdir())
    got, out, err = tinyllm_(capsys, "train", *words)
    assert got == code and err.startswith("tinyllm: ") and err.count("\n") == 1, err
    assert sorted(os.listdir()) == before
    return err


def test_a_run_from_end_to_end(capsys, tmp_path):
    code, out, err = tinyllm_(capsys, "train", "text.txt", *SMALL, "--steps", "12", "--eval-every", "4", "--sample", "30")
    assert code == 0 and err == ""
    lines = out.splitlines()
    assert lines[0].startswith("text.txt: 1,836 tokens to train on, 204 to validate on, vocabulary 13 (char)")
    assert {"4/12", "8/12", "12/12"} <= {line.split()[1] for line in lines if line.startswith("step") and " val " in line}
    assert "validation loss" in out and "a sample:" in out and 'tinyllm sample runs/text --prompt "' in out
    assert lines[-1].endswith("runs/text/report.html")

    run = tmp_path / "runs" / "text"
    assert sorted(p.name for p in run.iterdir()) == ["checkpoints", "config.json", "metrics.jsonl", "report.html", "tokenizer.json"]
    config = json.loads((run / "config.json").read_text())
    assert config["train"]["steps"] == 12 and config["train"]["seed"] == 0 and config["model"]["n_embd"] == 16
    metrics = read_metrics(run / "metrics.jsonl")
    assert [record["step"] for record in metrics if "loss" in record] == list(range(1, 13))
    assert [record["step"] for record in metrics if "val_loss" in record] == [4, 8, 12]
    model, tokenizer = load(run)
    assert model.config.vocab_size == tokenizer.vocab_size == 13 and not model.training


def test_the_default_text_is_the_tales_and_the_floor_is_shown(capsys):
    code, out, err = tinyllm_(capsys, "train", *SMALL, "--steps", "2", "--sample", "5", "--vocab-size", "300", "--eval-windows", "2")
    assert code == 0, err
    assert "tales: " in out and "the grammar's floor for this text is" in out
    assert os.path.isdir("runs/tales")


def test_a_second_run_takes_the_next_name(capsys):
    for expected in ("runs/text", "runs/text-2"):
        code, out, _ = tinyllm_(capsys, "train", "text.txt", *SMALL, "--steps", "1", "--sample", "0")
        assert code == 0 and out.splitlines()[1].endswith(expected)


def test_without_a_seed_the_drawn_one_is_written_down(capsys):
    tinyllm_(capsys, "train", "text.txt", *SMALL[:-2], "--steps", "2", "--sample", "0")
    seed = json.load(open("runs/text/config.json"))["train"]["seed"]
    tinyllm_(capsys, "train", "text.txt", *SMALL[:-2], "--steps", "2", "--sample", "0", "--seed", str(seed))
    first, second = ([record["loss"] for record in read_metrics(f"runs/{name}/metrics.jsonl") if "loss" in record]
                     for name in ("text", "text-2"))
    assert first == second


def test_one_batch_is_learned_by_heart(capsys):
    code, out, err = tinyllm_(capsys, "train", "tales", "--overfit-batch", "--layers", "2", "--width", "64", "--batch", "4", "--seed", "0")
    assert code == 0, err
    assert float(re.search("learned to a loss of (.*)", out)[1]) < 0.01


def test_several_texts_bpe_documents_and_presets(capsys, tmp_path):
    (tmp_path / "rows.ndjson").write_text("".join(json.dumps({"s": f"row {i} of many rows"}) + "\n" for i in range(60)))
    code, out, err = tinyllm_(capsys, "train", "rows.ndjson", "--field", "s", "--split", "document", "--tokenizer", "bpe", "--vocab-size",
                              "270", *SMALL, "--steps", "2", "--sample", "4")
    assert code == 0, err
    code, out, err = tinyllm_(capsys, "train", "text.txt", "rows.ndjson", "--field", "s", *SMALL, "--preset", "gpt2", "--steps", "1",
                              "--sample", "4")
    assert code == 0, err
    assert out.startswith("text.txt, rows.ndjson: ")


def test_the_study_s_preset_is_the_study_s_run_and_flags_change_it(capsys):
    code, _, _ = tinyllm_(capsys, "train", "text.txt", "--preset", "study", *SMALL, "--steps", "3", "--stride", "8", "--out", "run")
    assert code == 0
    config = json.loads(Path("run/config.json").read_bytes())
    train, model = config["train"], config["model"]
    assert (train["lr"], train["betas"], train["clip"], train["schedule"], train["warmup"]) == (4e-4, [0.9, 0.999], 0.0, "constant", 0)
    assert (train["steps"], train["batch"], train["stride"], config["data"]["val_fraction"]) == (3, 4, 8, 0.15)
    assert (model["tied"], model["qkv_bias"], model["init_std"], model["dropout"], model["n_embd"]) == (False, False, None, 0.1, 16)
    state = json.loads(Path("run/checkpoints/last.json").read_bytes())
    assert '"kind": "epoch"' in json.dumps(state)


def test_a_tokenizer_from_a_file(capsys):
    tinyllm_(capsys, "train", "text.txt", *SMALL, "--tokenizer", "bpe", "--vocab-size", "270", "--steps", "1", "--sample", "0", "--out", "one")
    code, _, err = tinyllm_(capsys, "train", "text.txt", *SMALL, "--tokenizer", "one/tokenizer.json", "--steps", "1", "--sample", "0", "--out", "two")
    assert code == 0, err
    assert json.load(open("one/config.json"))["tokenizer"] == json.load(open("two/config.json"))["tokenizer"]


def test_a_finished_run_can_be_shown_again(capsys):
    words = ["train", "text.txt", *SMALL, "--steps", "3", "--sample", "10", "--out", "run"]
    first, again = tinyllm_(capsys, *words), tinyllm_(capsys, "train", "--resume", "run", "--sample", "10")
    assert again[0] == 0 and first[1].split("validation loss")[1] == again[1].split("validation loss")[1]


@pytest.mark.parametrize("model", ["llama", "deepseek"])
def test_the_other_families(capsys, model):
    code, out, err = tinyllm_(capsys, "train", "text.txt", *SMALL, "--model", model, "--steps", "3", "--sample", "5", "--out", "run")
    assert code == 0, err
    assert type(load("run")[0]).__name__.lower() == model


def test_standard_input(tmp_path):
    run = subprocess.run([sys.executable, "-m", "tinyllm", "train", "-", *SMALL, "--steps", "1", "--sample", "0"], input="abcdefgh " * 100,
                         text=True, capture_output=True)
    assert run.returncode == 0 and "runs/stdin" in run.stdout, run.stderr


def test_without_validation(capsys):
    code, out, err = tinyllm_(capsys, "train", "text.txt", *SMALL, "--steps", "2", "--val-fraction", "0", "--sample", "5")
    assert code == 0 and "validation loss" not in out, err
    assert load("runs/text")[0].config.n_embd == 16


def test_a_utf8_sample_never_shows_half_a_character(capsys, tmp_path):
    (tmp_path / "u.txt").write_text("日本語のテキスト、éàü 🙂 " * 60)
    code, out, err = tinyllm_(capsys, "train", "u.txt", "--tokenizer", "bpe", "--vocab-size", "280", *SMALL, "--steps", "1", "--sample", "0")
    assert code == 0, err


# ---- refusals: one line, exit code 2, nothing written

def test_bad_words(capsys, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("ten chars.")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1") * 100)
    assert "empty" in refused(capsys, "empty.txt")
    assert "9 tokens; a block of 64 takes 65" in refused(capsys, "short.txt")
    assert "no such file" in refused(capsys, "nowhere.txt")
    assert "not UTF-8 at byte offset 3" in refused(capsys, "latin.txt")
    assert "cannot be read" in refused(capsys, str(tmp_path))
    assert "no preset is called 'huge'; made for a CPU are tiny, small, medium, published are gpt2" in refused(capsys, "text.txt", "--preset", "huge")
    assert "gpt2 is a gpt, not a llama" in refused(capsys, "text.txt", "--preset", "gpt2", "--model", "llama")
    assert "not a multiple of n_head" in refused(capsys, "text.txt", "--width", "30")
    assert "steps is -3" in refused(capsys, "text.txt", "--steps", "-3")
    assert "lr is -1.0" in refused(capsys, "text.txt", "--lr", "-1")
    assert "shards is 10000" in refused(capsys, "text.txt", "--shards", "10000")
    assert "dropout=1.0" in refused(capsys, "text.txt", "--dropout", "1")
    assert "share of the validation part" in refused(capsys, "text.txt", "--val-fraction", "1.5")
    assert "leave out --steps" in refused(capsys, "--resume", "runs/x", "--steps", "5")
    assert "expected char, bpe, or the path" in refused(capsys, "text.txt", "--tokenizer", "words")
    assert "leave out text.txt" in refused(capsys, "text.txt", "--resume", "runs/x")
    assert "is not a run directory" in refused(capsys, "--resume", "nowhere")
    assert "has no config.json" in refused(capsys, "--resume", str(tmp_path))


def test_a_directory_that_exists_is_not_touched(capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    assert "mine exists: choose another --out" in refused(capsys, "text.txt", *SMALL, "--out", "mine")
    assert os.listdir("mine") == ["thesis.txt"]


def test_a_directory_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot make file/run" in refused(capsys, "text.txt", *SMALL, "--out", "file/run", code=1)


# ---- Ctrl-C

def interrupted(run, *signals):
    """Start a long run, wait until it trains, send the signals; (exit code, stdout, stderr)."""
    process = subprocess.Popen([sys.executable, "-m", "tinyllm", "train", "text.txt", *SMALL, "--steps", "100000", "--out", run],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = os.path.join(run, "checkpoints", "last.json")
    while not os.path.exists(metrics):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    for number in signals:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number):
    code, out, err = interrupted("run", number)
    assert code == 1
    assert err.startswith("tinyllm: stopped after step ") and err.endswith("all saved; go on with: tinyllm train --resume run\n")
    assert err.count("\n") == 1
    step = int(err.split()[4].rstrip(","))
    assert json.load(open("run/checkpoints/last.json"))["step"] == step
    assert read_metrics("run/metrics.jsonl")[-1]["step"] == step
    assert not os.path.exists("run/lock")


def test_two_runs_on_one_directory(capsys):
    from tinyllm.train.run import RunDirectory
    tinyllm_(capsys, "train", "text.txt", *SMALL, "--steps", "1", "--sample", "0", "--out", "run")
    with RunDirectory.open("run").lock():
        code, _, err = tinyllm_(capsys, "train", "--resume", "run")
    assert code == 1 and f"in use by process {os.getpid()}" in err


def test_recomputing_is_part_of_the_run_and_changes_no_number(capsys, tmp_path):
    words = ["text.txt", *SMALL, "--steps", "6", "--eval-every", "3", "--dropout", "0.1", "--sample", "0", "--shards", "1"]
    for name, more in (("kept", []), ("again", ["--recompute"])):
        assert tinyllm_(capsys, "train", *words, *more, "--out", name)[0] == 0
    losses = [[record["loss"] for record in read_metrics(tmp_path / name / "metrics.jsonl") if "loss" in record] for name in ("kept", "again")]
    assert losses[0] == losses[1]
    told = json.loads((tmp_path / "again" / "config.json").read_text())
    assert told["train"]["recompute"] is True
    assert tinyllm_(capsys, "train", "--resume", "again", "--sample", "0")[0] == 0


def test_a_run_from_before_there_was_recomputing_goes_on(capsys, tmp_path):
    assert tinyllm_(capsys, "train", "text.txt", *SMALL, "--steps", "2", "--sample", "0", "--out", "old")[0] == 0
    run = RunDirectory.open(tmp_path / "old")
    told = {name: run.config[name] for name in ("model", "train", "data", "tokenizer", "versions")}
    assert told["train"].pop("recompute") is False
    run.write_config(**told)
    assert tinyllm_(capsys, "train", "--resume", "old", "--sample", "0")[0] == 0
