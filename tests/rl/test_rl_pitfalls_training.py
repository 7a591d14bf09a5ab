"""The pitfalls that need a model: 2, 3 (dropout), 8, 15, 17 (learning to stop), 20, 23, 24 and 26; see `test_rl_pitfalls.py`."""

import copy

import numpy as np
import pytest

from tinyllm import Generator, default_dtype
from tinyllm.engine import no_grad
from tinyllm.errors import UserError
from tinyllm.models import GPT, GPTConfig, Llama, LlamaConfig
from tinyllm.rl import encode_rows, policy_logps, sample, scored, task_tokenizer
from tinyllm.rl.grpo import GRPO, GRPOConfig
from tinyllm.rl.ppo import PPO, PPOConfig
from tinyllm.rl.rows import END, PAD
from tinyllm.rl.tasks import Reverse
from tinyllm.train.run import RunDirectory


class Stop:
    """Whoever stops at once is right; prompts of every length from 1 to 4."""

    characters, max_new_tokens = "ab", 5

    def prompt(self, rng):
        return "".join("ab"[i] for i in rng.randint(0, 2, (1 + int(rng.randint(0, 4, (1,))[0]),)))

    def reward(self, prompt, text):
        return float(text == "")


TASK = Stop()
TOKENIZER = task_tokenizer(TASK)


def policy(seed=0, dropout=0.0, spread=0.3):
    config = GPTConfig(vocab_size=TOKENIZER.vocab_size, n_layer=1, n_head=2, n_embd=16, block_size=12, dropout=dropout, init_std=spread)
    return GPT(config, Generator(seed))


def rollout_of(model, group_size=4, **options):
    return sample(model, TOKENIZER, ["a", "bab", "ab", "abab"], group_size, 5, Generator(3), **options)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
@pytest.mark.parametrize("kind", ["gpt", "llama"])
def test_02_the_sampler_and_the_scorer_agree(temperature, kind):
    """In one batch of prompts of unequal length, sampled with a cache and scored without."""
    model = policy() if kind == "gpt" else Llama(LlamaConfig(vocab_size=TOKENIZER.vocab_size, n_layer=1, n_head=2, n_kv_head=1, n_embd=16,
                                                            block_size=12, init_std=0.3), Generator(0))
    rollout = rollout_of(model.eval(), temperature=temperature)
    assert len(set(rollout.lengths)) > 1
    with no_grad():
        again = policy_logps(model, rollout, temperature).numpy()
    assert np.abs(again - rollout.old_logps).max() < 1e-5


def test_03_dropout_that_is_on_is_refused():
    model = policy(dropout=0.1)
    with pytest.raises(UserError, match="dropout is on"):
        GRPO(model, TASK, TOKENIZER, GRPOConfig())
    with pytest.raises(UserError, match="dropout is on"):
        rollout_of(model)
    rollout_of(model.eval())


def test_03_with_a_learning_rate_of_zero_every_ratio_stays_one():
    trainer = GRPO(policy(), TASK, TOKENIZER, GRPOConfig(lr=0.0, prompts=4, group_size=4, epochs=3))
    record = trainer.iteration()
    assert record["ratio_max"] == pytest.approx(1, abs=1e-5) and record["clip_fraction"] == 0 and record["approx_kl"] < 1e-9


@pytest.mark.parametrize("name, value", [("top_k", 2), ("top_p", 0.9), ("min_p", 0.1)])
def test_08_sampling_from_less_than_the_whole_distribution_is_refused(name, value):
    with pytest.raises(UserError, match=f"{name}={value}: a training rollout samples the whole distribution"):
        rollout_of(policy(), **{name: value})


def test_15_kl_is_counted_once():
    with pytest.raises(UserError, match="KL is counted once"):
        PPO(policy(), TASK, TOKENIZER, PPOConfig(kl_coef=0.1), loss_beta=0.1)


def test_17_stopping_is_learnt_where_it_is_rewarded():
    model = policy()
    trainer = GRPO(model, TASK, TOKENIZER, GRPOConfig(prompts=8, group_size=8, lr=1e-2, steps=40))
    first = trainer.iteration()["reward"]
    for _ in range(15):
        last = trainer.iteration()["reward"]
    assert first < 0.6 and last > 0.9


def test_17_a_truncated_completion_gets_no_end_token():
    rollout = rollout_of(policy(), group_size=8)
    assert rollout.truncated.any() and not rollout.truncated.all()
    for row, mask, truncated in zip(rollout.ids, rollout.mask, rollout.truncated):
        actions = row[mask]
        assert (END in actions) != truncated
        assert END not in actions[:-1] and len(actions) <= 5
    with pytest.raises(UserError, match="padding and end are both token 1"):
        rollout_of(policy(), pad_id=END)


def test_20_the_second_pass_has_other_ratios_and_the_same_old_logps():
    trainer = GRPO(policy(), TASK, TOKENIZER, GRPOConfig(prompts=4, group_size=4, lr=1e-2))
    seen = []
    update = trainer.update

    def watched(name, objective, rows, advantages):
        numbers = update(name, objective, rows, advantages)
        seen.append((rows.old_logps.copy(), numbers["ratio_max"], trainer.model.wte.weight.numpy().copy()))
        return numbers

    trainer.update = watched
    trainer.config.epochs = 2
    trainer.iteration()
    (old_one, ratio_one, weights_one), (old_two, ratio_two, weights_two) = seen
    np.testing.assert_array_equal(old_one, old_two)
    assert ratio_one == pytest.approx(1, abs=1e-5) and abs(ratio_two - 1) > 1e-3
    assert (weights_one != weights_two).any()


def test_23_prompt_and_completion_are_tokenized_apart_with_one_end():
    rows = encode_rows(TOKENIZER, ["ab", "a"], ["ba", ""], 12)
    assert rows.ids.tolist() == [[2, 3, 3, 2, END], [2, END, PAD, PAD, PAD]]
    assert rows.mask.astype(int).tolist() == [[0, 0, 1, 1, 1], [0, 1, 0, 0, 0]]
    rollout = rollout_of(policy())
    again = encode_rows(TOKENIZER, rollout.prompts, rollout.texts, 12)
    for i in np.flatnonzero(~rollout.truncated):
        np.testing.assert_array_equal(again.ids[i][again.mask[i]], rollout.ids[i][rollout.mask[i]])


def test_24_the_reference_does_not_move():
    trainer = GRPO(policy(), TASK, TOKENIZER, GRPOConfig(prompts=4, group_size=4, beta=0.1, lr=1e-2))
    before = copy.deepcopy(trainer.modules["reference"].state_dict())
    fixed = rollout_of(trainer.modules["reference"])
    logps = policy_logps(trainer.modules["reference"], fixed).numpy()
    for _ in range(10):
        trainer.iteration()
    for name, array in trainer.modules["reference"].state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(policy_logps(trainer.modules["reference"], fixed).numpy(), logps)
    assert np.abs(policy_logps(trainer.model, fixed).numpy() - logps).max() > 0.1


def trainer_of(algorithm, run=None, steps=4):
    if algorithm == "grpo":
        config = GRPOConfig(prompts=4, group_size=4, beta=0.05, steps=steps, eval_every=2, eval_prompts=8, until=2)
        return GRPO(policy(), TASK, TOKENIZER, config, run)
    config = PPOConfig(episodes=16, steps=steps, eval_every=2, eval_prompts=8, until=2, value_warmup=1, target_kl=1.0)
    return PPO(policy(), TASK, TOKENIZER, config, run)


def new_run(path):
    path.mkdir()
    run = RunDirectory(path)
    run.open_metrics()
    return run


def numbers(path):
    """The lines of metrics.jsonl without those that measure time."""
    from tinyllm.train.metrics import read_metrics
    return [{k: v for k, v in record.items() if not k.startswith("seconds")} for record in read_metrics(path / "metrics.jsonl")]


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_26_the_same_seed_gives_the_same_bits_and_resuming_changes_nothing(algorithm, tmp_path, capsys):
    trainers = []
    for name in ("one", "two"):
        run = new_run(tmp_path / name)
        trainers.append(trainer_of(algorithm, run))
        trainers[-1].fit()
        run.close()
    run = new_run(tmp_path / "resumed")
    half = trainer_of(algorithm, run)
    half._evaluated = lambda progress, real=half._evaluated: real(progress) if half.step < 3 else pytest.fail("went too far")
    half.finished = lambda record: half.step == 2
    half.fit()
    run.close()
    resumed = trainer_of(algorithm, run := RunDirectory(tmp_path / "resumed"))
    resumed.restore()
    assert resumed.step == 2
    resumed.fit()
    run.close()
    for other in (trainers[1], resumed):
        for name, array in trainers[0].model.state_dict().items():
            np.testing.assert_array_equal(array, other.model.state_dict()[name])
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two") == numbers(tmp_path / "resumed")


def test_a_rollout_in_double_precision_is_as_exact():
    with default_dtype(np.float64):
        model = policy()
    rollout = rollout_of(model)
    with no_grad():
        assert np.abs(policy_logps(model, rollout).numpy() - rollout.old_logps).max() < 1e-6


def test_groups_stand_together_and_the_same_seed_samples_the_same():
    rollout, again = rollout_of(policy()), rollout_of(policy())
    assert rollout.prompts == [p for p in ("a", "bab", "ab", "abab") for _ in range(4)]
    np.testing.assert_array_equal(rollout.ids, again.ids)
    greedy = rollout_of(policy(), temperature=0)
    assert all(len({tuple(row) for row in greedy.ids[i:i + 4].tolist()}) == 1 for i in range(0, 16, 4))


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="the model knows 12 positions"):
        sample(policy(), TOKENIZER, ["a" * 10], 2, 5, Generator(0))
    with pytest.raises(UserError, match="has 15 tokens; the model knows 12"):
        encode_rows(TOKENIZER, ["a" * 10], ["bbbb"], 12)
    with pytest.raises(UserError, match="no completions"):
        encode_rows(TOKENIZER, [], [], 12)
    with pytest.raises(UserError, match="the tokenizer has 13 tokens, the model 4"):
        sample(policy(), task_tokenizer(Reverse(2)), ["1"], 2, 3, Generator(0))
