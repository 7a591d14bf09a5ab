"""Three ways from one start, and what each costs: `tinyllm rl compare`.

    preferences of a noisy judge ─ reward model ─ PPO            with a price on KL
                                 │              └ PPO, no price  until the reward model is fooled
                                 ├ weak reward model ─ PPO, no price   learnt from a tenth of the preferences
                                 └ DPO
    the true reward              ─ GRPO

The chart shows the true reward on held-out prompts against the root of KL to the start (nats a completion), which grows like a distance: how
much a policy has won for how far it has gone. Below it is what the reward models say meanwhile: where they rise and the true reward does not follow, the model of the
reward is being optimised and not the reward (Gao et al. 2022, 2210.10760).
"""

import copy
import json
from pathlib import Path

import numpy as np

from ..atomic import write_bytes
from ..engine import no_grad
from ..engine.random import Generator
from ..errors import UserError
from .dpo import DPO, DPOConfig
from .grpo import GRPO, GRPOConfig
from .pairs import judged_pairs
from .ppo import PPO, PPOConfig
from .reward_model import RewardConfig, RewardTrainer
from .rollout import sample
from .tasks import Prompts


def compare(model, task, tokenizer, *, path, steps=100, pairs=4000, noise=0.1, seed=0, out=None):
    """Run all of them from `model`; writes compare.json and compare.html into `path` and returns the curves, name -> list of points."""
    path = Path(path)
    if path.exists():
        raise UserError(f"{path} exists: choose another --out")
    records = judged_pairs(model, tokenizer, task, pairs, Generator(seed + 2), noise=noise)
    print(f"{pairs} preferences, {noise:.0%} of them the wrong way round", file=out)
    strong = _reward_model(model, records, task, tokenizer, seed, out)
    weak = _reward_model(model, records[:max(pairs // 10, 20)], task, tokenizer, seed, out)
    every = max(steps // 10, 1)
    common = {"steps": steps, "eval_every": every, "seed": seed, "until": 1.0}
    learnt = dict(reward_model=strong.model, normaliser=strong.normaliser)
    fooled = dict(reward_model=weak.model, normaliser=weak.normaliser)
    ways = {
        "PPO": lambda m: watched(PPO)(m, task, tokenizer, PPOConfig(**common, lr=2e-4, kl_coef=0.3), out=out, **learnt),
        "PPO, no price on KL": lambda m: watched(PPO)(m, task, tokenizer, PPOConfig(**common, lr=2e-4, kl_coef=0.0), out=out, **learnt),
        "PPO, weak reward model": lambda m: watched(PPO)(m, task, tokenizer, PPOConfig(**common, lr=2e-4, kl_coef=0.0), out=out, **fooled),
        "DPO": lambda m: watched(DPO)(m, records, task, tokenizer, DPOConfig(steps=steps, eval_every=every, seed=seed), out=out),
        "GRPO, true reward": lambda m: watched(GRPO)(m, task, tokenizer, GRPOConfig(**common), out=out),
    }
    curves = {}
    for name, make in ways.items():
        print(f"{name}:", file=out)
        trainer = make(copy.deepcopy(model))
        trainer.fit()
        curves[name] = trainer.points
    path.mkdir(parents=True)
    write_bytes(path / "compare.json", json.dumps(curves, indent=1).encode())
    write_bytes(path / "compare.html", page(curves, noise, pairs, strong.last["accuracy"], weak.last["accuracy"]).encode())
    for name, points in curves.items():
        best = max(points, key=lambda point: point["reward"])
        print(f"{name:<24} true reward {points[0]['reward']:.3f} -> {points[-1]['reward']:.3f} at KL {points[-1]['kl']:.2f}   "
              f"best {best['reward']:.3f} at KL {best['kl']:.2f}", file=out)
    print(f"chart: {path / 'compare.html'}", file=out)
    return curves


def _reward_model(model, records, task, tokenizer, seed, out):
    """A reward model that has seen each of its preferences three times: more, and it learns the judge's mistakes by heart."""
    print(f"reward model from {len(records)} preferences:", file=out)
    steps = max(3 * len(records) // RewardConfig.batch, 10)
    trainer = RewardTrainer(model, records, task, tokenizer, RewardConfig(steps=steps, eval_every=max(steps // 2, 1), seed=seed), out=out)
    trainer.fit()
    return trainer


def watched(trainer):
    """A trainer's class that keeps its numbers: those of each step in `records`, those of each evaluation in `points`.

    A point has the step, the KL to the start, rewards and accuracies on held-out prompts, and the score that a learnt reward gives there.
    """
    class Watching(trainer):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.records, self.points = [], []

        def iteration(self):
            self.records.append(record := super().iteration())
            return record

        def evaluate(self):
            record = super().evaluate()
            point = {"step": self.step, **{name: record[name] for name in ("kl", "reward", "accuracy", "greedy", "entropy")}}
            if "reward" in self.modules:
                prompts = Prompts(self.task).draw(self.config.eval_prompts, Generator(1), held_out=True)
                rollout = sample(self.model, self.tokenizer, prompts, 1, self.task.max_new_tokens, Generator(2))
                with no_grad():
                    point["score"] = float(np.mean(self.normaliser(self.modules["reward"].score(rollout).numpy())))
            self.points.append(point)
            return record
    return Watching


def page(curves, noise, pairs, strong, weak):
    """The charts and the table as a page."""
    from .. import drawing      # pictures are for those who ask for them, like all views
    from ..train.report import WIDE, table

    def chart(x, y, label):
        lines = {name: ([x(p) for p in points], [p[y] for p in points]) for name, points in curves.items() if y in points[0]}
        return drawing.curves(lines, "", WIDE, 300, x_label=label)
    rows = [(name, f"{points[0]['reward']:.3f}", f"{points[-1]['reward']:.3f}", f"{points[-1]['kl']:.2f}") for name, points in curves.items()]
    return drawing.page(
        "Three ways from one start",
        f"{pairs} preferences of a judge who errs in {noise:.0%} of the cases. Held-out accuracy of the reward models, against that judge: "
        f"{strong:.1%} and, from a tenth of the preferences, {weak:.1%}.",
        "# True reward against the way gone", chart(lambda p: max(p["kl"], 0.0) ** 0.5, "reward", "√KL to the start"),
        "# True reward by step", chart(lambda p: p["step"], "reward", "step"),
        "# What the reward models say, by step", chart(lambda p: p["step"], "score", "step"),
        table([("way", "start", "end", "KL"), *rows]))
