"""`tinyllm step`: what it steps through, what it writes, and one clear line for what cannot be stepped."""

import json
import re
from pathlib import Path

import pytest

from tinyllm.cli import main

SESSION = Path(__file__).parents[2] / "examples" / "step_session.txt"


@pytest.fixture(autouse=True)
def own_scores(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def run(capsys, *words):
    code = main(["step", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_session_that_is_kept_is_what_a_person_sees(capsys):
    code, out, _ = run(capsys, "--keys", "nnncesq")
    rounding = re.compile(r"rel\s+\S+")
    assert code == 0
    assert rounding.sub("rel", out) == rounding.sub("rel", SESSION.read_text(encoding="utf-8"))


@pytest.mark.parametrize("model", ["gpt", "llama", "deepseek"])
def test_toys(capsys, model):
    code, out, _ = run(capsys, "--model", model, "--keys", "fcq")
    assert code == 0 and "cross_entropy" in out and " ok" in out and "WRONG" not in out


def test_decks_begin_with_a_question(capsys):
    code, out, _ = run(capsys, "--deck", "attention", "--keys", "q")
    assert code == 0 and "exercise" in out


def test_scores_are_kept_where_they_belong(capsys, tmp_path):
    run(capsys, "--deck", "chain", "--keys", "1q")
    assert json.loads((tmp_path / "state" / "tinyllm" / "predict.json").read_text())["decks"]["chain"][1] == 1
    run(capsys, "--deck", "chain", "--keys", "1q", "--scores", tmp_path / "s.json")
    assert (tmp_path / "s.json").exists()


SCRIPT = """
import numpy as np
import tinyllm as tl

def good():
    x = tl.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    squares = x * x
    return squares.sum()

def no_scalar():
    return tl.Tensor(np.ones(3), requires_grad=True) * 2

def no_tensor():
    return 1.0

def raises():
    return {}["missing"]

def needs(x):
    return x

not_callable = 3
"""


def test_a_function_of_ones_own_a_page_and_a_saved_trace(capsys, tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    code, out, _ = run(capsys, f"{script}:good", "--text")
    assert code == 0 and "squares = x * x" in out and "mine.py:7" in out
    code, out, _ = run(capsys, f"{script}:good", "--html", tmp_path / "p.html", "--save", tmp_path / "t.json")
    assert code == 0 and (tmp_path / "p.html").read_text().startswith("<!doctype html>")
    code, out, _ = run(capsys, tmp_path / "t.json", "--keys", "fcq")
    assert code == 0 and " ok" in out


@pytest.mark.parametrize("words, code, said", [
    (["{0}:no_scalar"], 2, r"shape \(3,\); expected a scalar"), (["{0}:no_tensor"], 2, "computed nothing with tinyllm tensors"),
    (["{0}:raises"], 1, "raised KeyError: 'missing'"), (["{0}:needs"], 2, "give x a default"), (["{0}:absent"], 2, "has no function absent"),
    (["{0}:not_callable"], 2, "has no function not_callable"), (["{0}"], 2, "script.py:function"), (["nowhere.py:f"], 2, "there is no file nowhere.py"),
    (["{1}:f"], 1, "does not run: ZeroDivisionError"), (["{2}"], 2, "version 99"), (["absent.json"], 2, "No such file"),
    (["--model", "bert"], 2, "there are gpt, llama, deepseek"), (["--deck", "poker"], 2, "no deck called 'poker'"),
    (["--model", "gpt", "--deck", "chain"], 2, "choose one"), (["--against", "float32"], 2, "--model")])
def test_what_cannot_be_stepped_is_said_in_a_line(capsys, tmp_path, words, code, said):
    (tmp_path / "mine.py").write_text(SCRIPT)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "old.json").write_text(json.dumps({"format": "tinyllm-trace", "version": 99}))
    paths = [str(tmp_path / name) for name in ("mine.py", "broken.py", "old.json")]
    found, out, err = run(capsys, *[word.format(*paths) for word in words], "--keys", "q")
    assert found == code and re.search(said, err) and err.count("\n") == 1 and out == ""
