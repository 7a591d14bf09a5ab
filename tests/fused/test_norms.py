"""LayerNorm and RMSNorm: moments of the result, invariances, and the study's worked rows."""

import numpy as np
import pytest

from tinyllm.engine import Tensor
from tinyllm.engine.random import Generator
from tinyllm.engine.state import fused
from tinyllm.fused import add_rms_norm, layer_norm, rms_norm

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


@both
@pytest.mark.parametrize("shape", [(3, 8), (2, 0, 4), (70, 1), (2, 3, 40)])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_a_residual_and_the_norm_behind_it_are_the_sum_and_its_norm(kernels, shape, dtype, tolerance):
    """In values and in gradients; odd strides, one row and none included."""
    rng, results = np.random.default_rng(0), []
    x, branch = (np.repeat(rng.normal(size=shape), 2, axis=-1)[..., ::-2].astype(dtype, order="K") for _ in range(2))
    weight, g, h = rng.normal(size=shape[-1]).astype(dtype), rng.normal(size=shape).astype(dtype), rng.normal(size=shape).astype(dtype)
    for joint in (True, False):
        leaves = [Tensor(a, requires_grad=True) for a in (x, branch, weight)]
        with fused(kernels):
            stream, y = add_rms_norm(*leaves) if joint else (total := leaves[0] + leaves[1], rms_norm(total, leaves[2]))
            (stream * g + y * h).sum().backward()
        results.append([stream.numpy(), y.numpy(), *(leaf.grad for leaf in leaves)])
    for got, want in zip(*results):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * max(1, np.abs(want).max(initial=0)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_number_in_a_residual_stays_in_its_row(bad):
    x, branch = np.random.default_rng(0).normal(size=(2, 4, 20)).astype(np.float32)
    branch[2, 3] = bad
    with np.errstate(all="ignore"):
        found = [t.numpy() for t in add_rms_norm(Tensor(x), Tensor(branch), np.ones(20, np.float32))]
        with fused(False):
            expected = [t.numpy() for t in add_rms_norm(Tensor(x), Tensor(branch), np.ones(20, np.float32))]
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        assert np.isfinite(a[[0, 1, 3]]).all() and not np.isfinite(a[2]).all()


def test_a_branch_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"x \(2, 3\), branch \(3,\); expected a branch of the stream's shape"):
        add_rms_norm(Tensor(np.ones((2, 3))), Tensor(np.ones(3)), np.ones(3))


@both
def test_a_weight_alone_can_want_a_gradient(kernels):
    """One sweep makes dx and dweight; here nobody asks for dx, and the walk goes twice."""
    x, g = np.random.default_rng(0).normal(size=(2, 70, 8))
    weight, bias = Tensor(np.ones(8), requires_grad=True), Tensor(np.zeros(8), requires_grad=True)
    with fused(kernels):
        for y in (rms_norm(Tensor(x), weight, eps=0), layer_norm(Tensor(x), weight, bias, eps=0)):
            for _ in range(2):
                weight.grad = bias.grad = None
                y.backward(g, retain_graph=True)
                np.testing.assert_allclose(weight.grad, (g * y.numpy()).sum(0), rtol=1e-11)
    np.testing.assert_allclose(bias.grad, g.sum(0), rtol=1e-12)
