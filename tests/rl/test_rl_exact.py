import numpy as np
import pytest

from tinyllm import Generator
from tinyllm.errors import UserError
from tinyllm.models import GPT, GPTConfig
from tinyllm.rl import enumerate
from tinyllm.rl.exact import Tabular
from worked import close


def count_ones(completion):
    return float(sum(token == 1 for token in completion)) + 0.5 * (completion[0] == 2)


@pytest.fixture(scope="module")
def lab():
    return enumerate(Tabular(3, 2, Generator(0)), count_ones, length=2, reference=Tabular(3, 2, Generator(1)))


def test_probabilities_sum_to_one_and_the_uniform_policy_is_known():
    even = enumerate(Tabular(3, 3), count_ones, length=3)
    assert len(even.completions) == 27
    close(even.probabilities, 1 / 27)
    close(even.expected_reward, 3 * (1 / 3) + 0.5 / 3)
    close(even.entropy, 3 * np.log(3))
    assert even.kl == pytest.approx(0, abs=1e-12)


def test_an_end_token_makes_completions_of_every_length():
    ended = enumerate(Tabular(3, 2), lambda y: float(len(y)), length=2, end_id=0)
    assert sorted(row[keep].tolist() for row, keep in zip(ended.completions, ended.mask)) == [
        [0], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]]
    close(ended.probabilities.sum(), 1.0)
    close(ended.expected_reward, 1 / 3 + 2 * 2 / 3)


@pytest.mark.parametrize("quantity", ["reward", "objective"])
def test_exact_gradients_agree_with_finite_differences(quantity):
    policy, reference = Tabular(3, 2, Generator(0)), Tabular(3, 2, Generator(1))
    value = lambda lab: lab.expected_reward - (0.3 * lab.kl if quantity == "objective" else 0.0)
    lab = enumerate(policy, count_ones, length=2, reference=reference)
    gradient = lab.gradient if quantity == "reward" else lab.objective_gradient(0.3)
    numeric = np.empty_like(gradient)
    flat = policy.logits.data.reshape(-1)
    for i in range(flat.size):
        ends = []
        for step in (1e-5, -1e-5):
            flat[i] += step
            ends.append(value(enumerate(policy, count_ones, length=2, reference=reference)))
            flat[i] -= step
        numeric[i] = (ends[0] - ends[1]) / 2e-5
    np.testing.assert_allclose(gradient, numeric, atol=1e-9)


def test_the_optimal_policy_has_gradient_zero_and_nothing_left_to_gain(lab):
    beta = 0.7
    best = Tabular(3, 2)
    optimal = lab.optimal(beta).reshape(3, 3)
    best.logits.data[0] = np.log(optimal.sum(axis=1))
    best.logits.data[1:] = np.log(optimal)
    reached = enumerate(best, count_ones, length=2, reference=Tabular(3, 2, Generator(1)))
    close(reached.probabilities, lab.optimal(beta))
    close(reached.objective_gradient(beta), 0.0)
    close(reached.kl_to_optimal(beta), 0.0)
    gain = lambda exact: exact.expected_reward - beta * exact.kl
    close(gain(reached) - gain(lab), beta * lab.kl_to_optimal(beta))      # the gap is β KL(π‖π*), for every π


@pytest.mark.parametrize("name, group_size", [("reinforce", 1), ("reinforce", 2), ("rloo", 2), ("rloo", 3), ("ppo", 2)])
def test_unbiased_estimators_have_the_exact_gradient_as_their_mean(lab, name, group_size):
    close(lab.estimate(name, group_size)["mean"], lab.gradient)


@pytest.mark.parametrize("group_size", [2, 3])
def test_a_group_mean_with_oneself_in_it_shrinks_the_gradient_by_one_in_g(lab, group_size):
    row = lab.estimate("dr_grpo", group_size)
    close(row["mean"], lab.gradient * (group_size - 1) / group_size)
    close(row["cosine"], 1.0)


def test_dividing_by_the_standard_deviation_bends_the_gradient(lab):
    assert lab.estimate("grpo", 3)["cosine"] < 0.999


def test_a_baseline_lowers_the_spread(lab):
    """Against a reward that is far from zero, as the baseline is there to remove."""
    far = enumerate(Tabular(3, 2, Generator(0)), lambda y: 10 + count_ones(y), length=2)
    assert far.estimate("rloo", 2)["spread"] < 0.3 * far.estimate("reinforce", 2)["spread"]


def test_one_sample_of_reinforce_has_the_variance_of_the_definition(lab):
    """Var = Σ π |r ∇log π|² - |∇J|²."""
    slopes = lab.scores.sum(axis=1) * lab.rewards[:, None]
    variance = lab.probabilities @ (slopes ** 2).sum(axis=1) - lab.gradient @ lab.gradient
    row = lab.estimate("reinforce", 1)
    close(row["spread"], np.sqrt(variance) / np.linalg.norm(lab.gradient))


def test_clipping_off_policy_biases_and_on_policy_does_not(lab):
    old = enumerate(Tabular(3, 2, Generator(5)), count_ones, length=2)
    assert lab.estimate("ppo", 2, old=old)["bias"] > 0.1
    close(lab.estimate("ppo", 2, old=old, clip=0.999999)["bias"] < lab.estimate("ppo", 2, old=old, clip=0.01)["bias"], True)


def test_a_model_is_a_policy_too_and_its_gradients_are_left_alone():
    model = GPT(GPTConfig(vocab_size=4, n_layer=1, n_head=1, n_embd=4, block_size=4), Generator(0))
    lab = enumerate(model, count_ones, length=2)
    assert lab.probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert lab.scores.shape == (16, 2, model.num_params())
    assert all(p.grad is None for p in model.parameters())


def test_the_table_lists_every_estimator(lab):
    lines = lab.table().splitlines()
    assert [line.split()[0] for line in lines] == ["estimator", "reinforce", "rloo", "dr_grpo", "grpo", "ppo"]


def test_what_is_too_large_is_refused(lab):
    with pytest.raises(UserError, match="1,000,000 completions"):
        enumerate(Tabular(10, 1), count_ones, length=6)
    with pytest.raises(UserError, match="at most 200,000"):
        lab.estimate("rloo", 7)
    with pytest.raises(UserError, match="beta is 0"):
        lab.optimal(0)
    with pytest.raises(UserError, match="estimator 'sarsa'"):
        lab.estimate("sarsa")
    with pytest.raises(UserError, match="group_size is 1"):
        lab.estimate("rloo", 1)
