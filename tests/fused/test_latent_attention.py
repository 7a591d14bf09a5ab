"""Latent attention: a plain loop, its two ways, and the identities that tie it to attention itself."""

import math
import sys

import numpy as np
import pytest

from tinyllm.engine import Tensor, threads
from tinyllm.engine.state import fused
from tinyllm.fused import attention, latent, latent_attention, rms_norm, rope, rope_tables

ways = pytest.mark.parametrize("absorb", [False, True])
both = pytest.mark.parametrize("kernels", [True, False])
H, D_C, D_N, D_R, D_V = 3, 10, 4, 2, 5


def draw(rng, B, T, S, dtype=np.float64):
    """Queries, latents, the map, and the rotation of the last T of S positions."""
    arrays = [rng.normal(size=shape).astype(dtype) for shape in ((B, T, H * (D_N + D_R)), (B, 1, S, D_C + D_R), (H * (D_N + D_V), D_C))]
    cos, sin = rope_tables(S, D_R, dtype=dtype)
    return *arrays, (cos[S - T:], sin[S - T:], True)


def turned(pair, angle):
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) @ pair


@both
@ways
@pytest.mark.parametrize("T, S", [(5, 5), (2, 5), (1, 5), (1, 1)])
def test_equal_to_the_loop(kernels, absorb, T, S):
    query, latents, weight, rotation = draw(np.random.default_rng(0), 2, T, S)
    with fused(kernels):
        y = latent_attention(Tensor(query), Tensor(latents), Tensor(weight), H, rotation, absorb=absorb, factor=1.5).numpy()
    heads = weight.reshape(H, D_N + D_V, D_C)
    for b, t, h in np.ndindex(2, T, H):
        position = t + S - T
        q = query[b, t].reshape(H, -1)[h]
        q_rope = turned(q[D_N:], position)                                  # a frequency of 1: an angle of so many radians
        c, r = latents[b, 0, :position + 1, :D_C], latents[b, 0, :position + 1, D_C:]
        scores = 1.5 * (c @ heads[h, :D_N].T @ q[:D_N] + r @ q_rope) / math.sqrt(D_N + D_R)
        w = np.exp(scores - scores.max())
        np.testing.assert_allclose(y[b, t].reshape(H, -1)[h], w / w.sum() @ c @ heads[h, D_N:].T, rtol=1e-10)


def test_expanded_it_is_plain_attention():
    """With keys and values written out, by the fused attention."""
    query, latents, weight, (cos, sin, _) = draw(np.random.default_rng(0), 2, 6, 6)
    q = query.reshape(2, 6, H, -1).swapaxes(1, 2)
    q = np.concatenate([q[..., :D_N], rope(q[..., D_N:], cos, sin, interleaved=True).numpy()], axis=-1)
    expanded = (latents[:, 0, :, :D_C] @ weight.T).reshape(2, 6, H, -1).swapaxes(1, 2)
    key = np.concatenate([expanded[..., :D_N], np.broadcast_to(latents[..., D_C:], (2, H, 6, D_R))], axis=-1)
    y = attention(q, key, expanded[..., D_N:]).numpy().swapaxes(1, 2).reshape(2, 6, -1)
    for absorb in (False, True):
        found = latent_attention(query, latents, weight, H, (cos, sin, True), absorb=absorb).numpy()
        np.testing.assert_allclose(found, y, rtol=1e-10, atol=1e-13)


@both
def test_a_latent_is_a_norm_and_a_rotation_side_by_side(kernels):
    rng, (cos, sin) = np.random.default_rng(0), rope_tables(4, 6, dtype=np.float64)
    x, weight = rng.normal(size=(2, 1, 4, 11)), rng.normal(size=5)
    for interleaved in (False, True):
        with fused(kernels):
            y = latent(x, weight, (cos, sin, interleaved)).numpy()
        np.testing.assert_allclose(y[..., :5], rms_norm(x[..., :5], weight, 1e-6).numpy(), rtol=1e-13)
        np.testing.assert_allclose(y[..., 5:], rope(x[..., 5:], cos, sin, interleaved).numpy(), rtol=1e-13)


@ways
def test_the_future_has_no_influence(absorb):
    query, latents, weight, rotation = draw(np.random.default_rng(0), 1, 6, 6)
    leaf = Tensor(latents, requires_grad=True)
    g = np.zeros((1, 6, H * D_V))
    g[:, :4] = np.random.default_rng(1).normal(size=(1, 4, H * D_V))
    latent_attention(Tensor(query), leaf, Tensor(weight), H, rotation, absorb=absorb).backward(g)
    assert not leaf.grad[:, :, 4:].any() and leaf.grad[:, :, 0].any()


@both
@ways
def test_weights_on_request_are_those_of_the_result(kernels, absorb):
    query, latents, weight, rotation = draw(np.random.default_rng(0), 2, 3, 5)
    with fused(kernels):
        y, weights = latent_attention(Tensor(query), Tensor(latents), Tensor(weight), H, rotation, absorb=absorb, return_weights=True)
        plain = latent_attention(Tensor(query), Tensor(latents), Tensor(weight), H, rotation, absorb=absorb)
    assert weights.shape == (2, H, 3, 5)
    np.testing.assert_allclose(weights.numpy().sum(-1), 1, rtol=1e-13)
    np.testing.assert_allclose(plain.numpy(), y.numpy(), rtol=1e-11, atol=1e-13)


@ways
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_come_out_where_the_definition_has_them(absorb, bad):
    query, latents, weight, rotation = draw(np.random.default_rng(0), 2, 5, 5)
    latents[0, 0, 2, 1] = bad
    with np.errstate(all="ignore"):
        y = latent_attention(query, latents, weight, H, rotation, absorb=absorb).numpy()
        with fused(False):
            expected = latent_attention(query, latents, weight, H, rotation, absorb=absorb).numpy()
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))


@ways
@pytest.mark.parametrize("B", [1, 3])
def test_threads_change_no_bit(absorb, B, monkeypatch):
    monkeypatch.setattr(sys.modules["tinyllm.fused.attention"], "SHARED_WORK", 1)
    query, latents, weight, rotation = draw(np.random.default_rng(0), B, 70, 70, np.float32)
    before, results = threads.num_threads(), []
    try:
        for count in (1, 2):
            threads.set_num_threads(count)
            leaves = [Tensor(x, requires_grad=True) for x in (query, latents, weight)]
            y = latent_attention(*leaves, H, rotation, absorb=absorb)
            y.backward(np.ones(y.shape, np.float32))
            results.append([y.numpy(), *(leaf.grad for leaf in leaves)])
    finally:
        threads.set_num_threads(before)
    assert all(np.array_equal(a, b) for a, b in zip(*results))


def test_odd_strides_and_empty_batches():
    query, latents, weight, rotation = draw(np.random.default_rng(0), 4, 5, 5)
    odd = latent_attention(query[::-2], latents[::-2], weight[:, ::-1], H, rotation).numpy()
    np.testing.assert_array_equal(odd, latent_attention(query[::-2].copy(), latents[::-2].copy(), weight[:, ::-1].copy(), H, rotation).numpy())
    assert latent_attention(query[:0], latents[:0], weight, H, rotation).shape == (0, 5, H * D_V)


def test_misuse_is_explained():
    query, latents, weight, rotation = draw(np.random.default_rng(0), 1, 3, 3)
    with pytest.raises(ValueError, match=r"latent \(1, 1, 2, 12\).*n_head=3; expected \(B, T, H \(d_n \+ d_r\)\)"):
        latent_attention(query, latents[:, :, :2], weight, H, rotation)
    with pytest.raises(ValueError, match=r"x \(1, 1, 3, 12\), weight \(9,\), angles \(3, 1\)"):
        latent(latents, np.ones(9), rotation)
