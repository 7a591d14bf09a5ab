"""Kernels: what the compiler made of them, what they do with NaN, Inf, odd strides and nothing at all."""

import importlib
import math
import platform
import subprocess
import sys

import numpy as np
import pytest

from tinyllm.engine import Tensor
from tinyllm.engine.state import fused
from tinyllm.fused import (attention, cross_entropy, embedding, gelu, layer_norm, log_softmax, rms_norm, rope, rope_tables, silu, softmax,
                           swiglu)
from tinyllm.fused.kernels import Kernel, kernel, noting
from tinyllm.fused.vector_math import erfc_times, exp, largest

MODULES = [importlib.import_module(f"tinyllm.{name}") for name in (
    *(f"fused.{name}" for name in ("softmax", "cross_entropy", "layer_norm", "rms_norm", "gelu", "swiglu", "rope_kernels", "embedding",
                                   "attention_kernels", "latent_attention", "experts_kernels")), "optim.adam", "train.shards")]
KERNELS = {f"{module.__name__.rpartition('.')[2]}.{name}": x for module in MODULES for name, x in vars(module).items()
           if type(x) is Kernel and x.__module__ == module.__name__}
PARTS = {   # called by other kernels only, in whose code they are looked at
    "attention_kernels.packed", "attention_kernels.times_keys", "attention_kernels.weights_times", "attention_kernels.weights_turned_times",
    "experts_kernels.multiply", "experts_kernels.map_rows", "experts_kernels.gather"}
COPIES = {"latent_attention.join_keys", "latent_attention.part_keys"}      # nothing to compute but sums of a few numbers
PACKED = {np.float32: ("addps", "mulps", "fmadd213ps", "fmadd231ps"), np.float64: ("addpd", "mulpd", "fmadd213pd", "fmadd231pd")}


@kernel("in1 out1")
def exps(x, y):
    for i in range(x.size):
        y[i] = exp(x[i])


@kernel("in1 out1")
def erfcs(z, y):
    for i in range(z.size):
        y[i] = erfc_times(z[i], exp(-z[i] * z[i]))


@kernel("in1 out1")
def maximum(x, y):
    y[0] = largest(x)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for the instructions of x86")
@pytest.mark.parametrize("name", sorted(KERNELS.keys() - PARTS - COPIES))
def test_kernels_are_vectorised(name):
    """The loops that do the work are packed: the compiler says nothing where it fails to, it is only slower."""
    code = KERNELS[name].assembly(np.float32)
    assert any(instruction in code for instruction in PACKED[np.float32])
    if name.startswith(("gelu.", "swiglu.", "experts_kernels.forward", "experts_kernels.backward")):
        assert "divps" in code
    if name in ("softmax.softmax_rows", "softmax.log_softmax_rows", "cross_entropy.cross_entropy_rows", "attention_kernels.forward"):
        assert "maxps" in code


@pytest.mark.parametrize("dtype, lowest, highest", [(np.float32, -86.5, 88.7), (np.float64, -707.0, 709.7)])
def test_exp_is_within_two_units_in_the_last_place(dtype, lowest, highest):
    x = np.random.default_rng(0).uniform(lowest, highest, 200_000).astype(dtype)
    y = np.empty_like(x)
    exps(x, y)
    assert np.max(np.abs(y / np.exp(x.astype(np.longdouble)) - 1)) < 2 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_at_the_ends(dtype):
    x = np.array([0, -np.inf, np.inf, np.nan, -1e30, 1e30, -0.0], dtype)
    y = np.empty_like(x)
    exps(x, y)
    np.testing.assert_array_equal(y, [1, 0, np.inf, np.nan, 0, np.inf, 1])


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 3.6e-7), (np.float64, 6.7e-16)])
def test_erfc_is_within_three_units_in_the_last_place_of_1(dtype, tolerance):
    z = np.linspace(0, 6, 5000).astype(dtype)
    y = np.empty_like(z)
    erfcs(z, y)
    np.testing.assert_allclose(y, [math.erfc(x) for x in z], rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [1, 7, 16, 100])
def test_largest_lets_nan_through(size):
    x, y = np.random.default_rng(size).normal(size=size).astype(np.float32), np.empty(1, np.float32)
    maximum(x, y)
    assert y[0] == x.max()
    x[size // 2] = np.nan
    maximum(x, y)
    assert np.isnan(y[0])


ROWWISE = {
    "softmax": softmax, "log_softmax": log_softmax, "gelu": gelu, "gelu_tanh": lambda x: gelu(x, "tanh"), "silu": silu,
    "swiglu": lambda x: swiglu(x, x), "layer_norm": layer_norm, "rms_norm": rms_norm,
    "rope": lambda x: rope(x, *rope_tables(x.shape[-2], x.shape[-1], dtype=x.dtype)),
    "attention": lambda x: attention(x, x, x),
    "cross_entropy": lambda x: cross_entropy(x, np.zeros(x.shape[:-1], int), reduction="none"),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ROWWISE)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_come_out_where_the_definition_has_them(name, dtype, bad):
    x = np.random.default_rng(0).normal(size=(2, 5, 20)).astype(dtype)
    x[0, 2, 3] = bad
    with np.errstate(all="ignore"):
        y = ROWWISE[name](Tensor(x)).numpy()
        with fused(False):
            expected = ROWWISE[name](Tensor(x)).numpy()
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))


@pytest.mark.parametrize("name, shape", [(name, shape) for name in ROWWISE for shape in [(0, 3, 4), (1, 0, 4), (1, 1, 2), (3, 37, 66)]
                                         if name != "attention" or shape[1]])     # a softmax over no keys has no definition
def test_sizes_zero_one_and_beyond_a_vector(name, shape):
    rng = np.random.default_rng(0)
    big = rng.normal(size=(shape[0], shape[2], shape[1]))
    for x in (np.ascontiguousarray(big.swapaxes(1, 2)), big.swapaxes(1, 2), np.repeat(big.swapaxes(1, 2), 2, axis=1)[:, ::-2]):
        results = []
        for kernels in (True, False):
            leaf = Tensor(x, requires_grad=True)
            with fused(kernels):
                y = ROWWISE[name](leaf)
                y.backward(np.random.default_rng(1).normal(size=y.shape))
            results.append((y.numpy(), leaf.grad))
        for got, want in zip(*results):
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_mixed_precisions_are_left_to_the_definition():
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    y = layer_norm(x, np.array([1.0, 2.0, 3.0]))
    assert y.dtype == np.float64 and y.node.primitive.name != "layer_norm"
    np.testing.assert_allclose(softmax(Tensor(np.array([1, 1]))).numpy(), [0.5, 0.5])


def test_embedding_gradients_of_half_precision_ids_and_repeats():
    weight = Tensor(np.zeros((3, 40), np.float32), requires_grad=True)
    embedding(np.array([[2, 2], [2, 0]], np.int32), weight).backward(np.ones((2, 2, 40), np.float32))
    assert weight.grad[:, 0].tolist() == [1, 0, 3]


def test_importing_the_package_leaves_numba_alone():
    program = "import sys, tinyllm; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_kernels_are_noted_instead_of_compiled():
    once = kernel("in1 out1", fastmath=set())(lambda x, y: None)
    with noting() as called:
        once(np.ones(3), np.ones(3))
        once(np.ones(3, np.float32), np.ones(3, np.float32))
    assert called == [(once, np.dtype(np.float64)), (once, np.dtype(np.float32))] and not once.versions
