"""Schedules at the steps where their shape is known, and clipping by the norm."""

import math

import numpy as np
import pytest

from tinyllm.nn import Parameter
from tinyllm.optim import clip_grad_norm, constant, linear, warmup_cosine, warmup_stable_decay


def test_constant_and_linear():
    assert {constant(0.3)(step) for step in range(5)} == {0.3}
    schedule = linear(1e-4, 1e-2, total=10)
    assert schedule(0) == 1e-4 and schedule(5) == pytest.approx(0.00505, rel=1e-12) and schedule(10) == schedule(99) == 1e-2


def test_warmup_cosine():
    """100 warm-up steps of 2000 to 1e-3, down to 1e-4: half way down in the middle, flat at both ends of the cosine."""
    schedule = warmup_cosine(1e-3, warmup=100, total=2000, floor=1e-4)
    assert schedule(0) == pytest.approx(1e-3 / 101) and schedule(99) == pytest.approx(1e-3 * 100 / 101)
    assert schedule(100) == 1e-3 and schedule(1050) == pytest.approx(5.5e-4) and schedule(2000) == schedule(10**6) == 1e-4
    assert schedule(575) == pytest.approx(1e-4 + 9e-4 * (1 + math.sqrt(0.5)) / 2)
    rates = [schedule(step) for step in range(2000)]
    assert all(a < b for a, b in zip(rates[:100], rates[1:])) and all(a > b for a, b in zip(rates[100:], rates[101:]))


def test_warmup_stable_decay():
    schedule = warmup_stable_decay(1.0, warmup=10, decay=20, total=100, floor=0.1)
    assert schedule(9) == pytest.approx(10 / 11)
    assert {schedule(step) for step in range(10, 81)} == {1.0}
    assert schedule(90) == pytest.approx(0.55) and schedule(100) == schedule(500) == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", [warmup_cosine(1.0, warmup=0, total=1), warmup_stable_decay(1.0, warmup=0, decay=0, total=1),
                                      warmup_cosine(1.0, warmup=5, total=5), linear(1.0, 1.0, total=0)])
def test_degenerate_lengths_stay_finite(schedule):
    assert all(0 <= schedule(step) <= 1 for step in range(8))


def test_clipping():
    """Norm of (3, 4, 12) is 13; the factor is max_norm / (norm + 1e-6)."""
    first, second, unused = Parameter(np.zeros(2)), Parameter(np.zeros((1, 1))), Parameter(np.zeros(3))
    first.grad, second.grad = np.array([3.0, 4.0]), np.array([[12.0]])
    parameters = [first, second, unused]
    assert clip_grad_norm(parameters, 20.0) == 13 and first.grad.tolist() == [3, 4]
    assert clip_grad_norm(parameters, 6.5) == 13
    np.testing.assert_allclose([*first.grad, second.grad[0, 0]], np.array([3, 4, 12]) * 6.5 / (13 + 1e-6), rtol=1e-15)
    assert unused.grad is None
    assert clip_grad_norm([unused], 1.0) == 0.0


def test_clipping_reports_a_norm_that_is_not_a_number():
    p = Parameter(np.zeros(2))
    p.grad = np.array([np.nan, 1.0])
    assert math.isnan(clip_grad_norm([p], 1.0))
    p.grad = np.array([np.inf, 1.0])
    assert clip_grad_norm([p], 1.0) == math.inf and p.grad.tolist() == [math.inf, 1.0]
