# %% [markdown]
# # GRPO: the other answers are the teacher
#
# PPO asks a second network how well a completion was expected to do. GRPO (DeepSeekMath, 2402.03300) asks nobody: it samples several completions of
# each prompt and measures each against the others. What is better than its group becomes likelier, what is worse less likely. Here it is by hand,
# then the ways to add up its loss and what they do to long answers, then a small model that learns to sort. In full the lesson takes half a minute.

# %%
import copy
import io
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## Advantages by hand
#
# Eight completions of one prompt, two of them right. Take the mean off, divide by the standard deviation (with G - 1 below, as most libraries have
# it):

# %%
rewards = np.array([1, 0, 0, 1, 0, 0, 0, 0], float)
G = len(rewards)
mean = rewards.sum() / G                                            # 0.25
std = (((rewards - mean) ** 2).sum() / (G - 1)) ** 0.5              # 0.4629
by_hand = (rewards - mean) / (std + 1e-4)
print(f"mean {mean:.4f}, standard deviation {std:.4f}: right {by_hand[0]:+.4f}, wrong {by_hand[1]:+.4f}")
assert np.allclose(tl.rl.group_advantages(rewards, G), by_hand)

# %% [markdown]
# The rarer an answer, the louder it speaks: one right among eight gets +2.5, seven right among eight get +0.35 each. Dr. GRPO (2503.20783) leaves the
# division out, because it gives very easy and very hard prompts more weight than the others.

# %%
print(f"\n{'right of 8':>10} {'GRPO: right':>12} {'wrong':>8} {'Dr. GRPO: right':>16} {'wrong':>8}")
for right in (1, 2, 4, 6, 7):
    group = np.repeat([1.0, 0.0], [right, G - right])
    grpo, dr = tl.rl.group_advantages(group, G), tl.rl.group_advantages(group, G, scale="none")
    print(f"{right:>10} {grpo[0]:>12.3f} {grpo[-1]:>8.3f} {dr[0]:>16.3f} {dr[-1]:>8.3f}")

# %% [markdown]
# ## Groups that teach nothing
#
# Where all rewards are equal, each is the mean: all advantages are 0, and so is the gradient, whether all are right or all wrong. If a prompt is
# answered rightly with probability p, that happens to a share pᴳ + (1 - p)ᴳ of the groups. So a policy that is never right learns nothing at all, and
# one that is nearly always right learns slowly: reinforcement needs a start that is right now and then. DAPO (2503.14476) draws such groups again
# (`dynamic_sampling`).

# %%
for group in ([1.0] * 8, [0.0] * 8, [0.1] * 8):
    assert (tl.rl.group_advantages(group, 8) == 0).all()            # exactly: not one bit of noise is blown up
p = np.linspace(0, 1, 101)
drawing.save("out/22_no_signal.svg", drawing.curves(
    {f"groups of {g}": (p, p ** g + (1 - p) ** g) for g in (2, 4, 8, 16)}, "share of groups that teach nothing", 520, 280,
    x_label="chance that a completion is right"))
chance = 0.05
print(f"\nright in {chance:.0%} of the cases: " + ", ".join(f"{chance ** g + (1 - chance) ** g:.0%} of groups of {g} silent" for g in (2, 4, 8, 16)))
told = np.mean([tl.rl.zero_signal_fraction(tl.Generator(k).rand(800) < chance, 8) for k in range(20)])
print(f"counted in 2,000 groups of 8: {told:.0%}")

# %% [markdown]
# ## How token losses are added up
#
# A completion's advantage holds for each of its tokens; what is left to decide is how the tokens are weighed. Four completions, two right and two
# wrong, of two and eight tokens, just sampled, so all ratios are 1. The slope of the loss by the log-probability of one token of each (a slope below
# 0 makes the token likelier):

# %%
names, lengths, advantages = ["right, 2 tokens", "right, 8 tokens", "wrong, 2 tokens", "wrong, 8 tokens"], [2, 8, 2, 8], [1.0, 1.0, -1.0, -1.0]
mask = np.arange(8) < np.array(lengths)[:, None]                    # (4, 8)
slopes = {}
for loss_type in ("grpo", "dapo", "dr_grpo"):
    logps = tl.Tensor(np.full((4, 8), -1.0), requires_grad=True)
    loss, _ = tl.rl.grpo_loss(logps, logps.numpy(), advantages, mask, loss_type=loss_type, max_completion_length=10)
    loss.backward()
    slopes[loss_type] = logps.grad[:, 0]
print(f"\n{'':16}" + "".join(f"{name:>10}" for name in slopes))
for k, name in enumerate(names):
    print(f"{name:16}" + "".join(f"{slope[k]:>+10.4f}" for slope in slopes.values()))
assert np.allclose(slopes["grpo"], [-1 / 8, -1 / 32, 1 / 8, 1 / 32])      # 1 / (4 completions · n tokens)
assert np.allclose(slopes["dapo"], [-1 / 20, -1 / 20, 1 / 20, 1 / 20])    # 1 / 20 tokens in all
assert np.allclose(slopes["dr_grpo"], [-1 / 40, -1 / 40, 1 / 40, 1 / 40])  # 1 / (4 completions · 10 tokens at most)
drawing.save("out/22_loss_types.svg", drawing.numbers(
    np.stack(list(slopes.values())), ["grpo", "dapo", "dr_grpo"], names, "slope of the loss by one token's log-probability", digits=3))

# %% [markdown]
# `grpo` gives every completion the same say and divides it among its tokens. A token of a long wrong answer is punished a quarter as much as one of a
# short wrong answer: when the policy is wrong, it pays to be wrong at length. That is GRPO's length bias. `dapo` divides by the number of all tokens,
# `dr_grpo` by a constant; both treat tokens alike, and `dr_grpo` does not even change with how long the others are. The others of `tl.rl.grpo_loss`
# change the ratio:
#
#     gspo      one ratio for a whole completion      cispo     no token is dropped by the clip      sapo      a soft gate instead of a clip

# %%
generator = tl.Generator(0)
old = -1.0 - generator.rand((4, 8), dtype=np.float64)
new = old + 0.4 * (generator.rand((4, 8), dtype=np.float64) - 0.5)  # an update later: ratios from 0.82 to 1.22
print(f"\n{'':9}{'loss':>9}   tokens that still learn")
for loss_type in ("grpo", "bnpo", "dapo", "dr_grpo", "gspo", "cispo", "sapo"):
    logps = tl.Tensor(new, requires_grad=True)
    clips = {"clip": 0.05, "clip_high": 0.05}                       # narrow, so that it bites
    loss, info = tl.rl.grpo_loss(logps, old, advantages, mask, loss_type=loss_type, max_completion_length=10, **clips)
    loss.backward()
    print(f"{loss_type:9}{loss.item():>+9.4f}   {np.count_nonzero(logps.grad):2} of {mask.sum()}")

# %% [markdown]
# ## GRPO on a task
#
# A GPT learns to sort digits: "42907=" is answered by "02479". A short supervised warm start makes it right now and then; from there on it only hears
# whether it was right. `greedy` takes the likeliest digit each time, `sampled` draws as the probabilities say.

# %%
task = tl.rl.load_task("sort", 3 if quick else 5)
tokenizer = tl.rl.task_tokenizer(task)
start = tl.rl.fresh_model(task, tokenizer)
tl.rl.warm_start(start, task, tokenizer, until=0.1, out=io.StringIO())

config = tl.rl.GRPOConfig(steps=2 if quick else 400, prompts=16, eval_every=1 if quick else 40, until=1.0)
trainer = tl.rl.watched(tl.rl.GRPO)(copy.deepcopy(start), task, tokenizer, config, out=io.StringIO())      # keeps its numbers
last = trainer.fit()
print(f"\n{start.num_params():,} parameters; held-out prompts\n{'step':>5}{'sampled':>9}{'greedy':>8}{'KL':>7}{'entropy':>9}")
for record in trainer.points:
    print(f"{record['step']:>5}{record['accuracy']:>9.1%}{record['greedy']:>8.1%}{max(record['kl'], 0):>7.2f}{record['entropy']:>9.3f}")
for prompt, text, reward in last["samples"][:4]:
    print(f"  {prompt}{text}   reward {reward:g}")

# %% [markdown]
# The silent groups of the beginning are all wrong; they get fewer as the policy gets better, until the groups that are all right take over.

# %%
def smooth(name, records, over=10):
    values = [record[name] for record in records]
    return [np.mean(values[max(0, i - over + 1):i + 1]) for i in range(len(values))]


held = lambda name: tuple(zip(*((point["step"], point[name]) for point in trainer.points)))
drawing.save("out/22_grpo.html", drawing.page(
    f"GRPO on sorting {task.difficulty} digits",
    drawing.curves({"sampled": held("accuracy"), "greedy": held("greedy")}, "held out: share of right answers", x_label="step"),
    drawing.curves({"reward": smooth("reward", trainer.records), "groups that teach nothing": smooth("no_signal", trainer.records)},
                   "training: mean over ten steps", x_label="step"),
    drawing.curves({"entropy": held("entropy")}, "entropy, nats a token", x_label="step"),
    drawing.curves({"KL": held("kl")}, "KL to the start, nats a completion", x_label="step")))

# %% [markdown]
# ## Has it learnt something, or only made up its mind?
#
# pass@k is the chance that at least one of k samples is right (2107.03374). Where the start's curve climbs to the height at which the other begins,
# what was gained is mostly certainty: the answers were there, and reinforcement has taught the policy to trust them.

# %%
def pass_curve(model, samples=16, prompts=8 if quick else 128):
    """pass@1, 2, 4, … on held-out prompts."""
    asked = tl.rl.Prompts(task).draw(prompts, tl.Generator(5), held_out=True)
    rollout = tl.rl.scored(tl.rl.sample(model, tokenizer, asked, samples, task.max_new_tokens, tl.Generator(6)), task)
    right = (rollout.rewards.reshape(prompts, samples) == 1).sum(axis=1)
    return {k: np.mean([tl.rl.pass_at_k(int(c), samples, k) for c in right]) for k in (1, 2, 4, 8, 16)}


curves = {"start": pass_curve(start), "after GRPO": pass_curve(trainer.model)}
print(f"\n{'k':>10}" + "".join(f"{k:>8}" for k in curves["start"]))
for name, curve in curves.items():
    print(f"{name:>10}" + "".join(f"{value:>8.1%}" for value in curve.values()))
drawing.save("out/22_pass_at_k.svg", drawing.curves({name: (list(curve), list(curve.values())) for name, curve in curves.items()},
                                                    "pass@k on held-out prompts", 420, 260, log="x", x_label="k samples"))
