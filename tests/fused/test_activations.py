"""GELU, SiLU and SwiGLU at values known in closed form."""

import math

import numpy as np
import pytest

from tinyllm.engine.state import fused
from tinyllm.fused import gelu, silu, swiglu

both = pytest.mark.parametrize("kernels", [True, False])
X = np.linspace(-5, 5, 501)


@both
def test_exact_gelu_is_x_times_the_normal_distribution_function(kernels):
    with fused(kernels):
        y = gelu(X).numpy()
    np.testing.assert_allclose(y, [x * 0.5 * math.erfc(-x / math.sqrt(2)) for x in X], rtol=1e-9, atol=1e-15)


@both
def test_tanh_gelu_is_its_formula_and_near_the_exact_one(kernels):
    with fused(kernels):
        y, exact = gelu(X, "tanh").numpy(), gelu(X).numpy()
    formula = [0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) for x in X]
    np.testing.assert_allclose(y, formula, rtol=1e-12, atol=1e-15)
    assert 1e-4 < np.abs(y - exact).max() < 5e-4


@both
def test_silu_and_swiglu(kernels):
    with fused(kernels):
        np.testing.assert_allclose(silu(X).numpy(), [x / (1 + math.exp(-x)) for x in X], rtol=1e-12)
        np.testing.assert_allclose(swiglu(X, 2 * X).numpy(), [2 * x * x / (1 + math.exp(-x)) for x in X], rtol=1e-12)
        assert silu(np.array([-1e4, 1e4])).numpy().tolist() == [0, 1e4]


def test_unknown_form():
    with pytest.raises(ValueError, match="approximate='erf'; expected 'none' or 'tanh'"):
        gelu(X, "erf")
