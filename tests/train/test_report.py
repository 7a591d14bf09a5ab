"""The report page: one file, well formed, with the numbers of the run in it."""

import re
import xml.etree.ElementTree as xml

import pytest

from tinyllm.errors import UserError
from tinyllm.train.metrics import MetricsLog
from tinyllm.train.report import running_mean, write_comparison, write_report
from tinyllm.train.run import RunDirectory

CONFIG = {"model": {"type": "gpt", "n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 4, "vocab_size": 9},
          "data": {"sources": ["/somewhere/a<b>.txt"], "train_tokens": 1000, "val_tokens": 100, "tokenizer": "char", "floor_per_token": 0.5},
          "train": {"steps": 3, "batch": 2, "accumulate": 1, "seed": 0}}


def written(directory, records):
    with RunDirectory.create(directory / "run") as run:
        run.write_config(**CONFIG)
    log = MetricsLog(run.metrics_path)
    for record in records:
        log.write(**record)
    log.close()
    return write_report(run.path).read_text()


def step(number, loss):
    return {"step": number, "loss": loss, "lr": 0.1, "grad_norm": 1.0, "seconds": 0.5, "tokens_per_second": 100}


def test_a_page_shows_the_best_loss_the_floor_and_the_settings(tmp_path):
    page = written(tmp_path, [step(1, 2.0), step(2, 1.5), {"step": 2, "val_loss": 1.75}, step(3, 1.25), {"step": 3, "val_loss": 1.875}])
    assert "1.7500 at step 2" in page and "best 1.75 at 2" in page and "floor 0.5" in page and "3 of 3 steps" in page and "24, 0.024 times the text" in page
    assert "a&lt;b&gt;.txt" in page and "<b>" not in page
    assert not re.search("src=|href=|url\\(|@import", page)      # nothing is fetched from elsewhere
    xml.fromstring(page)
    assert page.count("<svg") == 4


def test_a_run_without_steps_or_evaluations_has_a_page_too(tmp_path):
    assert "<svg" not in written(tmp_path, [])
    assert "best" not in written(tmp_path / "two", [step(1, 2.0), {"step": 2, "loss": None, "skipped": True}])


def test_the_running_mean_of_a_constant_is_the_constant():
    assert [y for y in running_mean((range(50), [3.0] * 50))[1]] == pytest.approx([3.0] * 50)


def test_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match="is not a run directory"):
        write_report(tmp_path)


def test_several_runs_are_drawn_together(tmp_path):
    """Each in a colour of its own; the best of each is named; a run without validation has its training loss."""
    runs = []
    for name, losses in (("one", (2.0, 1.5)), ("t<o", (3.0, 1.75)), ("three", ())):
        written(tmp_path / name, [step(1, 4.0), step(2, 3.0), *({"step": i + 1, "val_loss": loss} for i, loss in enumerate(losses))])
        runs.append((tmp_path / name / "run").rename(tmp_path / f"run-{name}"))
    page = write_comparison(runs, tmp_path / "all.html").read_text()
    assert "best 1.5000 at step 2" in page and "best 1.7500 at step 2" in page and "not validated" in page and "run-t&lt;o" in page
    validation, training = re.findall("<svg.*?</svg>", page, re.DOTALL)
    assert validation.count("<polyline") == 2 and training.count("<polyline") == 3
    assert len(set(re.findall("<polyline[^>]*;stroke:([^;]+);", training))) == 3
    with pytest.raises(UserError):
        write_comparison([tmp_path / "none"], tmp_path / "all.html")
