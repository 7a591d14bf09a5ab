import numpy as np
import pytest

from tinyllm import gradcheck
from tinyllm.errors import UserError
from tinyllm.rl import grpo_loss, kl, ppo_loss, reinforce_loss, value_loss
from worked import close, slopes, worked

PPO = {"clip_0.2": {}, "clip_low0.2_high0.28": {"clip_high": 0.28}, "dual_clip_c1.1": {"dual_clip": 1.1}}


@pytest.mark.parametrize("name", PPO)
@pytest.mark.parametrize("aggregation, suffix", [("bnpo", "token_mean"), ("grpo", "seq_mean")])
def test_ppo_equals_the_worked_example(name, aggregation, suffix):
    inputs, outputs = worked("06_ppo")
    expected, infos = outputs[name], []

    def loss(logps):
        result = ppo_loss(logps, inputs["old_logps"], inputs["advantages"], inputs["mask"], aggregation=aggregation, **PPO[name])
        infos.append(result[1])
        return result

    value, (grad,) = slopes(loss, inputs["new_logps"])
    close(value, expected[f"loss_{suffix}"])
    close(grad, expected[f"grad_{suffix}"])
    close(infos[0]["clip_fraction"], expected["clipfrac"])
    close(infos[0]["ratio_mean"], outputs["metrics"]["ratio_mean"])
    close(infos[0]["approx_kl"], outputs["metrics"]["approx_kl_k3"])


def test_the_value_loss_equals_the_worked_example():
    inputs, outputs = worked("06_ppo")
    expected = outputs["value_clip_0.2"]
    arguments = inputs["old_values"], inputs["returns"], inputs["mask"]
    value, (grad,) = slopes(lambda v: value_loss(v, *arguments, clip=inputs["cliprange_value"]), inputs["new_values"])
    close(value, expected["loss"])
    close(grad, expected["grad"])
    _, info = value_loss(inputs["new_values"], *arguments, clip=0.2)
    close(info["clip_fraction"], expected["clipfrac"])
    close(info["unclipped_loss"], expected["unclipped_loss"])
    close(value_loss(inputs["new_values"], *arguments, clip=None)[0], expected["unclipped_loss"])
    policy = ppo_loss(inputs["new_logps"], inputs["old_logps"], inputs["advantages"], inputs["mask"])[0]
    close(policy + 0.1 * value, outputs["total_vf_coef_0.1"])


GRPO = {"grpo": {"loss_type": "grpo"}, "bnpo": {"loss_type": "bnpo"}, "dapo": {}, "dapo_num_items_40": {"num_tokens": 40},
        "dr_grpo_L8": {"loss_type": "dr_grpo", "max_completion_length": 8}, "dapo_clip_higher_0.28": {"clip_high": 0.28},
        "grpo_beta0.1": {"loss_type": "grpo", "beta": 0.1}, "dapo_beta0.1_kl_is": {"beta": 0.1, "kl_correction": True},
        "dapo_clip_higher_0.25": {"clip_high": 0.25}, "gspo_eps0.05": {"loss_type": "gspo", "clip": 0.05},
        "cispo_max1.3": {"loss_type": "cispo", "eps_max": 1.3}, "sapo": {"loss_type": "sapo"},
        "grpo_onpolicy": {"loss_type": "grpo"}, "dapo_onpolicy": {},
        "dr_grpo_L8_onpolicy": {"loss_type": "dr_grpo", "max_completion_length": 8}}


def grpo_call(inputs, options, old=None, mask=None):
    options = {**options, "ref_logps": inputs["ref_logps"]} if options.get("beta") else options
    old, mask = inputs["old_logps"] if old is None else old, inputs["mask"] if mask is None else mask
    return lambda logps: grpo_loss(logps, old, inputs["advantages"], mask, **options)


@pytest.mark.parametrize("name", GRPO)
def test_grpo_and_its_successors_equal_the_worked_example(name):
    inputs, outputs = worked("08_grpo_losses")
    old = inputs["new_logps"] if "onpolicy" in name else None
    value, (grad,) = slopes(grpo_call(inputs, GRPO[name], old), inputs["new_logps"])
    close(value, outputs[name]["loss"])
    close(grad, outputs[name]["grad"])


def test_delta_bounds_the_one_ratio_that_grew_against_its_advantage():
    """In the worked batch of 14 tokens only r = exp(0.27) with A = -0.9 is above 1.25 and not clipped."""
    inputs, outputs = worked("08_grpo_losses")
    value, (grad,) = slopes(grpo_call(inputs, {"delta": 1.25}), inputs["new_logps"])
    close(value, outputs["dapo"]["loss"] - 0.9 * (np.exp(0.27) - 1.25) / 14)
    expected = outputs["dapo"]["grad"].copy()
    expected[3, 1] = 0.0
    close(grad, expected)


def test_clip_fractions_of_both_sides():
    inputs, outputs = worked("08_grpo_losses")
    _, info = grpo_call(inputs, {})(inputs["new_logps"])
    close(info["clip_low"], outputs["metrics_eps0.2"]["clip_low"])
    close(info["clip_high"], outputs["metrics_eps0.2"]["clip_high"])


@pytest.mark.parametrize("name, options", [
    ("grpo_mean_over_4_rows", {"loss_type": "grpo"}), ("grpo_mean_over_3_nonempty_rows", {"loss_type": "grpo", "empty_rows": "drop"}),
    ("dapo", {}), ("dr_grpo_L8", {"loss_type": "dr_grpo", "max_completion_length": 8})])
def test_a_row_masked_as_truncated(name, options):
    inputs, _ = worked("08_grpo_losses")
    more, outputs = worked("08b_truncated_masked")
    close(grpo_call(inputs, options, mask=more["mask"])(inputs["new_logps"])[0], outputs[name])


# ---- gradients against finite differences, away from kinks

OLD, ADVANTAGES = np.array([[-1.0, -0.6, -1.4], [-0.5, -1.1, -0.3]]), np.array([[1.2, 0.7, -0.5], [-0.8, 0.4, -1.1]])
NEW = OLD + np.array([[0.05, 0.4, -0.5], [-0.1, 0.07, 0.3]])      # ratios on both sides of, and well inside, [0.8, 1.2]
MASK = np.array([[1, 1, 1], [1, 1, 0]])


@pytest.mark.parametrize("options", [{}, {"clip_high": 0.28}, {"dual_clip": 3.0}, {"dual_clip": 1.1}, {"aggregation": "grpo"}], ids=str)
def test_gradcheck_ppo(options):
    assert gradcheck(lambda logps: ppo_loss(logps, OLD, ADVANTAGES, MASK, **options)[0], [NEW]).ok


@pytest.mark.parametrize("options", [{"delta": 1.25}, *(o for name, o in GRPO.items() if "policy" not in name and "cispo" not in name)],
                         ids=str)
def test_gradcheck_grpo(options):
    options = {**options, "ref_logps": OLD - 0.3} if options.get("beta") else options
    assert gradcheck(lambda logps: grpo_loss(logps, OLD, ADVANTAGES, MASK, **options)[0], [NEW]).ok


def test_cispo_holds_the_ratio_constant():
    """Its gradient is that of the sum of -min(r, eps_max) A logp with r a number, so finite differences of that agree."""
    weight = np.minimum(np.exp(NEW - OLD), 1.3)
    _, (grad,) = slopes(lambda logps: grpo_loss(logps, OLD, ADVANTAGES, MASK, loss_type="cispo", eps_max=1.3), NEW)
    close(grad, -weight * ADVANTAGES * MASK / MASK.sum())


def test_gradcheck_value_reinforce_and_kl():
    old, returns = np.array([[0.5, 0.2, 0.0], [1.0, 0.1, 0.3]]), np.array([[1.0, 0.3, 0.2], [0.6, 0.9, 0.3]])
    assert gradcheck(lambda v: value_loss(v, old, returns, MASK)[0], [old + np.array([[0.4, -0.1, -0.5], [0.1, 0.3, 0.0]])]).ok
    assert gradcheck(lambda logps: reinforce_loss(logps, ADVANTAGES, MASK), [NEW]).ok
    for kind in ("k1", "k2", "k3"):
        assert gradcheck(lambda logps: kl(logps, OLD, kind).sum(), [NEW]).ok


# ---- at the kinks, where finite differences have nothing to say

def ratio_gradient(ratio, advantage, **options):
    """d loss / d logp of one token whose ratio is `ratio` to the last bit."""
    old = -np.log(ratio)
    for nudge in (0.0, 2e-16, -2e-16, 4e-16, -4e-16):
        if np.exp(0.0 - (old + nudge)) == ratio:
            old += nudge
            break
    else:
        raise AssertionError(f"no float64 has exp {ratio}")
    return slopes(lambda logps: ppo_loss(logps, [[old]], [[advantage]], [[1]], **options), [[0.0]])[1][0].item()


def test_on_the_bound_of_the_clip_the_gradient_passes():
    assert ratio_gradient(1.5, 1.0, clip=0.5) == -1.5
    assert ratio_gradient(0.5, -1.0, clip=0.5) == 0.5
    assert ratio_gradient(1.5, -1.0, clip=0.5) == 1.5           # this side is not clipped at all
    assert ratio_gradient(0.5, 1.0, clip=0.5) == -0.5
    assert slopes(lambda l: grpo_loss(l, [[-np.log(2.0)]], [[-1.0]], [[1]], clip=0.5, delta=2.0), [[0.0]])[1][0].item() == 2.0


def test_just_beyond_the_bound_it_does_not():
    above = slopes(lambda l: ppo_loss(l, [[0.0]], [[1.0]], [[1]], clip=0.5), [[np.log(1.5) + 1e-9]])[1][0].item()
    below = slopes(lambda l: ppo_loss(l, [[0.0]], [[-1.0]], [[1]], clip=0.5), [[np.log(0.5) - 1e-9]])[1][0].item()
    assert (above, below) == (0.0, 0.0)


def test_where_the_dual_clip_meets_the_loss_they_share_the_gradient():
    assert ratio_gradient(2.0, -1.0, clip=0.5, dual_clip=2.0) == 0.5 * 2.0


def test_the_value_loss_shares_where_both_branches_are_equal():
    """v = 1 and its clipped self 0.5 are as far from the return 0.75: half of v - ret, and half of 0."""
    assert slopes(lambda v: value_loss(v, [[0.0]], [[0.75]], [[1]], clip=0.5), [[1.0]])[1][0].item() == 0.5 * 0.25
    assert slopes(lambda v: value_loss(v, [[0.5]], [[0.75]], [[1]], clip=0.5), [[1.0]])[1][0].item() == 0.25    # on the bound: passes


def test_where_the_advantage_is_zero_nothing_moves():
    assert ratio_gradient(1.5, 0.0, clip=0.2) == 0.0


@pytest.mark.parametrize("options, message", [
    ({"loss_type": "ppo"}, "there are grpo, bnpo, dapo"), ({"clip": 1.5}, "0 < clip < 1"),
    ({"loss_type": "gspo", "aggregation": "dapo"}, "weigh completions by their length"),
    ({"loss_type": "grpo", "aggregation": "dapo"}, "the loss type is the aggregation"),
    ({"aggregation": "mean"}, "aggregation 'mean'"), ({"delta": 1.1}, "must be above 1.2"),
    ({"delta": 4.0, "loss_type": "cispo"}, "no such branch"),
    ({"beta": 0.1}, "ref_logps is missing"), ({"kl_kind": "k1"}, "gradient 0 on average"), ({"kl_kind": "k9"}, "kl_kind 'k9'"),
    ({"beta": -1.0}, "expected 0"), ({"kl_correction": True}, "beta is 0"), ({"loss_type": "dr_grpo"}, "max_completion_length=None"),
    ({"loss_type": "dr_grpo", "max_completion_length": 2}, "the longest here has 3 tokens"), ({"empty_rows": "none"}, "empty_rows")])
def test_options_that_contradict_each_other_are_refused_with_the_reason(options, message):
    with pytest.raises(UserError, match=message):
        grpo_loss(NEW, OLD, ADVANTAGES, MASK, **options)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(UserError, match=r"expected \(B, T\)"):
        ppo_loss(NEW[0], OLD[0], ADVANTAGES[0], MASK[0])
    with pytest.raises(UserError, match=r"mask of shape \(3,\); expected \(2, 3\)"):
        ppo_loss(NEW, OLD, ADVANTAGES, MASK[0])
    with pytest.raises(UserError, match="expected .2, 3. for the first"):
        ppo_loss(NEW, OLD, np.ones(3), MASK)
    with pytest.raises(UserError, match="dual_clip is 0.5"):
        ppo_loss(NEW, OLD, ADVANTAGES, MASK, dual_clip=0.5)
    with pytest.raises(UserError, match="value_loss: clip 0"):
        value_loss(NEW, OLD, OLD, MASK, clip=0)
