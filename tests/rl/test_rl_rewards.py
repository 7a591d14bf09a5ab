import numpy as np
import pytest

from tinyllm import gradcheck, ops
from tinyllm.errors import UserError
from tinyllm.rl import Normaliser, accuracy, calibration, last_index, last_token_scores, ranking_loss, reward_loss
from worked import close, slopes, worked

INPUTS, OUTPUTS = worked("10_reward_model")
CHOSEN, REJECTED = OUTPUTS["scores"][:2], OUTPUTS["scores"][2:]
OPTIONS = {"bt": {}, "bt_margin": {"margin": INPUTS["margin"]}, "bt_center0.01": {"center": 0.01}}


def test_the_score_is_read_at_the_last_token_that_is_no_padding():
    mask = INPUTS["tokens"] != INPUTS["pad"]
    assert (last_index(mask) == OUTPUTS["last_index"]).all()
    close(last_token_scores(INPUTS["token_scores"], mask), OUTPUTS["scores"])


@pytest.mark.parametrize("name", OPTIONS)
def test_the_loss_equals_the_worked_example(name):
    value, grads = slopes(lambda c, r: reward_loss(c, r, **OPTIONS[name]), CHOSEN, REJECTED)
    close(value, OUTPUTS[name]["loss"])
    close(grads[0], OUTPUTS[name]["grad_chosen"])
    close(grads[1], OUTPUTS[name]["grad_rejected"])
    assert gradcheck(lambda c, r: reward_loss(c, r, **OPTIONS[name])[0], [CHOSEN, REJECTED]).ok


def test_metrics_and_normalisation_equal_the_worked_example():
    _, info = reward_loss(CHOSEN, REJECTED)
    assert info["accuracy"] == OUTPUTS["accuracy"]
    close(info["margin"], OUTPUTS["margin_mean"])
    expected = OUTPUTS["gain_bias_to_mean0_std1"]
    normaliser = Normaliser.fit(OUTPUTS["scores"])
    close([normaliser.gain, normaliser.bias], [expected["gain"], expected["bias"]])
    close(normaliser(OUTPUTS["scores"]), expected["normalised"])


def test_a_ranking_of_two_is_a_comparison_and_of_three_three_of_them():
    close(ranking_loss(np.stack([CHOSEN, REJECTED], axis=1)), reward_loss(CHOSEN, REJECTED)[0].numpy())
    pairs = [reward_loss([a], [b])[0].item() for a, b in ((2.0, 1.0), (2.0, 0.5), (1.0, 0.5))]
    close(ranking_loss([[2.0, 1.0, 0.5]]), np.mean(pairs), tolerance=1e-7)      # Python numbers are float32 here
    assert gradcheck(lambda s: ranking_loss(s), [np.array([[2.0, 1.0, 0.5], [0.3, 0.1, 0.2]])]).ok


def test_a_large_difference_neither_overflows_nor_vanishes():
    with np.errstate(all="raise", under="ignore"):
        value, grads = slopes(lambda c, r: reward_loss(c, r), [-1000.0], [1000.0])
    assert value == 2000.0 and grads[0].item() == -1.0


def test_calibration_of_a_model_that_tells_the_truth():
    rng = np.random.default_rng(0)
    difference = rng.normal(size=20_000) * 2
    right = rng.random(20_000) < 1 / (1 + np.exp(-np.abs(difference)))
    signed = np.where(right, np.abs(difference), -np.abs(difference))
    rows = calibration(signed, np.zeros(20_000), bins=4)
    assert sum(row[2] for row in rows) == 20_000
    for _, _, count, predicted, share in rows:
        assert abs(predicted - share) < 4 * np.sqrt(0.25 / count)      # four standard errors


def test_a_tie_is_not_a_win():
    assert accuracy([1.0, 2.0], [1.0, 1.0]) == 0.5


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="B at least 1"):
        reward_loss([], [])
    with pytest.raises(UserError, match="margin -1"):
        reward_loss([1.0], [0.0], margin=-1)
    with pytest.raises(UserError, match="all padding"):
        last_token_scores([[1.0]], [[0]])
    with pytest.raises(UserError, match="all equal"):
        Normaliser.fit([1.0, 1.0])
    with pytest.raises(UserError, match="K at least 2"):
        ranking_loss([[1.0]])
