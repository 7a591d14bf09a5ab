# %% [markdown]
# # PPO: learning from a number
#
# A reward says how good a whole answer was, not what a better one would have been. The policy gradient turns it into a direction all the same; PPO
# (Schulman et al. 2017) makes that affordable and safe: several updates from one batch of samples, none of them too far. Here: the gradient of a
# bandit, exactly and from samples; the ratio and its clip; advantages of single tokens; and all of it at work on a small task. In full the lesson
# takes about a minute.

# %%
import copy
import io
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## The policy gradient, by hand
#
# A bandit: one choice among four, each with a reward. The policy is a softmax of four numbers z. What we want to grow is the expected reward
#
#     J = Σ π_k r_k          ∂J/∂z_k = π_k (r_k - J)
#
# Each choice is pushed as far as its reward lies above what is to be expected anyway. `tl.rl.enumerate` sums over all completions there are; here
# there are four of one token.

# %%
rewards = [0.0, 0.2, 0.5, 1.0]
policy = tl.rl.Tabular(4, 1)
policy.logits.data[:] = [1.0, 0.5, 0.0, -0.5]
lab = tl.rl.enumerate(policy, lambda y: rewards[y[0]], length=1)
pi = np.exp(policy.logits.numpy()[0]) / np.exp(policy.logits.numpy()[0]).sum()
J = pi @ rewards
print(f"π = {pi.round(4)}   J = {J:.4f}   by enumeration {lab.expected_reward:.4f}")
print(f"π (r - J) = {(pi * (rewards - J)).round(4)}   by enumeration {lab.gradient.round(4)}")
assert np.allclose(lab.gradient, pi * (rewards - J))

# %% [markdown]
# Going uphill by the exact gradient:

# %%
J_of, pi_of = [], []
climber = tl.rl.Tabular(4, 1)
climber.logits.data[:] = policy.logits.data
for _ in range(60):
    here = tl.rl.enumerate(climber, lambda y: rewards[y[0]], length=1)
    J_of.append(here.expected_reward)
    pi_of.append(here.probabilities)
    climber.logits.data += 1.0 * here.gradient.reshape(1, 4)
print(f"J after 0, 10, 30, 59 steps: {', '.join(f'{J_of[k]:.3f}' for k in (0, 10, 30, 59))}")
drawing.save("out/21_bandit.svg", drawing.curves(
    {f"π of reward {r:g}": (range(60), [p[k] for p in pi_of]) for k, r in enumerate(rewards)} | {"J": (range(60), J_of)},
    "climbing the expected reward", 560, 280, x_label="step"))

# %% [markdown]
# ## From samples
#
# A language model has too many completions to sum over. But J's gradient is a mean over samples, of r ∇log π, and so a handful of samples estimates
# it. Here are all groups of two samples there are, weighed by their chance: what is each estimator's mean (bias 0: it is the gradient), and how far
# is a single estimate off (spread)?
#
#     reinforce   each sample times its reward        rloo   times its reward less that of the other        ppo   rloo's, with a clipped ratio
#     dr_grpo     less the mean of both               grpo   the same, over their standard deviation

# %%
print(lab.table(group_size=2))
raised = tl.rl.enumerate(policy, lambda y: 10 + rewards[y[0]], length=1)
rows = {name: (lab.estimate(name)["spread"], raised.estimate(name)["spread"]) for name in ("reinforce", "rloo")}
print("the same with 10 added to every reward: spread " + ", ".join(f"{name} {a:.2f} -> {b:.2f}" for name, (a, b) in rows.items()))
assert abs(lab.estimate("reinforce")["bias"]) < 1e-12 and abs(lab.estimate("rloo")["bias"]) < 1e-12

# %% [markdown]
# Adding a constant to all rewards changes nothing about which is better, and ruins an estimator without a baseline. Taking off what was to be
# expected is most of the art, and the rest of this lesson is about better expectations.
#
# ## The ratio and its clip
#
# Sampling is dear, so each batch is used for several updates. After the first one the samples are an older policy's; the ratio r = π_new / π_old puts
# that right. It does so well only while it is near 1. PPO's objective for a token of advantage A is min(A r, A clip(r, 0.8, 1.2)): beyond the clip it
# is flat, the slope is 0 and the token pulls no further.

# %%
ratios = np.linspace(0.4, 1.8, 141)
clipped, plain = {}, {}
for A, name in ((1.0, "A = 1: better than expected"), (-1.0, "A = -1: worse")):
    objective = [-tl.rl.ppo_loss([[np.log(r)]], [[0.0]], [[A]], [[1]])[0].item() for r in ratios]
    assert np.allclose(objective, np.minimum(A * ratios, A * np.clip(ratios, 0.8, 1.2)))
    clipped[name], plain[name] = (ratios, objective), (ratios, A * ratios)
drawing.save("out/21_clip.svg", drawing.curves(clipped, "what a token adds to the objective; thin: without the clip", 520, 280, faint=plain,
                                               x_label="ratio π_new / π_old"))
print(tl.rl.explain_token(0, 0, logps=[[-0.5]], old_logps=[[-1.0]], advantages=[2.0], mask=[[1]]))
print(tl.rl.explain_token(0, 0, logps=[[-0.5]], old_logps=[[-1.0]], advantages=[-2.0], mask=[[1]]))

# %% [markdown]
# The second is not clipped: a bad token that has become likelier can be pulled back from any distance. The min always takes the more pessimistic of
# the two.
#
# ## Advantages of single tokens
#
# PPO's expectation is a network, the value function V: how much reward is still to come from here. Five tokens; the score 1 comes at the end, each
# token pays a little for moving away from the reference (-0.1 times its log-ratio). Generalised advantage estimation (1506.02438) goes backwards:
#
#     δ_t = r_t + γ V_{t+1} - V_t          A_t = δ_t + γ λ A_{t+1}
#
# λ = 0 trusts V alone; λ = 1 looks at what really came, less V.

# %%
log_ratio = np.array([0.5, -0.2, 0.0, 1.0, 0.3])
r = 0.0 - 0.1 * log_ratio
r[-1] += 1.0                                                        # the score, on the last token
V = np.array([0.4, 0.5, 0.3, 0.6, 0.9])
gamma = 1.0


def by_hand(lam):
    """(δ, A) of the five tokens, backwards."""
    delta, A, next_V, next_A = np.zeros(5), np.zeros(5), 0.0, 0.0
    for t in (4, 3, 2, 1, 0):
        delta[t] = r[t] + gamma * next_V - V[t]
        A[t] = delta[t] + gamma * lam * next_A
        next_V, next_A = V[t], A[t]
    return delta, A


table = {"reward": r, "V": V, "δ": by_hand(0.95)[0]}
for lam in (0.0, 0.5, 0.95, 1.0):
    A, returns = tl.rl.gae(r[None], V[None], np.ones((1, 5)), gamma, lam)
    assert np.allclose(A[0], by_hand(lam)[1]) and np.allclose(returns[0], A[0] + V)
    table[f"A, λ = {lam:g}"] = A[0]
assert np.allclose(table["A, λ = 0"], table["δ"]) and np.allclose(table["A, λ = 1"], np.cumsum(r[::-1])[::-1] - V)
print()
for name, row in table.items():
    print(f"{name:12}" + "".join(f"{v:>+9.4f}" for v in row))
shaped = tl.rl.shape_rewards([1.0], log_ratio[None], np.zeros((1, 5)), np.ones((1, 5)), beta=0.1)
assert np.allclose(shaped[0], r)
drawing.save("out/21_gae.svg", drawing.numbers(np.stack(list(table.values())), list(table), [f"token {t}" for t in range(1, 6)],
                                               "advantages of five tokens", digits=3))

# %% [markdown]
# ## PPO on a task
#
# A GPT learns to sort digits: "4290=" is answered by "0249". After a short supervised warm start PPO samples, scores, and updates policy and value
# function; in the first steps only the value function learns. Three numbers to watch: the reward; the KL to the start, the way gone; and the share of
# tokens that the clip has stopped.

# %%
task = tl.rl.load_task("sort", 3 if quick else 4)
tokenizer = tl.rl.task_tokenizer(task)
start = tl.rl.fresh_model(task, tokenizer)
tl.rl.warm_start(start, task, tokenizer, until=0.1, out=io.StringIO())
steps = 2 if quick else 60


def learn(**options):
    """PPO from the start; `tl.rl.watched` keeps the numbers of its steps and its evaluations."""
    config = tl.rl.PPOConfig(**{"steps": steps, "episodes": 128, "value_warmup": 1 if quick else 8, "eval_every": steps, "until": 1.0, **options})
    trainer = tl.rl.watched(tl.rl.PPO)(copy.deepcopy(start), task, tokenizer, config, out=io.StringIO())
    trainer.fit()
    return trainer


eager = {"epochs": 2 if quick else 8, "kl_stop": 1e9}               # eight passes over each batch, and nothing else to hold them back
ways = {"as PPO is": {}, "a high price on KL": {"kl_coef": 0.3}, "8 passes": eager, "8 passes, no clip": {**eager, "clip": 0.999, "clip_high": 1e6}}
trainers = {}
print(f"\n{'':20}{'sampled':>18}{'greedy':>18}{'KL':>7}{'clipped':>9}")
for name, options in ways.items():
    trainers[name] = learn(**options)
    before, after = trainers[name].points
    stopped = np.mean([record["clip_fraction"] for record in trainers[name].records if "clip_fraction" in record])
    print(f"{name:20}{before['accuracy']:>8.1%} -> {after['accuracy']:.1%}{before['greedy']:>8.1%} -> {after['greedy']:.1%}"
          f"{after['kl']:>7.2f}{stopped:>9.1%}")

# %% [markdown]
# Eight passes get more out of the same samples. Without the clip they go further in the first steps than the others ever get, lose reward there, and
# arrive lower: far from 1 the ratio no longer puts right what it was to put right. A high price on KL buys a shorter way with a lower reward. (One
# seed each; change it before believing in a small difference.)

# %%
def line(trainer, name, over=5):
    """(step, mean of a number over the last steps); steps that do not have it are left out."""
    pairs = [(step, record[name]) for step, record in enumerate(trainer.records, 1) if name in record]
    steps, values = zip(*pairs)
    over = min(over, len(values))
    return steps[over - 1:], np.convolve(values, np.full(over, 1 / over), "valid")


drawing.save("out/21_ppo.html", drawing.page(
    f"PPO on sorting {task.difficulty} digits",
    *(drawing.curves({way: line(trainer, name) for way, trainer in trainers.items()}, title, x_label="step")
      for name, title in (("reward", "reward of the samples"), ("kl", "KL to the start, nats a completion"), ("clip_fraction", "share of tokens clipped"),
                          ("explained_variance", "share of the returns' variance that V explains")))))
