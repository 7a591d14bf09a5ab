import numpy as np
import pytest

from tinyllm import gradcheck
from tinyllm.errors import UserError
from tinyllm.rl import dpo_loss, kto_loss, orpo_loss, simpo_loss
from worked import close, slopes, worked

INPUTS, OUTPUTS = worked("09_preference")
POLICY = INPUTS["policy_chosen"], INPUTS["policy_rejected"]
REFERENCE = INPUTS["ref_chosen"], INPUTS["ref_rejected"]
LENGTHS = INPUTS["len_chosen"], INPUTS["len_rejected"]
AVERAGED = {"chosen_lengths": LENGTHS[0], "rejected_lengths": LENGTHS[1]}

LOSSES = {
    "sigmoid": lambda c, r: dpo_loss(c, r, *REFERENCE),
    "hinge": lambda c, r: dpo_loss(c, r, *REFERENCE, kind="hinge"),
    "ipo_sum": lambda c, r: dpo_loss(c, r, *REFERENCE, kind="ipo"),
    "ipo_avg": lambda c, r: dpo_loss(c, r, *REFERENCE, kind="ipo_avg", **AVERAGED),
    "cdpo_ls0.1": lambda c, r: dpo_loss(c, r, *REFERENCE, label_smoothing=0.1),
    "robust_ls0.1": lambda c, r: dpo_loss(c, r, *REFERENCE, kind="robust", label_smoothing=0.1),
    "reference_free_sigmoid": lambda c, r: dpo_loss(c, r),
    "sigmoid_norm": lambda c, r: dpo_loss(c, r, *REFERENCE, kind="sigmoid_norm", **AVERAGED),
    "simpo_beta2_gamma0.5": lambda c, r: simpo_loss(c, r, *LENGTHS, beta=2.0, gamma=0.5),
    "orpo_lambda0.1": lambda c, r: orpo_loss(c, r, *LENGTHS, INPUTS["orpo_chosen_nll"]),
}
UNWORKED = {    # not among the worked numbers: closed forms below
    "apo_zero": lambda c, r: dpo_loss(c, r, *REFERENCE, kind="apo_zero"),
    "apo_down": lambda c, r: dpo_loss(c, r, *REFERENCE, kind="apo_down"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_dpo_family_equals_the_worked_example(name):
    value, grads = slopes(LOSSES[name], *POLICY)
    close(value, OUTPUTS[name]["loss"])
    close(grads[0], OUTPUTS[name]["grad_chosen"])
    close(grads[1], OUTPUTS[name]["grad_rejected"])


@pytest.mark.parametrize("name", [*LOSSES, *UNWORKED])
def test_gradcheck(name):
    assert gradcheck(lambda c, r: {**LOSSES, **UNWORKED}[name](c, r)[0], [*POLICY]).ok


def test_implicit_rewards_and_accuracy():
    _, info = LOSSES["sigmoid"](*POLICY)
    for key in ("reward_chosen", "reward_rejected", "margin", "accuracy"):
        close(info[key], OUTPUTS["metrics"][key])


def test_at_the_start_policy_and_reference_are_one():
    expected = OUTPUTS["at_init_policy_equals_ref"]
    for kind in ("sigmoid", "hinge", "ipo"):
        loss, info = dpo_loss(*REFERENCE, *REFERENCE, kind=kind)
        close(loss, expected[kind])
        assert info["accuracy"] == expected["accuracy"]


def test_apo_is_what_its_formula_says():
    sigma = lambda x: 1 / (1 + np.exp(-x))
    won, lost = 0.1 * (POLICY[0] - REFERENCE[0]), 0.1 * (POLICY[1] - REFERENCE[1])
    close(UNWORKED["apo_zero"](*POLICY)[0], (1 - sigma(won) + sigma(lost)).mean())
    close(UNWORKED["apo_down"](*POLICY)[0], (sigma(won) + 1 - sigma(won - lost)).mean())


def test_the_least_cdpo_loss_is_at_the_log_odds_of_the_labels():
    """-(1-e) log s(x) - e log s(-x) has its minimum where s(x) = 1 - e."""
    best = np.log(0.9 / 0.1) / 0.1
    _, grads = slopes(lambda c, r: dpo_loss(c, r, [0.0], [0.0], label_smoothing=0.1), [best], [0.0])
    close(grads[0], [0.0])


def test_at_the_kink_of_the_hinge_the_slope_is_zero():
    _, grads = slopes(lambda c, r: dpo_loss(c, r, [0.0], [0.0], beta=0.5, kind="hinge"), [2.0], [0.0])
    assert grads[0].item() == grads[1].item() == 0.0


def kto(policy_logps, reference_logps, desirable):
    return kto_loss(policy_logps, reference_logps, desirable, INPUTS["kto_kl_policy"], INPUTS["kto_kl_ref"], beta=INPUTS["beta"])


def test_kto_equals_the_worked_example():
    expected, good = OUTPUTS["kto"], np.arange(6) < 3
    loss, info = kto(np.concatenate(POLICY), np.concatenate(REFERENCE), good)
    close(loss, expected["loss_mean_over_6"])
    close(info["kl"], expected["kl"])
    close(info["losses"], np.concatenate([expected["chosen_losses"], expected["rejected_losses"]]))
    assert gradcheck(lambda logps: kto(logps, np.concatenate(REFERENCE), good)[0], [np.concatenate(POLICY)]).ok


def test_kto_does_not_let_the_reference_point_fall_below_zero():
    _, info = kto_loss([-1.0], [-1.0], [True], [-2.0], [-1.0])
    assert info["kl"] == 0.0


@pytest.mark.parametrize("options, message", [
    ({"kind": "dpo"}, "there are sigmoid"), ({"beta": 0}, "expected a number above 0"), ({"label_smoothing": 0.5}, "not including, 0.5"),
    ({"kind": "hinge", "label_smoothing": 0.1}, "no meaning for 'hinge'"), ({"kind": "robust"}, "is sigmoid"),
    ({"kind": "ipo_avg"}, "give chosen_lengths"), ({"kind": "ipo", **AVERAGED}, "has no use for lengths")])
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        dpo_loss(*POLICY, *REFERENCE, **options)


def test_pairs_that_are_none_are_refused():
    with pytest.raises(UserError, match="B at least 1"):
        dpo_loss([], [], [], [])
    with pytest.raises(UserError, match="one of ref_chosen and ref_rejected is missing"):
        dpo_loss(*POLICY, REFERENCE[0])
    with pytest.raises(UserError, match=r"shape \(1,\); expected \(3,\)"):
        dpo_loss(*POLICY, [0.0], [0.0])
    with pytest.raises(UserError, match="odds"):
        orpo_loss([0.0], [-1.0], [1], [1], 1.0)
