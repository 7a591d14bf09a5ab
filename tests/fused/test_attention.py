"""Attention against the study's worked example, a plain loop, and its own identities."""

import math
import sys

import numpy as np
import pytest

from tinyllm.engine import Tensor, threads
from tinyllm.engine.random import Generator
from tinyllm.engine.state import fused
from tinyllm.fused import attention, keep_mask, self_attention, softmax

both = pytest.mark.parametrize("kernels", [True, False])
SENTENCE = np.array([[.35, .15, .89], [.97, .8, .3], [.65, .34, .24], [.2, .87, .34], [.86, .13, .05], [.1, .2, .3]])


def loop(query, key, value, causal=True, window=None):
    """Attention of one head, number by number."""
    T, S = len(query), len(key)
    result = np.zeros((T, value.shape[1]))
    for i in range(T):
        position = i + S - T
        seen = [j for j in range(S) if (j <= position or not causal) and (window is None or j > position - window)]
        powers = [math.exp(sum(q * k for q, k in zip(query[i], key[j])) / math.sqrt(len(query[i]))) for j in seen]
        for j, power in zip(seen, powers):
            result[i] += power / sum(powers) * value[j]
    return result


def test_dot_products_as_weights():
    """Token 3 of the worked sentence: scores, weights, context, and the contexts of tokens 1 and 6."""
    x = Tensor(SENTENCE)
    scores = x @ x.T
    np.testing.assert_allclose(scores.numpy()[2], [.4921, .9745, .5957, .5074, .6152, .2050], atol=5.1e-5)
    weights = softmax(scores)
    np.testing.assert_allclose(weights.numpy()[2], [.1509, .2445, .1674, .1532, .1707, .1133], atol=5.1e-5)
    np.testing.assert_allclose((weights @ x).numpy()[[0, 2, 5]], [[.5279, .4187, .4037], [.5876, .4533, .3425], [.5242, .4312, .3676]],
                               atol=5.1e-5)


@both
def test_attention_with_trained_matrices(kernels):
    generator = Generator(123)
    query, key, value = (Tensor(SENTENCE @ generator.randn(3, 2)) for _ in range(3))
    with fused(kernels):
        context, weights = attention(query, key, value, causal=False, return_weights=True)
        plain = attention(query, key, value, causal=False)
        masked = attention(query, key, value, return_weights=True)[1].numpy()
    np.testing.assert_allclose(weights.numpy()[2], [.1547, .1828, .1755, .1425, .1949, .1497], atol=5.1e-5)
    np.testing.assert_allclose(context.numpy()[[0, 2, 5]], [[.2695, .5081], [.2618, .4683], [.2615, .4663]], atol=5.1e-5)
    np.testing.assert_allclose(plain.numpy(), context.numpy(), rtol=1e-14)
    np.testing.assert_allclose(masked[[1, 4]], [[.4301, .5699, 0, 0, 0, 0], [.1927, .2039, .2033, .1883, .2118, 0]], atol=5.1e-5)


@both
@pytest.mark.parametrize("T, S, causal, window", [(5, 5, True, None), (5, 5, False, None), (2, 5, True, None), (1, 5, True, None),
                                                  (5, 5, True, 2), (1, 5, True, 2), (4, 4, False, 3)])
def test_equal_to_the_loop(kernels, T, S, causal, window):
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(2, 3, T, 4)), rng.normal(size=(2, 3, S, 4)), rng.normal(size=(2, 3, S, 6))
    with fused(kernels):
        y = attention(query, key, value, causal=causal, window=window).numpy()
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(y[i], loop(query[i], key[i], value[i], causal, window), rtol=1e-12)


@both
def test_grouped_heads_are_repeated_key_heads(kernels):
    """Query head h uses key head h // (H/K)."""
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(2, 6, 3, 4)), rng.normal(size=(2, 2, 3, 4)), rng.normal(size=(2, 2, 3, 4))
    with fused(kernels):
        grouped = attention(query, key, value).numpy()
        repeated = attention(query, key.repeat(3, axis=1), value.repeat(3, axis=1)).numpy()
    np.testing.assert_allclose(grouped, repeated, rtol=1e-13)


@both
def test_packed_heads_are_the_same_attention(kernels):
    rng = np.random.default_rng(0)
    qkv = rng.normal(size=(2, 5, 24))
    query, key, value = (part.reshape(2, 5, 2, 4).swapaxes(1, 2) for part in np.split(qkv, 3, axis=-1))
    keep = keep_mask((2, 2, 5, 5), 0.3, Generator(0), np.float64)
    with fused(kernels):
        packed = self_attention(Tensor(qkv), 2, keep=keep).numpy()
        separate = attention(query, key, value, keep=keep).numpy()
    np.testing.assert_allclose(packed, separate.swapaxes(1, 2).reshape(2, 5, 8), rtol=1e-13)


@both
def test_the_future_has_no_influence(kernels):
    x = Tensor(np.random.default_rng(0).normal(size=(1, 6, 12)), requires_grad=True)
    g = np.zeros((1, 6, 4))
    g[:, :4] = np.random.default_rng(1).normal(size=(1, 4, 4))
    with fused(kernels):
        self_attention(x, 2).backward(g)
    assert not x.grad[:, 4:].any() and x.grad[:, 0].any()


def test_misuse_is_explained():
    x = np.zeros((2, 3, 4, 8))
    for key in (np.zeros((2, 2, 4, 8)), np.zeros((2, 3, 4, 7)), np.zeros((2, 3, 2, 8)), np.zeros((1, 3, 4, 8))):
        with pytest.raises(ValueError, match="H a multiple of K and S at least T"):
            attention(x, key, key)
    with pytest.raises(ValueError, match="window=0; expected at least 1"):
        attention(x, x, x, window=0)
    with pytest.raises(ValueError, match=r"qkv \(2, 5, 24\) with n_head=5"):
        self_attention(Tensor(np.zeros((2, 5, 24))), 5)


@pytest.mark.parametrize("batch, heads, kv_heads", [(5, 2, 2), (1, 6, 3), (2, 4, 1), (1, 4, 1)])
def test_threads_share_rows_or_heads_and_change_no_bit(batch, heads, kv_heads, monkeypatch):
    monkeypatch.setattr(sys.modules["tinyllm.fused.attention"], "SHARED_WORK", 1)
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(batch, n, 70, 8)) for n in (heads, kv_heads, kv_heads))
    keep = (rng.random((batch, heads, 70, 70)) < 0.5) * 2.0
    mask = np.zeros((batch, 1, 70, 70), bool)
    mask[:, :, 1:, 0] = True
    before, results = threads.num_threads(), []
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            leaves = [Tensor(x, requires_grad=True) for x in (query, key, value)]
            y = attention(*leaves, keep=keep, mask=mask)
            y.backward(np.ones(y.shape))
            results.append([y.numpy(), *(leaf.grad for leaf in leaves)])
    finally:
        threads.set_num_threads(before)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))
