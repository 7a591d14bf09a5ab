import json

import numpy as np
import pytest

from tinyllm import Generator
from tinyllm.engine import STATE
from tinyllm.errors import UserError, WorkError
from tinyllm.models import GPT, GPTConfig
from tinyllm.rl import encode_rows, group_advantages, sample, scored, task_tokenizer, watched
from tinyllm.rl.dpo import DPO, DPOConfig
from tinyllm.rl.grpo import GRPO, GRPOConfig, better_groups
from tinyllm.rl.loop import held_out, pass_at_k
from tinyllm.rl.pairs import encode_pairs, judged_pairs, read_pairs, write_pairs
from tinyllm.rl.ppo import PPO, PPOConfig
from tinyllm.rl.report import write_report
from tinyllm.rl.reward_model import RewardConfig, RewardTrainer
from tinyllm.rl.scalar import ScalarModel, SharedTrunk
from tinyllm.rl.session import fresh_model, load_policy, load_reward, new_run, resumed_run
from tinyllm.rl.sft import SFT, SFTConfig
from tinyllm.rl.tasks import Copy

TASK = Copy(2)
TOKENIZER = task_tokenizer(TASK)


def policy(kind="gpt", seed=0):
    return fresh_model(TASK, TOKENIZER, kind=kind, n_layer=1, n_head=2, n_embd=32, seed=seed)


@pytest.fixture(scope="module")
def started():
    """A policy that copies two digits now and then."""
    model = policy()
    SFT(model, TASK, TOKENIZER, SFTConfig(steps=400, lr=5e-3, batch=32, until=0.25, eval_every=10, eval_prompts=64), out=Silent()).fit()
    return model


class Silent:
    isatty = staticmethod(lambda: False)
    write = flush = staticmethod(lambda *text: None)


def copied(model):
    twin = policy()
    twin.load_state_dict(model.state_dict())
    return twin


def test_watched_keeps_the_numbers_and_changes_none(started):
    config = GRPOConfig(steps=3, prompts=4, eval_every=2, eval_prompts=16, until=2.0)
    plain, kept = (way(copied(started), TASK, TOKENIZER, config, out=Silent()) for way in (GRPO, watched(GRPO)))
    assert plain.fit() == kept.fit()
    assert [point["step"] for point in kept.points] == [0, 2, 3] and kept.points[-1]["kl"] == kept.last["kl"]
    assert len(kept.records) == 3


def test_sft_reaches_what_it_is_asked_for_and_no_more(started):
    accuracy = held_out(started, TOKENIZER, TASK, 64)["accuracy"]
    assert 0.2 < accuracy < 0.9


@pytest.mark.parametrize("options", [{}, {"loss_type": "gspo", "clip": 0.05, "clip_high": 0.05}, {"loss_type": "dr_grpo", "beta": 0.01, "epochs": 2},
                                     {"loss_type": "cispo", "minibatches": 2}, {"dynamic_sampling": True, "mask_truncated": True},
                                     {"loss_type": "sapo", "scale": "batch", "entropy_coef": 0.001}], ids=str)
def test_grpo_improves_on_its_start_whatever_the_loss(started, options):
    trainer = GRPO(copied(started), TASK, TOKENIZER, GRPOConfig(steps=40, prompts=16, lr=3e-3, eval_every=20, eval_prompts=64, seed=1, **options), out=Silent())
    first = trainer.evaluate()["reward"]
    trainer.fit()
    assert trainer.last["reward"] > first + 0.2


@pytest.mark.parametrize("shared", [False, True])
def test_ppo_improves_on_its_start(started, shared):
    config = PPOConfig(steps=40, episodes=128, lr=3e-3, value_lr=3e-3, eval_every=20, eval_prompts=64, seed=1, shared=shared)
    trainer = PPO(copied(started), TASK, TOKENIZER, config, out=Silent())
    first = trainer.evaluate()["reward"]
    trainer.fit()
    assert trainer.last["reward"] > first + 0.2


def test_the_value_function_learns_while_the_policy_waits(started):
    model = copied(started)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    trainer = PPO(model, TASK, TOKENIZER, PPOConfig(episodes=256, epochs=2, value_lr=5e-3, lam=1.0, value_warmup=10_000, seed=1), out=Silent())
    explained = [trainer.iteration()["explained_variance"] for _ in range(100)]
    assert np.mean(explained[:3]) < 0.05 < 0.1 < np.mean(explained[-10:])
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_reward_model_learns_from_preferences_what_is_wanted():
    """Which of two completions has fewer digits: nothing that has to be computed first."""
    rng = Generator(0)
    digits = ["".join(map(str, rng.randint(0, 10, (2,)))) for _ in range(400)]
    records = [{"prompt": f"{d}=", "chosen": d[0], "rejected": d} for d in digits]
    trainer = RewardTrainer(policy(), records, TASK, TOKENIZER, RewardConfig(steps=60, lr=3e-3, eval_every=60), out=Silent())
    trainer.fit()
    assert trainer.last["accuracy"] > 0.95
    chosen = trainer.normaliser(trainer.model.score(trainer.train.chosen).numpy())
    assert abs(chosen.mean()) < 0.05 and abs(chosen.std() - 1) < 0.05


def test_dpo_starts_at_log_two_and_improves_on_its_start(started):
    records = judged_pairs(started, TOKENIZER, TASK, 300, Generator(5))
    assert all(TASK.reward(r["prompt"], r["chosen"]) > TASK.reward(r["prompt"], r["rejected"]) for r in records)
    dpo = DPO(copied(started), records, TASK, TOKENIZER, DPOConfig(steps=60, lr=1e-3, eval_every=60, eval_prompts=64), out=Silent())
    first, start = dpo.evaluate()["reward"], dpo.iteration()
    assert start["loss"] == pytest.approx(np.log(2), rel=1e-4) and start["pair_accuracy"] < 1
    dpo.fit()
    assert dpo.last["reward"] > first


def test_a_noisy_judge_errs_as_often_as_he_is_told_to(started):
    records = judged_pairs(started, TOKENIZER, TASK, 1000, Generator(5), noise=0.3)
    wrong = np.mean([TASK.reward(r["prompt"], r["chosen"]) < TASK.reward(r["prompt"], r["rejected"]) for r in records])
    assert abs(wrong - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 1000)


@pytest.mark.parametrize("kind", ["gpt", "llama"])
def test_a_scalar_model_reads_its_score_at_the_last_real_token(kind):
    model = ScalarModel(policy(kind), Generator(1))
    rows = encode_rows(TOKENIZER, ["12=", "34="], ["1", "345"], 12)
    scores = model.score(rows).numpy()
    for i in range(2):
        alone = rows.take([i])
        np.testing.assert_allclose(model.score(alone).numpy(), scores[i:i + 1], atol=1e-5)
    assert all(p.requires_grad for p in model.parameters())
    assert (ScalarModel(policy(kind))(rows.ids).numpy() == 0).all()         # a value function begins by knowing nothing


@pytest.mark.parametrize("kind", ["gpt", "llama"])
def test_a_shared_trunk_gives_the_policys_own_logits_and_both_their_gradients(kind):
    model = policy(kind)
    trunk, ids = SharedTrunk(model), np.array([[2, 3, 4], [5, 6, 7]])
    logits, values = trunk(ids)
    np.testing.assert_allclose(logits.numpy(), model(ids).numpy(), atol=1e-6)
    assert (values.numpy() == 0).all() and values.shape == (2, 3)
    trunk.value.weight.data[:] = 0.1
    logits, values = trunk(ids)
    (values.sum() + logits.sum()).backward()
    assert all(p.grad is not None for p in trunk.parameters() if p.name != "policy.wpe.weight")
    assert trunk.num_params() == model.num_params() + 32


def test_dynamic_sampling_replaces_groups_that_teach_nothing(started):
    generator = Generator(0)
    old, new = (scored(sample(started, TOKENIZER, ["12=", "34=", "56="], 2, 3, generator), TASK) for _ in range(2))
    old.rewards, new.rewards = np.array([1.0, 1, 0, 1, 0, 0]), np.array([0.0, 0, 0, 1, 1, 0])
    better = better_groups(old, new, 2)
    assert better.rewards.tolist() == [0, 1, 0, 1, 1, 0]
    assert better.prompts == ["34=", "34=", "34=", "34=", "56=", "56="]


def test_a_completion_that_cannot_be_judged_is_left_out(started):
    class Half(Copy):
        def reward(self, prompt, text):
            return float("nan") if prompt < "5" else super().reward(prompt, text)

    trainer = GRPO(copied(started), Half(2), TOKENIZER, GRPOConfig(prompts=8))
    rollout = trainer._sample()
    assert np.isnan(rollout.rewards).any()
    assert (group_advantages(rollout.rewards, 8)[np.isnan(rollout.rewards)] == 0).all()
    assert np.isfinite(trainer.iteration()["loss"])
    with pytest.raises(UserError, match="PPO needs a number for every completion"):
        PPO(copied(started), Half(2), TOKENIZER, PPOConfig(episodes=32)).iteration()


@pytest.mark.parametrize("algorithm, config", [
    ("grpo", GRPOConfig(steps=2, prompts=4, eval_every=1, eval_prompts=8)), ("ppo", PPOConfig(steps=2, episodes=16, eval_every=1, eval_prompts=8)),
    ("dpo", DPOConfig(steps=2, eval_every=1, eval_prompts=8)), ("reward", RewardConfig(steps=2, eval_every=1)),
    ("sft", SFTConfig(steps=2, batch=8, eval_every=1, eval_prompts=8))])
def test_a_run_can_be_written_resumed_loaded_and_reported(started, algorithm, config, tmp_path):
    records = [{"prompt": f"{i:02}=", "chosen": f"{i:02}", "rejected": "7"} for i in range(20)]
    path = tmp_path / "run"
    with new_run(path, algorithm, ("copy", 2, None), copied(started), TOKENIZER, config,
                 records=records if algorithm in ("reward", "dpo") else None, out=Silent()) as trainer:
        trainer.fit()
        page = write_report(trainer).read_text()
    assert page.startswith("<!DOCTYPE html>") and "nan" not in page
    with resumed_run(path, out=Silent()) as resumed:
        assert resumed.step == 2
        for name, array in trainer.model.state_dict().items():
            np.testing.assert_array_equal(array, resumed.model.state_dict()[name])
    if algorithm == "reward":
        reward, normaliser = load_reward(path)
        rows = encode_rows(TOKENIZER, ["12="], ["12"], 12)
        np.testing.assert_array_equal(reward.score(rows).numpy(), trainer.model.score(rows).numpy())
        assert normaliser == trainer.normaliser
        with pytest.raises(UserError, match="holds no policy"):
            load_policy(path)
    else:
        model, tokenizer = load_policy(path)
        assert tokenizer.characters == TOKENIZER.characters
        np.testing.assert_array_equal(model.wte.weight.numpy(), trainer.model.wte.weight.numpy())
        with pytest.raises(UserError, match="is no reward model"):
            load_reward(path)


def test_pairs_go_into_a_file_and_out_of_it(tmp_path):
    records = [{"prompt": "1=", "chosen": "1", "rejected": "2"}]
    write_pairs(tmp_path / "pairs.jsonl", records)
    assert read_pairs(tmp_path / "pairs.jsonl") == records


@pytest.mark.parametrize("text, message", [
    ("", "has no preferences"), ("\n\n", "has no preferences"), ("{", "line 1 is not JSON"), ('{"prompt": "a"}', "line 1: expected an object"),
    (json.dumps({"prompt": "a", "chosen": "b", "rejected": "b"}), "chosen and rejected are the same")])
def test_a_file_without_preferences_is_refused(tmp_path, text, message):
    (tmp_path / "pairs.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        read_pairs(tmp_path / "pairs.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="nothing to learn from"):
        encode_pairs(TOKENIZER, [], 12)


def test_a_reference_of_another_architecture_is_refused():
    other = GPT(GPTConfig(vocab_size=TOKENIZER.vocab_size, n_layer=2, n_head=2, n_embd=32, block_size=10), Generator(0))
    with pytest.raises(UserError, match="the reference is another architecture"):
        DPO(policy(), [{"prompt": "1=", "chosen": "1", "rejected": "2"}], TASK, TOKENIZER, DPOConfig(), reference=other)


@pytest.mark.parametrize("make, message", [
    (lambda: GRPOConfig(group_size=1), "alone in its group"), (lambda: GRPOConfig(steps=0), "steps is 0"), (lambda: GRPOConfig(loss_type="x"), "loss_type 'x'"),
    (lambda: GRPOConfig(lr=-1), "lr is -1"), (lambda: GRPOConfig(prompts=1, group_size=2, minibatches=3), "do not make 3 minibatches"),
    (lambda: PPOConfig(gamma=2), "gamma=2"), (lambda: PPOConfig(episodes=0), "episodes is 0"), (lambda: DPOConfig(kind="x"), "kind 'x'"),
    (lambda: pass_at_k(1, 2, 3), "pass@3 of 2"), (lambda: fresh_model(TASK, TOKENIZER, kind="rnn"), "rnn"),
    (lambda: judged_pairs(policy(), TOKENIZER, TASK, 1, Generator(0), noise=0.5), "noise is 0.5")])
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_pass_at_k_by_counting():
    assert pass_at_k(0, 5, 3) == 0 and pass_at_k(5, 5, 1) == 1 and pass_at_k(2, 5, 1) == pytest.approx(0.4)
    assert pass_at_k(2, 5, 4) == 1      # only three are wrong


@pytest.mark.parametrize("make", [
    lambda model: SFT(model, TASK, TOKENIZER, SFTConfig(batch=8)), lambda model: GRPO(model, TASK, TOKENIZER, GRPOConfig(prompts=4)),
    lambda model: PPO(model, TASK, TOKENIZER, PPOConfig(episodes=8, value_warmup=0)),
    lambda model: PPO(model, TASK, TOKENIZER, PPOConfig(episodes=8, shared=True)),
    lambda model: DPO(model, [{"prompt": "1=", "chosen": "1", "rejected": "2"}] * 12, TASK, TOKENIZER, DPOConfig())], ids=["sft", "grpo", "ppo", "shared", "dpo"])
def test_a_nan_stops_before_the_update_and_is_named(started, make):
    trainer = make(copied(started))
    before, forward = {name: array.copy() for name, array in trainer.model.state_dict().items()}, trainer.model.forward

    def broken(ids, **options):
        outputs = forward(ids, **options)
        return outputs + (trainer.model.wte.weight[:1, :1] * 0.0 - 1.0).log() if STATE.grad else outputs
    trainer.model.forward = broken
    with np.errstate(invalid="ignore"), pytest.raises(WorkError, match="step 1: loss nan.*forward of log.*This update was not made"):
        trainer.iteration()
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
