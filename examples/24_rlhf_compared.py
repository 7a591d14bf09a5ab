# %% [markdown]
# # RLHF compared: three ways from one start
#
# The same small model, the same judge's preferences, and three ways on: a reward model and PPO; DPO, which needs neither; and GRPO on the true
# reward, which in life nobody has. Then what goes wrong when a reward model has seen too little: PPO climbs the model of the reward, not the reward
# (Gao et al. 2022, 2210.10760). In full the lesson takes about a minute; `tinyllm rl compare` is the same at its full size.

# %%
import copy
import io
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## One start
#
# A GPT of 100,000 parameters that sorts four digits, warmed up until it is right now and then. The true reward of an attempt is the share of its
# digits that stand where they should. A judge compares attempts of this start and errs in one case out of ten.

# %%
noise, task = 0.1, tl.rl.Graded(tl.rl.load_task("sort", 3 if quick else 4))
tokenizer = tl.rl.task_tokenizer(task)
start = tl.rl.fresh_model(task, tokenizer)
tl.rl.warm_start(start, task, tokenizer, until=0.1, out=io.StringIO())
count = 100 if quick else 4000
records = tl.rl.judged_pairs(start, tokenizer, task, count, tl.Generator(2), noise=noise)


def reward_model(records):
    """Learnt in eight passes over its comparisons."""
    steps = max((1 if quick else 8) * len(records) // tl.rl.RewardConfig.batch, 1)
    trainer = tl.rl.RewardTrainer(start, records, task, tokenizer, tl.rl.RewardConfig(steps=steps, eval_every=steps), out=io.StringIO())
    trainer.fit()
    return {"reward_model": trainer.model, "normaliser": trainer.normaliser}


new = tl.rl.judged_pairs(start, tokenizer, task, count // 5, tl.Generator(77))      # by a judge who never errs
fresh = tl.rl.encode_pairs(tokenizer, new, start.config.block_size)
judges = {}
for name, own in (("strong", records), ("weak", records[:max(count // 20, 20)])):
    judges[name] = judge = reward_model(own)
    with tl.no_grad():
        right = tl.rl.accuracy(judge["reward_model"].score(fresh.chosen).numpy(), judge["reward_model"].score(fresh.rejected).numpy())
    print(f"{name} reward model, from {len(own):,} preferences: agrees with the truth in {right:.1%} of new pairs")

# %% [markdown]
# ## Five runs
#
# `tl.rl.watched` keeps what a trainer finds at each evaluation on held-out prompts: the true reward, the KL to the start, what the reward model
# thinks.

# %%
steps = 2 if quick else 100
common = {"steps": steps, "eval_every": 1 if quick else 10, "until": 2.0}
ppo = {**common, "lr": 2e-4, "episodes": 128, "value_warmup": 1 if quick else 5}
PPO, DPO, GRPO = (tl.rl.watched(way) for way in (tl.rl.PPO, tl.rl.DPO, tl.rl.GRPO))
quiet = {"out": io.StringIO()}
ways = {
    "PPO, price on KL": lambda m: PPO(m, task, tokenizer, tl.rl.PPOConfig(**ppo, kl_coef=0.3), **judges["strong"], **quiet),
    "PPO, no price": lambda m: PPO(m, task, tokenizer, tl.rl.PPOConfig(**ppo, kl_coef=0.0), **judges["strong"], **quiet),
    "DPO": lambda m: DPO(m, records, task, tokenizer, tl.rl.DPOConfig(steps=steps, eval_every=common["eval_every"]), **quiet),
    "GRPO, true reward": lambda m: GRPO(m, task, tokenizer, tl.rl.GRPOConfig(**common, prompts=16), **quiet),
    "PPO, weak model": lambda m: PPO(m, task, tokenizer, tl.rl.PPOConfig(**ppo, kl_coef=0.0), **judges["weak"], **quiet),
}
points, models = {}, {}
print(f"\n{'':20}{'true reward':>17}{'all right':>17}{'KL':>7}   best")
for name, make in ways.items():
    trainer = make(copy.deepcopy(start))
    trainer.fit()
    points[name], models[name] = trainer.points, trainer.model
    first, last, best = trainer.points[0], trainer.points[-1], max(trainer.points, key=lambda point: point["reward"])
    print(f"{name:20}{first['reward']:>8.3f} -> {last['reward']:.3f}{first['accuracy']:>8.1%} -> {last['accuracy']:.1%}{last['kl']:>7.2f}"
          f"   {best['reward']:.3f} at step {best['step']}")

# %% [markdown]
# The two PPO runs on the strong model differ in the price alone. Its score rises alike in both; the true reward rises where going far has a price.
# DPO has seen the same preferences, sampled nothing, and moved least. GRPO had what no judge can give.
#
# ## How far for how much
#
# Steps of different trainers cannot be compared; the distance gone can. KL grows like the square of a distance, so its root is the axis: the true
# reward won, for the way gone.

# %%
def lines(x, y):
    return {name: ([x(p) for p in way], [p[y] for p in way]) for name, way in points.items() if y in way[0]}


distance = lambda point: max(point["kl"], 0.0) ** 0.5
drawing.save("out/24_compared.html", drawing.page(
    "Three ways from one start",
    drawing.curves({name: line for name, line in lines(distance, "reward").items() if "weak" not in name}, "true reward, by the way gone", 520, 290,
                   x_label="√KL to the start"),
    drawing.curves(lines(distance, "reward"), "the same, with the weak model's run", 520, 290, x_label="√KL to the start"),
    drawing.curves(lines(lambda p: p["step"], "reward"), "true reward, by step", 520, 290, x_label="step"),
    drawing.curves(lines(lambda p: p["step"], "score"), "what the run's own reward model says, by step", 520, 290, x_label="step")))

# %% [markdown]
# ## Over-optimisation
#
# The run with the weak reward model alone. Its own score rises and rises, and that is all that the run itself can see; the true reward falls. What
# the policy has found is what the weak model happens to like: it liked it by accident in the few comparisons it saw, and nobody had compared such
# answers.

# %%
weak = points["PPO, weak model"]
x = [distance(point) for point in weak]
print(f"\n{'√KL':>6}{'its score':>11}{'true reward':>13}")
for point in weak:
    print(f"{distance(point):>6.2f}{point['score']:>11.2f}{point['reward']:>13.3f}")
drawing.save("out/24_over_optimisation.html", drawing.page(
    "Climbing a weak model of the reward",
    drawing.curves({"its own score": (x, [point["score"] for point in weak])}, "what the weak reward model says", 480, 280, x_label="√KL to the start"),
    drawing.curves({"true reward": (x, [point["reward"] for point in weak])}, "what is true", 480, 280, x_label="√KL to the start")))

# %% [markdown]
# What they write, to the same prompts. The run on the weak model has found one answer for everything.

# %%
asked = tl.rl.Prompts(task).draw(5, tl.Generator(8), held_out=True)
print(f"\n{'':20}" + "".join(f"{prompt:<9}" for prompt in asked))
for name, model in {"start": start, **models}.items():
    written = tl.rl.sample(model, tokenizer, asked, 1, task.max_new_tokens, tl.Generator(9)).texts
    print(f"{name:20}" + "".join(f"{words.replace(chr(0), '·'):<9}" for words in written))
