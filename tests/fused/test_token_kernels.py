"""What a token's operations do with vectors: vectorised, and the same as NumPy's; experts are chosen as nn/moe.py chooses."""

import platform

import numpy as np
import pytest

from tinyllm.fused import eight_rows, token_kernels
from tinyllm.fused.token_kernels import route
from tinyllm.nn import MoE
from tinyllm.weights.int8 import dequantize, quantize

x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for the instructions of x86")
PACKED = ("fmadd231ps", "fmadd213ps", "mulps")


@x86
@pytest.mark.parametrize("name, instructions", [("matrix_times", PACKED), ("int8_matrix_times", ("pmovsxbd",)), ("rms_norm", ("mulps",)),
                                                ("layer_norm", ("mulps",)), ("attend", PACKED), ("add_up", PACKED), ("int8_add_up", PACKED)])
def test_the_loops_are_vectorised(name, instructions):
    eight_rows.register()
    code = getattr(token_kernels, name).assembly(np.float32)
    assert any(instruction in code for instruction in instructions)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count, size", [(1, 8), (19, 24), (5, 7), (300, 16)])
def test_rows_are_added_up_as_by_a_product(dtype, count, size):
    eight_rows.register()
    rng = np.random.default_rng(0)
    shares, rows, y = rng.normal(size=count).astype(dtype), rng.normal(size=(count, size + 2)).astype(dtype), np.ones(size, dtype)
    token_kernels.add_up(shares, rows.reshape(-1), size + 2, y)
    np.testing.assert_allclose(y, shares @ rows[:, :size], atol=300 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [12, 64, 192])
def test_rows_of_int8_are_added_up_as_if_written_out(dtype, size):
    rng = np.random.default_rng(0)
    shares, y = rng.normal(size=9).astype(dtype), np.ones(size, dtype)
    q, scales = quantize(rng.normal(size=(9, size)).astype(dtype))
    token_kernels.int8_add_up(shares, q.reshape(-1), scales.reshape(-1), size // scales.shape[1], y)
    np.testing.assert_allclose(y, shares @ dequantize(q, scales), atol=50 * np.finfo(dtype).eps)


def routed(layer, logits):
    """(experts (N, k), gates (N, k)) of logits (N, E), row by row."""
    v3, N, k = layer.scoring_func == "sigmoid", len(logits), layer.k
    chosen, room = np.empty((N, 2 * k), logits.dtype), np.empty(len(layer.experts) + layer.n_group, logits.dtype)
    bias = layer.router_bias.numpy().astype(logits.dtype) if v3 else np.empty(0, logits.dtype)
    for row, out in zip(logits.copy(), chosen):
        route(row, bias, layer.n_group, layer.topk_group, v3, layer.norm_topk_prob, layer.routed_scaling_factor, room, out)
    return chosen[:, :k].astype(int), chosen[:, k:]


@pytest.mark.parametrize("drawn", [lambda rng: rng.normal(size=(200, 12)), lambda rng: rng.integers(-1, 2, (200, 12)) / 1.0])     # and with ties
@pytest.mark.parametrize("groups, kept, k", [(1, 1, 1), (1, 1, 5), (1, 1, 12), (4, 2, 5), (3, 1, 4), (2, 2, 3)])
@pytest.mark.parametrize("function, normalised", [("softmax", False), ("sigmoid", True)])
def test_experts_and_gates_are_those_of_the_layer(function, normalised, groups, kept, k, drawn):
    rng = np.random.default_rng(1)
    layer = MoE(2, 2, 12, k, scoring_func=function, n_group=groups, topk_group=kept, norm_topk_prob=normalised, routed_scaling_factor=2.5)
    if function == "sigmoid":
        layer.router_bias.copy_(rng.integers(-1, 2, 12) / 2)
    logits = drawn(rng)
    scores = 1 / (1 + np.exp(-logits)) if function == "sigmoid" else np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    experts, gates = routed(layer, logits)
    np.testing.assert_array_equal(experts, layer.choose(scores))
    expected = np.take_along_axis(scores, experts, axis=1) * 2.5
    np.testing.assert_allclose(gates, expected / (expected.sum(axis=1, keepdims=True) / 2.5 if normalised else 1), rtol=1e-14)


def test_scores_that_are_no_numbers_still_name_experts():
    layer = MoE(2, 2, 6, 3, scoring_func="sigmoid", n_group=2, topk_group=1)
    experts, gates = routed(layer, np.array([[np.nan] * 6, [np.inf] * 6, [-np.inf] * 6]))
    assert ((experts >= 0) & (experts < 6)).all() and np.isnan(gates[0]).all()
    assert gates[1:].tolist() == [[1.0] * 3, [0.0] * 3]


def test_large_logits_overflow_no_softmax():
    layer = MoE(2, 2, 3, 2, scoring_func="softmax")
    experts, gates = routed(layer, np.array([[1000.0, 999.0, -1000.0]], np.float32))
    assert experts.tolist() == [[0, 1]] and gates[0] == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.e)])
