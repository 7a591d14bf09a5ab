"""A mixture's experts: worked by hand, with nobody or everybody chosen, on any number of threads."""

import sys

import numpy as np
import pytest

from tinyllm.engine import Tensor, no_grad, threads
from tinyllm.engine.state import fused
from tinyllm.nn import functional as F

both = pytest.mark.parametrize("kernels", [True, False])


def draw(rng, N, C, width, experts, k, dtype=np.float64):
    """x (N, C), gates (N, k), different experts for each row, and the matrices."""
    shapes = [(width, C), (width, C), (C, width)] * experts
    chosen = np.stack([rng.permutation(experts)[:k] for _ in range(N)]) if N else np.zeros((0, k), int)
    return rng.normal(size=(N, C)).astype(dtype), rng.random((N, k)).astype(dtype), chosen, [rng.normal(size=s).astype(dtype) for s in shapes]


def one_by_one(x, gates, chosen, weights):
    y = np.zeros_like(x)
    for n in range(len(x)):
        for gate, e in zip(gates[n], chosen[n]):
            a, b = weights[3 * e] @ x[n], weights[3 * e + 1] @ x[n]
            y[n] += gate * weights[3 * e + 2] @ (a / (1 + np.exp(-a)) * b)
    return y


@both
@pytest.mark.parametrize("N", [0, 1, 2, 23])
def test_each_choice_by_hand(kernels, N):
    x, gates, chosen, weights = draw(np.random.default_rng(N), N, 6, 5, experts=4, k=2)
    with fused(kernels):
        y = F.experts(Tensor(x), Tensor(gates), chosen, [Tensor(w) for w in weights]).numpy()
    np.testing.assert_allclose(y, one_by_one(x, gates, chosen, weights), rtol=1e-11, atol=1e-12)


@both
def test_an_expert_nobody_chose_gets_no_gradient_and_others_do(kernels):
    x, gates, _, weights = draw(np.random.default_rng(0), 7, 6, 5, experts=3, k=1)
    leaves = [Tensor(w, requires_grad=True) for w in weights]
    with fused(kernels):
        F.experts(Tensor(x), Tensor(gates), np.full((7, 1), 2), leaves).sum().backward()
    assert [w.grad is not None for w in leaves] == 6 * [False] + 3 * [True]


def test_a_bad_number_stays_with_the_rows_that_meet_it():
    x, gates, chosen, weights = draw(np.random.default_rng(0), 40, 6, 5, experts=4, k=2)
    weights[5][:] = np.nan                      # of expert 1
    x[3, 2] = np.inf
    with np.errstate(all="ignore"):
        y = F.experts(x, gates, chosen, weights).numpy()
        with fused(False):
            expected = F.experts(x, gates, chosen, weights).numpy()
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    spoilt = (chosen == 1).any(axis=1) | (np.arange(40) == 3)
    assert spoilt.any() and not spoilt.all() and np.array_equal(np.isfinite(y).all(axis=1), ~spoilt)


def test_a_few_rows_are_the_same_as_among_many():
    """A token alone takes another path through the kernel than a batch."""
    x, gates, chosen, weights = draw(np.random.default_rng(0), 64, 24, 40, experts=4, k=2)
    with no_grad():
        whole = F.experts(x, gates, chosen, weights).numpy()
        alone = np.concatenate([F.experts(x[n:n + 1], gates[n:n + 1], chosen[n:n + 1], weights).numpy() for n in range(64)])
    np.testing.assert_allclose(alone, whole, rtol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_share_experts_and_change_no_bit(dtype, monkeypatch):
    monkeypatch.setattr(sys.modules["tinyllm.fused.experts"], "SHARED_WORK", 1)
    x, gates, chosen, weights = draw(np.random.default_rng(0), 33, 20, 17, experts=5, k=2, dtype=dtype)
    before, results = threads.num_threads(), []
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            leaves = [Tensor(v, requires_grad=True) for v in (x, gates, *weights)]
            y = F.experts(*leaves[:2], chosen, leaves[2:])
            y.backward(np.ones(y.shape, dtype))
            results.append([y.numpy(), *(leaf.grad for leaf in leaves)])
    finally:
        threads.set_num_threads(before)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


def test_misuse_is_explained():
    x, gates, chosen, weights = draw(np.random.default_rng(0), 4, 6, 5, experts=3, k=2)
    with pytest.raises(ValueError, match=r"chosen \(4, 1\) and 9 matrices; expected vectors"):
        F.experts(x, gates, chosen[:, :1], weights)
    with pytest.raises(ValueError, match="chosen 0 to 2; the matrices are those of the experts 0 to 1"):
        F.experts(x, gates, chosen, weights[:6])
