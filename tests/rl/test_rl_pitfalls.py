"""Twenty-six ways in which code of this kind has gone wrong in public, each as a test; this file holds those of the maths.

The numbers are those of `test_rl_pitfalls_training.py`, which holds the ones that need a model: 2, 8, 17 (learning to stop),
20, 23, 24 and 26.
"""

import numpy as np
import pytest

from tinyllm import Tensor, ops
from tinyllm.errors import UserError
from tinyllm.rl import (completion_logps, completion_mask, dpo_loss, gae, group_advantages, grpo_loss, kl, ppo_loss, reinforce_loss,
                        shape_rewards, token_logps, value_loss, whiten)
from worked import close, slopes, worked

RNG = np.random.default_rng(0)
OLD = RNG.normal(-1.0, 0.3, size=(4, 5))
NEW = OLD + RNG.normal(0.0, 0.3, size=OLD.shape)
REF = OLD + RNG.normal(0.0, 0.3, size=OLD.shape)
A = np.array([1.2, -0.8, 0.5, -0.9])
MASK = np.arange(5) < np.array([[4], [3], [2], [5]])
EVERY = {"grpo": {}, "bnpo": {}, "dapo": {}, "dr_grpo": {"max_completion_length": 8}, "gspo": {}, "cispo": {}, "sapo": {}}


def loss_and_gradient(loss_type, new=NEW, old=OLD, ref=REF, advantages=A, mask=MASK, **options):
    options = {**EVERY[loss_type], "beta": 0.1, "ref_logps": ref, **options}
    value, (grad,) = slopes(lambda logps: grpo_loss(logps, old, advantages, mask, loss_type=loss_type, **options), new)
    return value, grad


def test_01_completion_token_j_is_scored_by_the_logits_before_it():
    inputs, outputs = worked("02_token_logps")
    ids = inputs["input_ids"].astype(int)
    close(completion_logps(inputs["logits"], ids, 2), outputs["temp_1.0"]["token_logps"])
    unshifted = token_logps(inputs["logits"][:, 2:], ids[:, 2:])
    close(unshifted, outputs["WRONG_no_shift_temp_1.0"])
    assert np.abs(unshifted.numpy() - outputs["temp_1.0"]["token_logps"]).max() > 0.5     # the example would notice


def test_03_on_the_first_pass_every_ratio_is_one():
    _, info = ppo_loss(OLD, OLD, A, MASK)
    assert info["ratio_mean"] == info["ratio_max"] == 1.0
    assert info["clip_fraction"] == info["approx_kl"] == info["approx_kl_k1"] == 0.0


@pytest.mark.parametrize("loss_type", EVERY)
def test_04_padding_and_regrouping_change_nothing(loss_type):
    value, grad = loss_and_gradient(loss_type)
    for before, after in ((0, 3), (3, 0)):
        wider = [np.pad(x, ((0, 0), (before, after))) for x in (NEW, OLD, REF, MASK)]
        padded_value, padded_grad = loss_and_gradient(loss_type, *wider[:3], mask=wider[3])
        close(padded_value, value)
        close(padded_grad[:, before:before + 5], grad)
    order = [2, 0, 3, 1]
    shuffled_value, shuffled_grad = loss_and_gradient(loss_type, NEW[order], OLD[order], REF[order], A[order], MASK[order])
    close(shuffled_value, value)
    close(shuffled_grad, grad[order])


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e9])
def test_05_garbage_where_the_mask_is_zero_changes_nothing(garbage):
    dirty = lambda x: np.where(MASK, x, garbage)
    with np.errstate(all="raise", under="ignore"):
        for loss_type in EVERY:
            for options in ({}, {"kl_correction": True}, {"kl_kind": "k2"}):
                value, grad = loss_and_gradient(loss_type, **options)
                per_token = np.where(MASK, A[:, None], garbage)
                dirty_value, dirty_grad = loss_and_gradient(loss_type, dirty(NEW), dirty(OLD), dirty(REF), per_token, **options)
                assert dirty_value == value
                np.testing.assert_array_equal(dirty_grad, grad)
        for function in (lambda x, o: ppo_loss(x, o, A, MASK, dual_clip=3.0), lambda x, o: value_loss(x, o, REF, MASK),
                         lambda x, o: reinforce_loss(x, A, MASK)):
            clean, soiled = slopes(lambda x: function(x, OLD), NEW), slopes(lambda x: function(x, dirty(OLD)), dirty(NEW))
            assert clean[0] == soiled[0]
            np.testing.assert_array_equal(clean[1][0], soiled[1][0])
        for pair in zip(gae(NEW, OLD, MASK, 0.9, 0.8), gae(dirty(NEW), dirty(OLD), MASK, 0.9, 0.8)):
            np.testing.assert_array_equal(*pair)
        np.testing.assert_array_equal(whiten(NEW, MASK), whiten(dirty(NEW), MASK))
        np.testing.assert_array_equal(shape_rewards(A, NEW, REF, MASK, beta=0.1), shape_rewards(A, dirty(NEW), dirty(REF), MASK, beta=0.1))


def test_06_whitening_looks_at_the_mask():
    valid = NEW[MASK]
    close(whiten(NEW, MASK)[MASK], (valid - valid.mean()) / np.sqrt(valid.var(ddof=1) + 1e-8))
    inputs, outputs = worked("06_ppo")
    _, info = ppo_loss(inputs["new_logps"], inputs["old_logps"], inputs["advantages"], inputs["mask"])
    assert info["approx_kl_k2"] != pytest.approx(outputs["metrics"]["WRONG_unmasked_k2"], rel=1e-3)


def test_07_the_temperature_divides_logits_before_the_softmax():
    z, ids = RNG.normal(size=(2, 3, 5)), RNG.integers(0, 5, size=(2, 3))
    scaled = z / 0.7
    p = np.exp(scaled) / np.exp(scaled).sum(-1, keepdims=True)
    close(token_logps(z, ids, 0.7), np.log(np.take_along_axis(p, ids[..., None], -1)[..., 0]))
    _, (grad,) = slopes(lambda logits: token_logps(logits, ids, 0.7).sum(), z)
    close(grad, (np.eye(5)[ids] - p) / 0.7)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 1e6, -2.5])
def test_09_equal_rewards_give_advantages_of_exactly_zero(value):
    for dtype in (np.float32, np.float64):
        for scale in ("group", "batch", "none"):
            advantages = group_advantages(np.full(7, value, dtype), 7, scale=scale)
            assert (advantages == 0).all()
    for loss_type in EVERY:
        assert (loss_and_gradient(loss_type, advantages=np.zeros(4), beta=0.0)[1] == 0).all()
    with pytest.raises(UserError, match="group_size is 1; expected 2 or more"):
        group_advantages([1.0], 1)


def test_10_prompts_never_share_a_baseline():
    rewards = RNG.random((3, 4))
    for scale in ("group", "batch", "none"):
        advantages = group_advantages(rewards.ravel(), 4, scale=scale).reshape(3, 4)
        order = [2, 0, 1]
        close(group_advantages(rewards[order].ravel(), 4, scale=scale).reshape(3, 4), advantages[order])
    shifted = rewards + np.array([[0.0], [100.0], [-7.0]])
    close(group_advantages(shifted, 4), group_advantages(rewards, 4))
    close(group_advantages(rewards, 4).sum(1), 0.0)


def test_11_the_ratio_is_the_exponential_of_a_difference_and_old_carries_no_gradient():
    _, info = ppo_loss([[-2.0]], [[-1.0]], [[1.0]], [[1]])
    assert info["ratio_mean"] == pytest.approx(np.exp(-1.0), rel=1e-6)
    old, new = Tensor(OLD, requires_grad=True), Tensor(NEW, requires_grad=True)
    advantages = Tensor(A, requires_grad=True)
    ppo_loss(new, old, advantages, MASK)[0].backward()
    assert old.grad is None and advantages.grad is None and new.grad is not None


@pytest.mark.parametrize("advantage, ratio, learns", [(1, 1.5, False), (1, 0.5, True), (-1, 0.5, False), (-1, 1.5, True)])
def test_12_the_lesser_objective_counts_for_both_signs(advantage, ratio, learns):
    value, (grad,) = slopes(lambda logps: ppo_loss(logps, [[0.0]], [[advantage]], [[1]]), [[np.log(ratio)]])
    close(value, -min(advantage * ratio, advantage * np.clip(ratio, 0.8, 1.2)))
    close(grad, -advantage * ratio if learns else 0.0)


def test_13_k3_looks_from_the_policy_and_k1_lowers_the_reward_of_what_has_grown():
    inputs, outputs = worked("03_kl")
    k3 = kl(inputs["logp"], inputs["ref_logp"], "k3").numpy()
    close(k3, outputs["k3"])
    assert (k3 >= 0).all() and np.abs(k3 - outputs["WRONG_k3_ratio_flipped"]).max() > 0.1
    rewards = shape_rewards([0.0], [[-0.5]], [[-1.0]], [[1]], beta=0.1)
    close(rewards, [[-0.05]])


def test_14_k1_in_the_loss_is_refused():
    with pytest.raises(UserError, match="gradient 0 on average"):
        grpo_loss(NEW, OLD, A, MASK, beta=0.1, ref_logps=REF, kl_kind="k1")


def test_16_the_score_sits_on_the_last_token_that_is_learnt_from():
    mask = np.array([[1, 1, 0, 1, 0, 0]])
    logps, ref = RNG.normal(size=(2, 1, 6))
    rewards = shape_rewards([3.0], logps, ref, mask, beta=0.1)
    close(rewards.sum(), 3.0 - 0.1 * ((logps - ref) * mask).sum())
    bare = shape_rewards([3.0], logps, ref, mask)
    close(bare, [[0, 0, 0, 3.0, 0, 0]])
    advantages, _ = gae(bare, np.zeros((1, 6)), mask, 0.0, 1.0)
    close(advantages, [[0, 0, 0, 3.0, 0, 0]])


def test_17_the_mask_keeps_the_first_end_token():
    mask, truncated = completion_mask(np.array([[5, 1, 1], [5, 5, 5]]), eos_id=1)
    assert mask.tolist() == [[True, True, False], [True, True, True]] and truncated.tolist() == [False, True]


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize("pieces", [2, 4])
def test_18_micro_batches_add_up_to_the_step(loss_type, pieces):
    value, grad = loss_and_gradient(loss_type)
    counts = {"num_tokens": MASK.sum(), "num_sequences": len(MASK)}
    parts = [loss_and_gradient(loss_type, NEW[i], OLD[i], REF[i], A[i], MASK[i], **counts) for i in np.array_split(np.arange(4), pieces)]
    close(sum(part[0] for part in parts), value)
    close(np.concatenate([part[1] for part in parts]), grad)


def test_18_bnpo_depends_on_the_micro_batches_and_is_documented_to():
    value, _ = loss_and_gradient("bnpo")
    halves = [loss_and_gradient("bnpo", NEW[i], OLD[i], REF[i], A[i], MASK[i])[0] for i in ([0, 3], [1, 2])]       # 9 and 5 tokens
    assert abs(np.mean(halves) - value) > 1e-3


def test_19_a_truncated_row_leaves_the_denominator_too():
    masked = MASK.copy()
    masked[3] = False
    for loss_type, options in (("dapo", {}), ("grpo", {"empty_rows": "drop"}), ("dr_grpo", {"empty_rows": "drop"})):
        without = loss_and_gradient(loss_type, NEW[:3], OLD[:3], REF[:3], A[:3], MASK[:3])[0]
        close(loss_and_gradient(loss_type, mask=masked, **options)[0], without)
    tokens = lambda mask: (np.maximum(-A[:, None] * np.exp(NEW - OLD), -A[:, None] * np.clip(np.exp(NEW - OLD), 0.8, 1.2)) * mask).sum()
    close(loss_and_gradient("dr_grpo", beta=0.0)[0], tokens(MASK) / (4 * 8))      # B · L_max, not L_max alone


def test_21_every_loss_type_and_kind_has_a_value_of_its_own():
    values = [loss_and_gradient(name)[0] for name in EVERY if name != "bnpo"]      # bnpo of one micro-batch is dapo
    assert len({round(value, 9) for value in values}) == len(values)
    inputs, _ = worked("09_preference")
    pairs = [inputs[name] for name in ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")]
    kinds = ("sigmoid", "hinge", "ipo", "apo_zero", "apo_down")
    assert len({round(dpo_loss(*pairs, kind=kind)[0].item(), 9) for kind in kinds}) == len(kinds)


def test_22_averages_divide_by_the_tokens_that_were_summed():
    """Three tokens at log-probability -1 and four at -2, end tokens included: averages -1 and -2, h = 1."""
    loss, _ = dpo_loss([-3.0], [-8.0], [0.0], [0.0], beta=0.5, kind="ipo_avg", chosen_lengths=[3], rejected_lengths=[4])
    close(loss, (1 - 1 / (2 * 0.5)) ** 2)
    summed, _ = dpo_loss([-3.0], [-8.0], [0.0], [0.0], beta=0.5, kind="ipo")
    close(summed, (5 - 1) ** 2)


def test_25_a_loss_of_zero_still_moves_the_policy():
    advantages = group_advantages([1.0, 0.0, 1.0, 0.0], 4)
    value, (grad,) = slopes(lambda logps: grpo_loss(logps, OLD, advantages, np.ones_like(OLD), loss_type="grpo"), OLD)
    assert abs(value) < 1e-15 and np.abs(grad).max() > 0.01


def test_policy_gradient_of_one_step_is_reinforce():
    """On samples of the policy itself every clipped loss has the slope -A at each token."""
    logits = Tensor(RNG.normal(size=(4, 5, 6)), requires_grad=True)
    ids = RNG.integers(0, 6, size=(4, 5))
    gradients = []
    for loss in (lambda l: ppo_loss(l, l, A, MASK)[0], lambda l: (ops.where(MASK, l, 0.0) * -A[:, None]).sum() / float(MASK.sum())):
        logits.grad = None
        loss(token_logps(logits, ids)).backward()
        gradients.append(logits.grad)
    close(*gradients)
