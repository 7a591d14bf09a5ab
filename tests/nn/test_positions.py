"""Rotary positions: relative scores, the two layouts, and the three ways of stretching."""

import math

import numpy as np
import pytest

from tinyllm.engine import Tensor
from tinyllm.errors import UserError
from tinyllm.nn.positions import RotaryPositions, checked_scaling, frequencies, magnitude, table_factor, to_halves, to_interleaved, yarn_range

LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
YARN = {"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_score_depends_on_the_distance_alone(interleaved):
    q, k = np.random.default_rng(0).normal(size=(2, 1, 8))
    rotary = RotaryPositions(8, interleaved=interleaved)

    def score(i, j):
        turned = [rotary.at(np.array([p]), np.float64).turn(Tensor(x)).numpy() for x, p in ((q, i), (k, j))]
        return (turned[0] * turned[1]).sum()

    assert score(5, 3) == pytest.approx(score(105, 103), rel=1e-12)
    assert score(3, 3) == pytest.approx((q * k).sum(), rel=1e-12)
    assert abs(score(5, 3) - score(5, 4)) > 1e-3


def test_layouts_convert_exactly_and_give_equal_scores():
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 3 * 8, 16))
    x = rng.normal(size=(5, 16))
    scores = []
    for interleaved, (wq, wk) in ((True, (query, key)), (False, (to_halves(query, 3), to_halves(key, 3)))):
        rotation = RotaryPositions(8, interleaved=interleaved).at(np.arange(5), np.float64)
        q, k = (rotation.turn(Tensor((x @ w.T).reshape(5, 3, 8).swapaxes(0, 1))).numpy() for w in (wq, wk))
        scores.append(q @ k.swapaxes(1, 2))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-12)
    assert np.array_equal(to_interleaved(to_halves(query, 3), 3), query) and not np.array_equal(to_halves(query, 3), query)


def test_rows_may_have_positions_of_their_own():
    rotary, x = RotaryPositions(4), np.random.default_rng(0).normal(size=(2, 3, 5, 4))
    rows = np.array([np.arange(5), [0, 0, 0, 1, 2]])
    together = rotary.at(rows, np.float64).turn(Tensor(x)).numpy()
    for b in range(2):
        np.testing.assert_array_equal(together[b], rotary.at(rows[b], np.float64).turn(Tensor(x[b])).numpy())


@pytest.mark.parametrize("size, factor, unchanged, divided", [(64, 32.0, 15, 14), (128, 8.0, 29, 29)])
def test_llama3_keeps_the_fast_pairs_and_divides_the_slow_ones(size, factor, unchanged, divided):
    """How many pairs of Llama 3.2 1B (15 kept, 3 blended, 14 divided) and of 3.1 (29, 6, 29) fall into each part."""
    f, g = frequencies(size, 5e5), frequencies(size, 5e5, {**LLAMA3, "factor": factor})
    same, less = np.isclose(g, f, rtol=1e-12), np.isclose(g, f / factor, rtol=1e-12)
    assert same.sum() == unchanged and less.sum() == divided
    assert (same.argmin(), less.argmax()) == (unchanged, size // 2 - divided)


def test_llama3_is_metas_rule_of_three_branches():
    f, orig = frequencies(64, 5e5), 8192
    wavelength = 2 * math.pi / f
    smooth = (orig / wavelength - 1) / (4 - 1)
    branches = np.where(wavelength < orig / 4, f, np.where(wavelength > orig / 1, f / 32, (1 - smooth) * f / 32 + smooth * f))
    np.testing.assert_allclose(frequencies(64, 5e5, LLAMA3), branches, rtol=1e-12)


def test_yarn_of_deepseek():
    assert yarn_range(64, 10000.0, YARN) == (10, 23)
    f, g = frequencies(64), frequencies(64, 10000.0, YARN)
    np.testing.assert_allclose(g[:11], f[:11])
    np.testing.assert_allclose(g[23:], f[23:] / 40)
    assert (np.diff((g / f)[10:24]) < 0).all()
    assert round(magnitude(40, 1.0) ** 2, 4) == 1.8739 and round(magnitude(40, 0.707) ** 2, 4) == 1.5896


def test_yarn_scales_the_tables_once():
    assert table_factor({**YARN, "mscale": 0.7, "mscale_all_dim": 0.7}) == 1
    assert table_factor(YARN) == pytest.approx(0.1 * math.log(40) + 1)
    assert table_factor({**YARN, "attention_factor": 2.0}) == 2.0
    assert RotaryPositions(8, scaling=YARN).at(np.array([0])).cos[0] == pytest.approx(magnitude(40))
    assert table_factor(None) == table_factor(LLAMA3) == 1


def test_linear_scaling_divides_the_positions():
    plain, linear = RotaryPositions(8), RotaryPositions(8, scaling={"type": "linear", "factor": 4.0})
    np.testing.assert_allclose(linear.at(np.array([8]), np.float64).cos, plain.at(np.array([2]), np.float64).cos, rtol=1e-12)


@pytest.mark.parametrize("scaling, message", [
    ({"rope_type": "longrope"}, "'longrope'; known are default, linear, llama3, yarn"), ({"rope_type": "linear"}, "'linear' needs factor"),
    ({"type": "llama3", "factor": 8.0}, "needs low_freq_factor, high_freq_factor, original_max_position_embeddings")])
def test_scalings_that_are_unknown_or_incomplete(scaling, message):
    with pytest.raises(UserError, match=message):
        checked_scaling(scaling)


def test_a_head_of_odd_size_is_refused():
    with pytest.raises(UserError, match="size 5.*even"):
        RotaryPositions(5)
