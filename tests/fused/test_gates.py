"""The gates of a mixture: worked by hand, of every row alone, and the choices beside a stable sort."""

import numpy as np
import pytest

from tinyllm.engine import Tensor
from tinyllm.engine.state import fused
from tinyllm.fused.gates import best
from tinyllm.nn import functional as F

both = pytest.mark.parametrize("kernels", [True, False])
LOGITS = np.log(np.array([[1.0, 2.0, 5.0, 2.0]]))      # softmax: 0.1, 0.2, 0.5, 0.2; sigmoid: 1/2, 2/3, 5/6, 2/3


@both
@pytest.mark.parametrize("scoring, normalise, expected", [
    ("softmax", False, [1.0, 0.4]), ("softmax", True, [2 * 5 / 7, 2 * 2 / 7]),
    ("sigmoid", False, [5 / 3, 4 / 3]), ("sigmoid", True, [10 / 9, 8 / 9])])
def test_gates_by_hand(kernels, scoring, normalise, expected):
    with fused(kernels):
        y = F.gates(Tensor(LOGITS), np.array([[2, 1]]), scoring, normalise, factor=2.0)
    np.testing.assert_allclose(y.numpy(), [expected], rtol=1e-14)


@both
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_a_bad_number_stays_in_its_row(kernels, bad, scoring):
    x = np.random.default_rng(0).normal(size=(3, 4))
    good = F.gates(x, np.full((3, 2), [0, 3]), scoring, True).numpy()
    x[1, 0] = bad
    with fused(kernels), np.errstate(all="ignore"):
        y = F.gates(x, np.full((3, 2), [0, 3]), scoring, True).numpy()
    np.testing.assert_allclose(y[[0, 2]], good[[0, 2]], rtol=1e-14)
    expected = {"softmax": [True, True] if bad != -np.inf else [False, False], "sigmoid": [bool(np.isnan(bad))] * 2}[scoring]
    assert np.isnan(y[1]).tolist() == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_best_are_those_of_a_stable_sort(dtype):
    rng = np.random.default_rng(0)
    for E, k in ((1, 1), (8, 2), (9, 9), (256, 8)):
        scores = rng.integers(0, E, size=(50, E)).astype(dtype)         # many are equal
        scores[rng.random(scores.shape) < 0.1] = np.nan
        scores[rng.random(scores.shape) < 0.1] = -np.inf
        np.testing.assert_array_equal(best(scores, k), np.argsort(-scores, axis=-1, kind="stable")[:, :k])
    assert best(np.zeros((2, 0, 4), dtype), 3).shape == (2, 0, 3)


def test_misuse_is_explained():
    with pytest.raises(ValueError, match=r"gates: x \(1, 4\), chosen \(2, 1\)"):
        F.gates(LOGITS, np.zeros((2, 1), int))
    with pytest.raises(ValueError, match="scoring 'tanh'; .* one of softmax, sigmoid"):
        F.gates(LOGITS, np.zeros((1, 1), int), "tanh")
    with pytest.raises(ValueError, match="chosen -1 to 0; the experts are 0 to 3"):
        F.gates(LOGITS, np.array([[0, -1]]))
