"""The attention layer with grouped heads, windows, norms, rotations; reading its weights."""

import numpy as np
import pytest

from tinyllm.engine import Tensor
from tinyllm.engine.random import Generator
from tinyllm.engine.state import default_dtype, no_grad
from tinyllm.nn import Attention, RotaryPositions
from tinyllm.nn.attention import reading

X = np.random.default_rng(0).normal(size=(2, 7, 8))


def layer(**options):
    with default_dtype(np.float64):
        return Attention(8, 4, generator=Generator(0), **options)


def by_hand(attn, x, rotation=None):
    """Head by head, query by query, with nothing but dot products."""
    H, K, D, w = attn.n_head, attn.n_kv_head, attn.head_size, attn.window or len(x)
    packed = x @ attn.qkv.weight.numpy().T + (0 if attn.qkv.bias is None else attn.qkv.bias.numpy())
    heads = [packed[:, i * D:(i + 1) * D] for i in range(H + 2 * K)]
    norms = [attn.q_norm] * H + [attn.k_norm] * K
    for i, norm in enumerate(norms):
        if norm is not None:
            heads[i] = heads[i] / np.sqrt((heads[i] ** 2).mean(-1, keepdims=True) + norm.eps) * norm.weight.numpy()
        if rotation is not None:
            heads[i] = rotation.turn(Tensor(heads[i])).numpy()
    out = []
    for i in range(len(x)):
        row = []
        for h in range(H):
            key, value = heads[H + h // (H // K)], heads[H + K + h // (H // K)]
            seen = range(max(0, i - w + 1), i + 1)
            powers = [np.exp(heads[h][i] @ key[j] / np.sqrt(D)) for j in seen]
            row.append(sum(p * value[j] for p, j in zip(powers, seen)) / sum(powers))
        out.append(np.concatenate(row))
    return np.array(out) @ attn.proj.weight.numpy().T + (0 if attn.proj.bias is None else attn.proj.bias.numpy())


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("options", [{}, {"n_kv_head": 2}, {"n_kv_head": 1, "bias": False}, {"window": 3}, {"n_kv_head": 2, "window": 1},
                                     {"qk_norm": 1e-6}, {"n_kv_head": 2, "head_size": 6, "qkv_bias": False, "qk_norm": 1e-6, "window": 4}])
def test_each_option_by_hand(options, rotated):
    attn = layer(**options)
    for i, p in enumerate(attn.parameters()):
        p.copy_(p.numpy() + Generator(i).normal(0, 0.3, p.shape, dtype=np.float64))
    rotation = RotaryPositions(attn.head_size).at(np.arange(7), np.float64) if rotated else None
    y = attn(Tensor(X), None, rotation).numpy()
    for row, x in zip(y, X):
        np.testing.assert_allclose(row, by_hand(attn, x, rotation), rtol=1e-10, atol=1e-12)


def test_grouped_heads_are_a_layer_whose_key_heads_are_alike():
    grouped, full = layer(n_kv_head=2, bias=False), layer(bias=False)
    query, key, value = np.split(grouped.qkv.weight.numpy(), [8, 12])
    repeated = [part.reshape(2, 1, 2, 8).repeat(2, axis=1).reshape(8, 8) for part in (key, value)]
    full.qkv.weight.copy_(np.concatenate([query, *repeated]))
    full.proj.weight.copy_(grouped.proj.weight.numpy())
    np.testing.assert_allclose(grouped(Tensor(X)).numpy(), full(Tensor(X)).numpy(), rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"n_kv_head": 2}, {"window": 2}])
def test_weights_can_be_read_and_reading_changes_nothing(options):
    attn = layer(**options)
    with no_grad():
        plain = attn(Tensor(X)).numpy()
        with reading(attn) as weights:
            read = attn(Tensor(X)).numpy()
        attn(Tensor(X))
    np.testing.assert_allclose(read, plain, rtol=1e-12)
    w, = weights
    assert w.shape == (2, 4, 7, 7) and np.allclose(w.sum(axis=-1), 1) and not np.triu(w, 1).any()
    assert not options.get("window") or not np.tril(w, -2).any()


def test_heads_that_cannot_be_shared():
    with pytest.raises(ValueError, match="4 query heads cannot share 3 key/value heads evenly"):
        Attention(8, 4, 3)
