import numpy as np
import pytest

from tinyllm.errors import UserError
from tinyllm.rl import (gae, group_advantages, overlong_penalty, penalize_missing_end, reinforce_plus_plus, reinforce_plus_plus_baseline,
                        remax, rloo, shape_rewards, whiten, zero_signal_fraction)
from worked import close, worked


def test_shaped_rewards_equal_the_worked_example():
    inputs, outputs = worked("04_reward_shaping")
    scores = penalize_missing_end(inputs["scores"], inputs["has_eos"] == 0, inputs["missing_eos_penalty"])
    arguments = (scores, inputs["logps"], inputs["ref_logps"], inputs["mask"])
    rewards = shape_rewards(*arguments, beta=inputs["kl_coef"])
    close(rewards, outputs["rewards_last_token"])
    close(rewards.sum(1), outputs["rewards_sum"])
    close(rewards.sum(1), scores - inputs["kl_coef"] * outputs["seq_kl_k1"])
    close(shape_rewards(*arguments, beta=inputs["kl_coef"], place="after_end"), outputs["rewards_trl_p1"])


@pytest.mark.parametrize("gamma, lam", [(1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (1.0, 0.0)])
def test_gae_and_whitening_equal_the_worked_example(gamma, lam):
    inputs, outputs = worked("05_gae")
    expected = outputs[f"gamma_{gamma}_lam_{lam}"]
    advantages, returns = gae(inputs["rewards"], inputs["values"], inputs["mask"], gamma, lam)
    close(advantages, expected["advantages"])
    close(returns, expected["returns"])
    for ddof in (0, 1):
        close(whiten(advantages, inputs["mask"], ddof=ddof), expected[f"whitened_ddof{ddof}"])


def test_gae_steps_over_masked_tokens_in_between():
    inputs, outputs = worked("05_gae")
    interior, expected = inputs["interior"], outputs["interior_mask_gamma_0.9_lam_0.8"]
    advantages, returns = gae(interior["rewards"], interior["values"], interior["mask"], 0.9, 0.8)
    close(advantages, expected["advantages"])
    close(returns, expected["returns"])
    kept = interior["mask"][0] == 1
    short = gae(interior["rewards"][:, kept], interior["values"][:, kept], np.ones((1, 3)), 0.9, 0.8)
    close(short[0][0], advantages[0][kept])


def test_whitening_may_keep_the_mean():
    inputs, outputs = worked("05_gae")
    close(whiten(inputs["rewards"], inputs["mask"], shift_mean=False), outputs["whiten_rewards_keep_mean_ddof1"])


def test_gae_at_its_ends():
    rewards, values, mask = np.array([[0.0, 0.0, 2.0]]), np.array([[0.5, 0.7, 0.9]]), np.ones((1, 3))
    close(gae(rewards, values, mask, 1.0, 1.0)[0], [[1.5, 1.3, 1.1]])         # reward to come minus value
    close(gae(rewards, values, mask, 1.0, 0.0)[0], [[0.2, 0.2, 1.1]])         # one-step difference
    close(gae(rewards, 0 * values, mask, 1.0, 1.0)[0], [[2.0, 2.0, 2.0]])     # an outcome reward without a baseline


@pytest.mark.parametrize("name, options", [
    ("grpo_ddof1_eps1e_4", {}), ("grpo_ddof0_eps1e_4", {"ddof": 0}), ("grpo_ddof1_eps1e_6", {"eps": 1e-6}),
    ("scale_batch_eps1e_4", {"scale": "batch"}), ("scale_none_dr_grpo", {"scale": "none"})])
def test_group_advantages_equal_the_worked_example(name, options):
    inputs, outputs = worked("07_advantages")
    size = inputs["num_generations"]
    close(group_advantages(inputs["rewards"], size, **options), outputs[name])
    close(group_advantages(inputs["rewards"].ravel(), size, **options), outputs[name].ravel())


def test_baselines_of_the_reinforce_family_equal_the_worked_example():
    inputs, outputs = worked("07_advantages")
    rewards, size = inputs["rewards"], inputs["num_generations"]
    close(rloo(rewards, size), outputs["rloo"])
    close(rloo(rewards, size), outputs["rloo_equals_centered_times"] * group_advantages(rewards, size, scale="none"))
    close(remax(rewards, inputs["greedy_rewards"], size), outputs["remax"])
    assert zero_signal_fraction(rewards, size) == outputs["frac_zero_std"]


def test_reinforce_plus_plus_equals_the_worked_example():
    inputs, outputs = worked("07_advantages")
    lengths = inputs["lengths"].ravel().astype(int)
    mask = np.arange(lengths.max()) < lengths[:, None]
    logps = np.zeros(mask.shape)
    token_rewards = shape_rewards(inputs["rewards"].ravel(), logps, logps, mask)
    close(reinforce_plus_plus(token_rewards, mask), outputs["reinforce_pp_gamma1"])
    close(reinforce_plus_plus_baseline(inputs["rewards"], mask, 4), outputs["reinforce_pp_baseline"])


def test_the_overlong_penalty_equals_the_worked_example():
    inputs, outputs = worked("11_controllers")
    overlong = inputs["overlong"]
    close(overlong_penalty(overlong["lengths"], overlong["max_len"], overlong["cache"]), outputs["overlong_penalty"])


def test_a_reward_that_is_not_known_is_left_out_of_its_group():
    nan = np.nan
    close(group_advantages([1.0, 0.0, nan, 0.5], 4, scale="none"), [0.5, -0.5, 0.0, 0.0])
    close(group_advantages([nan, nan, 1.0, 0.0], 2, scale="none"), [0.0, 0.0, 0.5, -0.5])
    with pytest.raises(UserError, match="infinite"):
        group_advantages([np.inf, 0.0], 2)


@pytest.mark.parametrize("call, message", [
    (lambda: group_advantages([1.0, 2.0], 1), "expected 2 or more"),
    (lambda: group_advantages([1.0, 2.0, 3.0], 2), "3 rewards do not make groups of 2"),
    (lambda: group_advantages([1.0, 2.0], 2, scale="row"), "scale 'row'"),
    (lambda: whiten(np.ones((1, 2)), [[1, 0]]), "needs 2"),
    (lambda: penalize_missing_end([1.0], [True], -1), "above 0"),
    (lambda: shape_rewards([1.0], [[0.0]], [[0.0]], [[0]]), "row 0 has no token"),
    (lambda: overlong_penalty([1], 4, 5), "0 < cache <= max_length"),
    (lambda: gae([[1.0]], [[0.0]], [[0.5]], 1, 1), "other than 0 and 1")])
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
