"""A run of `tinyllm rl` from its description, and the same run again from its directory.

    runs/grpo-addition/
      config.json         algorithm, task, settings, model: what the run is a function of
      tokenizer.json      the task's characters
      pairs.jsonl         the preferences, for reward and dpo
      checkpoints/        last.json and the arrays of all modules
      metrics.jsonl       one line a step, one line an evaluation
      report.html         the curves and samples

A policy starts from a run that is given, or from fresh weights and a short supervised warm start, which stops as soon as the policy is
right now and then: from nothing there would be no reward to learn from, and from perfection nothing left to learn.
"""

import contextlib
from dataclasses import asdict
from pathlib import Path

from .. import tokenizers
from ..engine.random import Generator, manual_seed
from ..errors import UserError
from ..load import build, check_room, describe
from ..train.run import RunDirectory
from .dpo import DPO, DPOConfig
from .grpo import GRPO, GRPOConfig
from .pairs import judged_pairs, read_pairs, write_pairs
from .ppo import PPO, PPOConfig
from .reward_model import RewardConfig, RewardTrainer
from .rewards import Normaliser
from .rows import task_tokenizer
from .scalar import ScalarModel
from .sft import SFT, SFTConfig
from .tasks import Prompts, load_task

ALGORITHMS = {"sft": (SFT, SFTConfig), "reward": (RewardTrainer, RewardConfig), "ppo": (PPO, PPOConfig), "grpo": (GRPO, GRPOConfig),
              "dpo": (DPO, DPOConfig)}
FROM_PAIRS = ("reward", "dpo")


def fresh_model(task, tokenizer, *, kind="gpt", n_layer=2, n_head=4, n_embd=64, seed=0):
    """A model with fresh weights, whose window holds the longest prompt of the task and its completion."""
    prompts = Prompts(task).draw(100, Generator(0))
    longest = max(len(tokenizer.encode(prompt)) for prompt in prompts) + task.max_new_tokens
    sizes = dict(vocab_size=tokenizer.vocab_size, n_layer=n_layer, n_head=n_head, n_embd=n_embd, block_size=longest + 4, bias=False)
    if kind == "llama":
        sizes |= {"n_kv_head": n_head, "ffn_dim": 8 * n_embd // 3}
    manual_seed(seed)
    return build({"type": kind, **sizes}).eval()


def load_policy(path):
    """(model, tokenizer) of a run of this kind or of `tinyllm train`."""
    run = RunDirectory.open(path)
    if "model" not in run.config or run.config.get("algorithm") == "reward":
        raise UserError(f"{path} holds no policy: give a run of rl sft, grpo, ppo or dpo")
    with run.understood():
        arrays = run.checkpoints.load("best" if "best" in run.checkpoints else "last")[1]["model"]
        check_room(run.config["model"], arrays, path)
        model = build(run.config["model"])
        model.load_state_dict(arrays)
        return model.eval(), tokenizers.load(run.tokenizer_path)


def load_reward(path):
    """(ScalarModel, Normaliser) of a run of `rl reward`."""
    run = RunDirectory.open(path)
    if run.config.get("algorithm") != "reward":
        raise UserError(f"{path} is no reward model; tinyllm rl reward makes one")
    with run.understood():
        _, arrays, state = run.checkpoints.load("last")
        check_room(run.config["model"], arrays["model"], path)
        reward = ScalarModel(build(run.config["model"]))
        reward.load_state_dict(arrays["model"])
        return reward, Normaliser(float(state["last"]["gain"]), float(state["last"]["bias"]))


def warm_start(model, task, tokenizer, *, until=0.25, steps=2000, seed=0, out=None):
    """Supervised fine-tuning until the sampled accuracy on held-out prompts is `until`; the trainer, finished."""
    trainer = SFT(model, task, tokenizer, SFTConfig(steps=steps, seed=seed, until=until, eval_every=10), out=out)
    trainer.fit()
    if trainer.last["accuracy"] < min(until, 0.02):
        raise UserError(f"after {trainer.step} steps of warm start the policy is right in {trainer.last['accuracy']:.1%} of the cases: hardly any "
                        "reward to learn from; make the task easier (--difficulty), the model larger, or the warm start longer")
    return trainer


def make_trainer(algorithm, model, task, tokenizer, config, *, records=None, reward=None, run=None, out=None):
    """The trainer of an algorithm. `records` are preferences, `reward` a pair (ScalarModel, Normaliser)."""
    trainer = ALGORITHMS[algorithm][0]
    if algorithm in FROM_PAIRS:
        return trainer(model, records, task, tokenizer, config, run=run, out=out)
    if algorithm == "ppo" and reward is not None:
        return trainer(model, task, tokenizer, config, run=run, out=out, reward_model=reward[0], normaliser=reward[1])
    return trainer(model, task, tokenizer, config, run=run, out=out)


@contextlib.contextmanager
def new_run(path, algorithm, task_words, model, tokenizer, config, *, records=None, reward=None, noise=0.0, out=None):
    """A trainer in a new run directory; `task_words` are the arguments of `load_task`. Holds the run's lock."""
    task = load_task(*task_words)
    if algorithm in FROM_PAIRS and records is None:
        records = judged_pairs(model, tokenizer, task, 4000, Generator(config.seed + 2), noise=noise)
    trainer = make_trainer(algorithm, model, task, tokenizer, config, records=records, reward=reward, out=out)
    with RunDirectory.create(path) as run:
        tokenizer.save(run.tokenizer_path)
        if records is not None:
            write_pairs(run.path / "pairs.jsonl", records)
        run.open_metrics()
        trainer.run = run
        trainer.save()      # the weights it starts from are nowhere else
        run.write_config(algorithm=algorithm, task=list(task_words), model=describe(model), rl=asdict(config),
                         normaliser=None if reward is None else asdict(reward[1]))
        yield trainer


@contextlib.contextmanager
def resumed_run(path, out=None, task_file=None):
    """The trainer of run directory `path` at its last checkpoint.

    A task that is a Python file is run, so a directory alone does not decide which: name it again as `task_file`.
    """
    run = RunDirectory.open(path)
    told = run.config
    if told.get("algorithm") not in ALGORITHMS:
        raise UserError(f"{path} is not a run of tinyllm rl")
    with run.lock():
        with run.understood():
            name, difficulty, source = told["task"]
            if str(name).endswith(".py") and (task_file is None or Path(task_file).resolve() != Path(name).resolve()):
                raise UserError(f"the task of {path} is a Python file, {name}, which would be run: if it is yours, go on with "
                                f"tinyllm rl --resume {path} --task {name}")
            check_room(told["model"], run.checkpoints.load("last")[1]["model"], path)
            task, tokenizer, model = load_task(name, difficulty, source), tokenizers.load(run.tokenizer_path), build(told["model"]).eval()
            records = read_pairs(run.path / "pairs.jsonl") if told["algorithm"] in FROM_PAIRS else None
            reward = None if told["normaliser"] is None else (ScalarModel(model), run.settings("normaliser", Normaliser))
            config = run.settings("rl", ALGORITHMS[told["algorithm"]][1])
            trainer = make_trainer(told["algorithm"], model, task, tokenizer, config, records=records, reward=reward, run=run, out=out)
            trainer.restore()
        yield trainer


def free_directory(algorithm, task_name, parent="runs"):
    """A name under `runs/` that is not taken: runs/grpo-addition, runs/grpo-addition-2, …"""
    stem = f"{algorithm}-{Path(task_name).stem}"
    path, number = Path(parent) / stem, 2
    while path.exists():
        path, number = Path(parent) / f"{stem}-{number}", number + 1
    return path
