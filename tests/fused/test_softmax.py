"""Softmax by its identities: rows sum to 1, a shift changes nothing, nothing overflows."""

import numpy as np
import pytest

from tinyllm.engine import Tensor
from tinyllm.engine.state import fused
from tinyllm.fused import log_softmax, softmax


@pytest.mark.parametrize("kernels", [True, False])
def test_rows_sum_to_one_and_a_shift_changes_nothing(kernels):
    x = np.random.default_rng(0).normal(size=(5, 7))
    with fused(kernels):
        np.testing.assert_allclose(softmax(x).numpy().sum(-1), 1, rtol=1e-14)
        np.testing.assert_allclose(softmax(x + 1000).numpy(), softmax(x).numpy(), rtol=1e-10)
        np.testing.assert_allclose(softmax(x, axis=0).numpy().sum(0), 1, rtol=1e-14)


@pytest.mark.parametrize("kernels", [True, False])
def test_large_logits_do_not_overflow(kernels):
    with fused(kernels), np.errstate(over="raise", invalid="raise"):
        assert softmax(np.array([1e4, 0.0, -1e4])).numpy().tolist() == [1, 0, 0]
        assert log_softmax(np.array([1e4, 0.0, -1e4])).numpy().tolist() == [0, -1e4, -2e4]


def test_scores_of_the_worked_example():
    """softmax of (1, 0, 0) is e / (e + 2) and 1 / (e + 2)."""
    np.testing.assert_allclose(softmax(np.array([1.0, 0, 0])).numpy(), np.array([np.e, 1, 1]) / (np.e + 2), rtol=1e-15)


def test_a_hidden_entry_gets_weight_and_gradient_zero():
    x = Tensor(np.array([1.0, -np.inf, 2.0]), requires_grad=True)
    y = softmax(x)
    y.backward(np.array([1.0, 5.0, -2.0]))
    assert y.numpy()[1] == 0 and x.grad[1] == 0 and np.isfinite(x.grad).all()
