"""Layers held to the study's printed numbers: attention heads, and gradients with and without shortcuts."""

import numpy as np
import pytest

from tinyllm.engine import Tensor
from tinyllm.engine.random import Generator, manual_seed
from tinyllm.engine.state import fused, no_grad
from tinyllm.nn import Attention, Dropout, KVCache, Linear, RMSNorm
from tinyllm.nn import functional as F

both = pytest.mark.parametrize("kernels", [True, False])
SENTENCE = Tensor(np.array([[.35, .15, .89], [.97, .8, .3], [.65, .34, .24], [.2, .87, .34], [.86, .13, .05], [.1, .2, .3]], np.float32))


def heads(x, n_head):
    """(T, C) -> (H, T, D)"""
    return x.reshape(len(x), n_head, -1).swapaxes(0, 1)


def test_self_attention_from_linear_layers():
    manual_seed(123)
    query, key, value = (Linear(3, 2, bias=False)(SENTENCE) for _ in range(3))
    np.testing.assert_allclose(F.attention(query, key, value, causal=False).numpy()[0], [-.4850, -.1109], atol=5.1e-5)


def test_two_causal_heads_side_by_side():
    manual_seed(123)
    row = []
    for _ in range(2):
        query, key, value = (Linear(3, 2, bias=False)(SENTENCE) for _ in range(3))
        row.extend(F.attention(query, key, value).numpy()[0])
    np.testing.assert_allclose(row, [-.4127, .2307, .4378, .0873], atol=5.1e-5)


@both
def test_multi_head_attention_with_one_projection(kernels):
    manual_seed(123)
    query, key, value, out = *(Linear(3, 2, bias=False) for _ in range(3)), Linear(2, 2)
    with fused(kernels):
        y = F.attention(*(heads(layer(SENTENCE), 2) for layer in (query, key, value)))
        rows = out(y.swapaxes(0, 1).reshape(6, 2)).numpy()
    np.testing.assert_allclose(rows, [[.3145, .5066], [.2842, .3614], [.2712, .3817], [.2544, .3887], [.2535, .3958], [.2488, .4286]],
                               atol=5.1e-5)


@both
def test_shortcuts_keep_the_gradient_alive(kernels):
    """Mean |dL/dW| of five layers, GELU, widths 3 3 3 3 3 1, input (1, 0, -1), squared error to 0; both nets from seed 0."""
    manual_seed(0)
    for shortcut, printed in ((False, [2.174e-3, 1.820e-3, 2.399e-3, 1.913e-2, 2.638e-1]),
                              (True, [2.480e-1, 3.982e-1, 3.304e-1, 3.638e-1, 2.195])):
        layers = [Linear(3, size) for size in (3, 3, 3, 3, 1)]
        x = Tensor([[1.0, 0.0, -1.0]])
        with fused(kernels):
            for layer in layers:
                y = F.gelu(layer(x), "tanh")
                x = x + y if shortcut and y.shape == x.shape else y
            F.mse_loss(x, np.zeros((1, 1), np.float32)).backward()
        np.testing.assert_allclose([np.abs(layer.weight.grad).mean() for layer in layers], printed, rtol=3e-4)


def test_attention_layer_packs_queries_keys_values_in_that_order():
    layer = Attention(8, n_head=2, generator=Generator(0))
    x = Tensor(np.random.default_rng(0).normal(size=(1, 5, 8)).astype(np.float32))
    weight, bias = layer.qkv.weight.numpy().reshape(3, 8, 8), layer.qkv.bias.numpy().reshape(3, 8)
    y = F.attention(*(heads(Tensor(x.numpy()[0] @ w.T + b), 2) for w, b in zip(weight, bias)))
    np.testing.assert_allclose(layer(x).numpy()[0], layer.proj(y.swapaxes(0, 1).reshape(5, 8)).numpy(), rtol=1e-5, atol=1e-6)
    assert layer(x).shape == (1, 5, 8)


def test_attention_drops_weights_once_and_only_in_training():
    """With every value 1 and no bias, each token's result is its weights' sum: 1, or what dropout left of it."""
    layer = Attention(16, n_head=2, bias=False, dropout=0.5, generator=Generator(0))
    layer.qkv.weight.copy_(np.zeros((48, 16), np.float32))
    layer.qkv.weight.data[32:, 0] = 1
    layer.proj.weight.copy_(np.eye(16, dtype=np.float32))
    x = np.zeros((1, 64, 16), np.float32)
    x[..., 0] = 1
    assert np.allclose(layer.eval()(x).numpy(), 1)
    sums = layer.train()(x).numpy()[0, 1:]
    positions = np.arange(2, 65)[:, None]
    counts = sums * positions / 2               # kept weights of 1/t each count double
    assert np.allclose(counts, counts.round(), atol=1e-4) and counts.max() > 1
    assert abs(counts.sum() / (positions.sum() * 16) - 0.5) < 0.05      # half is kept; dropping twice would leave a quarter


def test_attention_layer_explains_a_width_that_does_not_divide():
    with pytest.raises(ValueError, match="width 10 is not a multiple of 4 heads"):
        Attention(10, 4)


def test_rms_norm_layer_scales():
    norm = RMSNorm(2, eps=0.0)
    norm.weight.copy_([1.0, 10.0])
    np.testing.assert_allclose(norm(Tensor([[3.0, 4.0]])).numpy(), [[3 / 12.5**0.5, 40 / 12.5**0.5]], rtol=1e-6)


def test_dropout_layer():
    layer = Dropout(0.5, Generator(0))
    x = Tensor(np.ones((100,), np.float32))
    assert set(layer(x).numpy()) == {0, 2} and layer.eval()(x) is x and Dropout(0.0)(x) is x
    assert layer.mask((2, 2)) is None and set(layer.train().mask((9, 9)).ravel()) == {0, 2}
    with pytest.raises(ValueError, match=r"Dropout\(1.5\)"):
        Dropout(1.5)


def test_cache_keeps_crops_and_refuses_to_overflow():
    cache = KVCache(n_layer=2, batch=1, n_head=1, capacity=4, head_size=2)
    x = np.arange(6.0).reshape(1, 1, 3, 2)
    for layer in (0, 1):
        keys, values = cache.append(layer, x + layer, -x)
    cache.advance(3)
    assert np.array_equal(keys, x + 1) and np.array_equal(values, -x) and cache.length == 3
    cache.crop(1)
    keys, _ = cache.append(0, x[:, :, :1] + 9, x[:, :, :1])
    assert keys[0, 0].tolist() == [[0, 1], [9, 10]]
    with pytest.raises(ValueError, match="1 rows of 4 positions, 1 filled, was given 1 rows of 4"):
        cache.append(0, np.zeros((1, 1, 4, 2)), np.zeros((1, 1, 4, 2)))
    cache.reset()
    assert cache.length == 0


def test_attention_layer_with_a_cache_equals_the_whole():
    layer = Attention(8, n_head=2, generator=Generator(0))
    x = np.random.default_rng(0).normal(size=(2, 6, 8)).astype(np.float32)
    with no_grad():
        whole, cache, parts = layer(Tensor(x)).numpy(), KVCache(1, 2, 2, 6, 4), []
        for start, end in ((0, 3), (3, 4), (4, 6)):
            parts.append(layer(Tensor(x[:, start:end]), cache).numpy())
            cache.advance(end - start)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-5, atol=1e-6)
