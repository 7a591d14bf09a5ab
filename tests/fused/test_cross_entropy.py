"""Cross-entropy: closed forms, ignored targets, and what it says to wrong labels."""

import math

import numpy as np
import pytest

from tinyllm.engine import Tensor
from tinyllm.engine.state import fused
from tinyllm.fused import cross_entropy

both = pytest.mark.parametrize("kernels", [True, False])


@both
def test_equal_logits_cost_the_log_of_the_vocabulary(kernels):
    with fused(kernels):
        assert cross_entropy(np.zeros((3, 50257)), np.array([0, 7, 50256])).item() == pytest.approx(10.8249, abs=5e-5)


@both
def test_gradient_is_probability_minus_one_at_the_target(kernels):
    z = Tensor(np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])), requires_grad=True)
    with fused(kernels):
        loss = cross_entropy(z, np.array([1, 2]))
    loss.backward()
    assert loss.item() == pytest.approx(-(math.log(0.25) + math.log(0.7)) / 2, rel=1e-14)
    np.testing.assert_allclose(z.grad, np.array([[0.5, -0.75, 0.25], [0.1, 0.2, -0.3]]) / 2, atol=1e-15)


@both
def test_ignored_rows_leave_the_mean_and_get_no_gradient(kernels):
    rng = np.random.default_rng(0)
    z, targets = Tensor(rng.normal(size=(2, 3, 5)), requires_grad=True), np.array([[1, -100, 4], [-100, 0, 2]])
    with fused(kernels):
        loss = cross_entropy(z, targets)
        kept = cross_entropy(z.numpy()[targets != -100], targets[targets != -100])
    loss.backward()
    assert loss.item() == pytest.approx(kept.item(), rel=1e-14)
    assert not z.grad[targets == -100].any() and z.grad[targets != -100].all()


@both
def test_a_batch_of_ignored_rows_costs_nothing(kernels):
    z = Tensor(np.ones((2, 3)), requires_grad=True)
    with fused(kernels):
        loss = cross_entropy(z, np.array([-100, -100]))
    loss.backward()
    assert loss.item() == 0 and not z.grad.any()


@both
def test_reductions_agree(kernels):
    rng = np.random.default_rng(0)
    z, targets = rng.normal(size=(4, 6)), np.array([0, 5, -100, 3])
    with fused(kernels):
        each, total, mean = (cross_entropy(z, targets, reduction=r).numpy() for r in ("none", "sum", "mean"))
    assert each.shape == (4,) and each[2] == 0
    assert total == pytest.approx(each.sum(), rel=1e-14) and mean == pytest.approx(total / 3, rel=1e-14)


@both
def test_extreme_logits_stay_finite(kernels):
    z = Tensor(np.array([[1e4, -1e4]], np.float32), requires_grad=True)
    with fused(kernels), np.errstate(over="raise", invalid="raise"):
        loss = cross_entropy(z, np.array([1]))
        loss.backward()
    assert loss.item() == 2e4 and z.grad.tolist() == [[1, -1]]


def test_wrong_labels_are_explained():
    z = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"target 3 at \[1\]; the logits know ids 0 to 2, and -100"):
        cross_entropy(z, np.array([0, 3]))
    with pytest.raises(ValueError, match=r"target -1 at \[0\]"):
        cross_entropy(z, np.array([-1, 0]))
    with pytest.raises(TypeError, match="float64; expected the integer id"):
        cross_entropy(z, np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"logits \(2, 3\), targets \(3,\); expected .* targets \(2,\)"):
        cross_entropy(z, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="reduction='avg'; expected 'mean', 'sum' or 'none'"):
        cross_entropy(z, np.array([0, 1]), reduction="avg")
