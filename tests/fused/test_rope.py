"""Rotary positions: lengths are kept, and scores depend on the distance alone."""

import numpy as np
import pytest

from tinyllm.fused import rope, rope_tables

layouts = pytest.mark.parametrize("interleaved", [True, False])


def turned(x, position, interleaved):
    cos, sin = rope_tables(64, x.size, dtype=np.float64)
    return rope(x[None], cos[position:position + 1], sin[position:position + 1], interleaved=interleaved).numpy()[0]


@layouts
def test_lengths_are_kept_and_position_zero_changes_nothing(interleaved):
    x = np.random.default_rng(0).normal(size=8)
    assert np.array_equal(turned(x, 0, interleaved), x)
    assert np.linalg.norm(turned(x, 13, interleaved)) == pytest.approx(np.linalg.norm(x), rel=1e-14)


@layouts
def test_scores_depend_on_the_distance(interleaved):
    query, key = np.random.default_rng(0).normal(size=(2, 8))
    scores = [turned(query, 5 + shift, interleaved) @ turned(key, 2 + shift, interleaved) for shift in (0, 1, 40)]
    np.testing.assert_allclose(scores, scores[0], rtol=1e-12)
    assert abs(turned(query, 6, interleaved) @ turned(key, 2, interleaved) - scores[0]) > 1e-3


def test_the_two_layouts_are_one_rotation_of_permuted_numbers():
    x = np.random.default_rng(0).normal(size=8)
    halves = turned(x.reshape(4, 2).T.reshape(8), 7, False)
    np.testing.assert_allclose(halves.reshape(2, 4).T.reshape(8), turned(x, 7, True), rtol=1e-14)


def test_frequencies_fall_from_one_to_almost_one_over_theta():
    cos, sin = rope_tables(2, 8, theta=10000.0, dtype=np.float64)
    np.testing.assert_allclose(np.arctan2(sin[1], cos[1]), [1, 1e-1, 1e-2, 1e-3], rtol=1e-12)


def test_misuse_is_explained():
    cos, sin = rope_tables(4, 8)
    with pytest.raises(ValueError, match=r"x \(3, 8\) with tables \(4, 4\) .* here \(3, 4\): cut the tables"):
        rope(np.zeros((3, 8)), cos, sin)
    with pytest.raises(ValueError, match="size=7; .* even"):
        rope_tables(4, 7)
