"""LayerNorm and RMSNorm: moments of the result, invariances, and the study's worked rows."""

import numpy as np
import pytest

from tinyllm.engine import Tensor
from tinyllm.engine.random import Generator
from tinyllm.engine.state import fused
from tinyllm.fused import layer_norm, rms_norm

both = pytest.mark.parametrize("kernels", [True, False])


@both
def test_layer_norm_of_the_worked_rows(kernels):
    """Two rows of five normals, seed 123: means -.3596 and -.2606, biased variances .2015 and .2673, become 0 and 1."""
    rows = Generator(123).randn(2, 5).astype(np.float64)
    with fused(kernels):
        y = layer_norm(rows, eps=1e-6).numpy()
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-15)
    np.testing.assert_allclose(y.var(-1), 1, atol=1e-5)
    np.testing.assert_allclose(y * np.sqrt([[.2015], [.2673]]) + [[-.3596], [-.2606]], rows, atol=3e-4)


@both
def test_layer_norm_forgets_shift_and_scale_and_rms_norm_the_scale(kernels):
    x = np.random.default_rng(0).normal(size=(3, 8))
    with fused(kernels):
        np.testing.assert_allclose(layer_norm(5 * x + 2, eps=0).numpy(), layer_norm(x, eps=0).numpy(), rtol=1e-10)
        np.testing.assert_allclose(rms_norm(5 * x, eps=0).numpy(), rms_norm(x, eps=0).numpy(), rtol=1e-12)
        np.testing.assert_allclose((rms_norm(x, eps=0).numpy() ** 2).mean(-1), 1, rtol=1e-12)


@both
def test_the_gradient_has_no_part_along_what_the_norm_forgets(kernels):
    x = Tensor(np.random.default_rng(0).normal(size=(3, 8)), requires_grad=True)
    g = np.random.default_rng(1).normal(size=(3, 8))
    with fused(kernels):
        layer_norm(x, eps=0).backward(g)
        np.testing.assert_allclose(x.grad.sum(-1), 0, atol=1e-14)
        np.testing.assert_allclose((x.grad * x.numpy()).sum(-1), 0, atol=1e-14)
        x.grad = None
        rms_norm(x, eps=0).backward(g)
        np.testing.assert_allclose((x.grad * x.numpy()).sum(-1), 0, atol=1e-14)


@both
def test_a_constant_row_is_survived(kernels):
    x = Tensor(np.full((1, 4), 3.0, np.float32), requires_grad=True)
    with fused(kernels):
        y = layer_norm(x)
    y.backward(np.ones((1, 4), np.float32))
    assert not y.numpy().any() and np.isfinite(x.grad).all()
