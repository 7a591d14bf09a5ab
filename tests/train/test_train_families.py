"""A run of every family ends in the same bits when it is run again, and is loaded as what it was."""

import numpy as np
import pytest

from tinyllm.cli import main
from tinyllm.load import load

TEXT = "the cat sat on the mat and the dog sat on the log while the sun went down. " * 40


@pytest.mark.parametrize("family", ["gpt", "llama", "deepseek"])
def test_a_run_is_loaded_as_what_it_was(tmp_path, family):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    words = ["train", str(text), "--model", family, "--layers", "2", "--heads", "2", "--width", "16", "--block", "8", "--batch", "4", "--steps", "6",
             "--eval-every", "3", "--sample", "0", "--seed", "1", "--out"]
    for name in ("one", "two"):
        assert main([*words, str(tmp_path / name)]) == 0
    one, two = (load(tmp_path / name)[0] for name in ("one", "two"))
    assert type(one).__name__.lower() == family and not one.training
    for (name, a), b in zip(one.named_parameters(), two.parameters()):
        assert np.array_equal(a.numpy(), b.numpy()), name
    out = one.generate([1, 2], 12, temperature=0)
    assert out.tolist() == two.generate([1, 2], 12, temperature=0, use_cache=False).tolist() and len(out) == 14


def test_the_routers_biases_move_and_are_kept(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    assert main(["train", str(text), "--model", "deepseek", "--layers", "2", "--heads", "2", "--width", "16", "--block", "8", "--batch", "4",
                 "--steps", "5", "--sample", "0", "--seed", "1", "--out", str(tmp_path / "run")]) == 0
    bias = dict(load(tmp_path / "run")[0].named_parameters())["blocks.1.mlp.router_bias"].numpy()
    steps = np.round(bias / 1e-3)
    np.testing.assert_allclose(bias, steps * 1e-3, atol=1e-7)
    assert steps.any() and np.abs(steps).max() <= 5
