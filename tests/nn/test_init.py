"""Initial weights: the standard deviation each scheme promises, and PyTorch's numbers for a seed."""

import time

import numpy as np
import pytest

from tinyllm.engine.random import Generator, manual_seed
from tinyllm.engine.state import default_dtype
from tinyllm.models import GPT, GPTConfig
from tinyllm.nn import Embedding, Linear, init


def deviations(sample, std):
    """How many standard errors the sample's standard deviation (around 0) is off; the error of a normal's is std/√(2n)."""
    return abs(np.sqrt(np.mean(np.square(sample, dtype=np.float64))) - std) / (std / np.sqrt(2 * sample.size))


def test_gpt2_scheme():
    """Every matrix 0.02, the two maps into the residual stream 0.02/√(2L), biases 0, norms 1 and 0."""
    model = GPT(GPTConfig(vocab_size=500, n_layer=8, n_head=4, n_embd=128, block_size=200), Generator(0))
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert not p.numpy().any(), name
        elif "norm" in name:
            assert (p.numpy() == 1).all(), name
        else:
            std = 0.005 if name.endswith("proj.weight") else 0.02        # 0.02/√16
            assert deviations(p.numpy(), std) < 5, name


def test_pytorch_scheme():
    """Linear: uniform in ±1/√in, std 1/√(3 in); embedding: normal, std 1."""
    layer, table = Linear(300, 200, generator=Generator(0)), Embedding(300, 200, generator=Generator(0))
    bound = 1 / np.sqrt(300)
    for values in (layer.weight.numpy(), layer.bias.numpy()):
        assert np.abs(values).max() <= bound and np.abs(values).max() > 0.95 * bound
    assert deviations(layer.weight.numpy(), bound / np.sqrt(3)) < 5
    assert deviations(table.weight.numpy(), 1) < 5


def test_embedding_of_seed_123():
    manual_seed(123)
    np.testing.assert_allclose(Embedding(6, 3).weight.numpy()[0], [0.3374, -0.1778, -0.1690], atol=5.1e-5)


def test_a_generator_of_its_own_leaves_the_default_one_alone():
    first = manual_seed(7).get_state()
    weights = [Linear(4, 4, generator=Generator(3)).weight.numpy() for _ in range(2)]
    assert np.array_equal(*weights) and manual_seed(7).get_state() == first


def test_parameters_take_the_default_dtype():
    with default_dtype(np.float64):
        assert {p.dtype for p in GPT(GPTConfig(10, 1, 1, 4, 4)).parameters()} == {np.dtype(np.float64)}
    assert Linear(2, 2).weight.dtype == np.float32


def test_an_empty_model_of_one_and_a_half_billion_numbers_takes_no_time():
    config = GPTConfig.preset("gpt2-xl")
    before = time.perf_counter()
    with init.empty():
        model = GPT(config)
    assert time.perf_counter() - before < 2
    assert model.num_params() == config.num_params() == 1_557_611_200


@pytest.mark.parametrize("n_layer, std", [(2, 0.01), (8, 0.005), (32, 0.0025)])
def test_residual_scale(n_layer, std):
    assert init.residual_std(0.02, n_layer) == pytest.approx(std, rel=1e-15)
