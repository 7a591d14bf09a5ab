"""Sending rows to experts and back."""

import numpy as np
import pytest

from tinyllm.engine import Tensor
from tinyllm.nn import functional as F


def test_there_and_back_with_equal_gates_is_the_row_itself():
    rng = np.random.default_rng(0)
    x, chosen = rng.normal(size=(7, 4)), rng.integers(0, 5, size=(7, 3))
    order = np.argsort(chosen.ravel(), kind="stable")
    rows = F.dispatch(Tensor(x), order, 3)
    assert np.array_equal(rows.numpy(), x.repeat(3, axis=0)[order])
    np.testing.assert_allclose(F.combine(rows, Tensor(np.full((7, 3), 1 / 3)), order).numpy(), x, rtol=1e-12)


def test_grouped_linear_is_one_product_for_each_group():
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(6, 4)), rng.normal(size=(3, 2, 4))
    y = F.grouped_linear(Tensor(x), [Tensor(w) for w in weights], (1, 0, 5)).numpy()
    np.testing.assert_allclose(y, np.concatenate([x[:1] @ weights[0].T, x[1:] @ weights[2].T]), rtol=1e-12)


@pytest.mark.parametrize("counts", [(2, 2), (1, 2, 3), (6,)])
def test_groups_that_do_not_fit_the_rows(counts):
    with pytest.raises(ValueError, match="2 matrices and groups of"):
        F.grouped_linear(Tensor(np.ones((6, 4))), [Tensor(np.ones((2, 4)))] * 2, counts)
