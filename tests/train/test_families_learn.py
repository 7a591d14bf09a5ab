"""The three families at equal size, on the text that ships, for the same number of steps."""

import pytest

from tinyllm.cli import main
from tinyllm.load import load
from tinyllm.train.metrics import read_metrics
from tinyllm.train.run import RunDirectory


@pytest.mark.slow
def test_llama_and_deepseek_come_within_five_percent_of_gpt(tmp_path):
    losses, sizes = {}, {}
    for family in ("gpt", "llama", "deepseek"):
        path = tmp_path / family
        words = ["train", "--model", family, "--steps", "600", "--eval-every", "300", "--sample", "0", "--seed", "1", "--out", str(path)]
        assert main(words) == 0
        records = read_metrics(RunDirectory.open(path).metrics_path)
        losses[family] = min(record["val_loss"] for record in records if "val_loss" in record)
        sizes[family] = load(path)[0].num_params()
    for family in ("llama", "deepseek"):
        assert losses[family] <= 1.05 * losses["gpt"]
        assert sizes[family] == pytest.approx(sizes["gpt"], rel=0.03)
    assert main(["report", *(str(tmp_path / family) for family in losses)]) == 0
    page = (tmp_path / "comparison.html").read_text()
    assert all(f"best {loss:.4f}" in page for loss in losses.values())
