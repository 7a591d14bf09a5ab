# %% [markdown]
# # DPO: preferences without a reward model
#
# RLHF learns a reward from preferences and then climbs it, held back by a price on the distance to where it began. The best policy of that climb can
# be written down. Direct preference optimisation (2305.18290) turns the formula around, so that the policy is its own reward model, and one loss on
# pairs does all the work. Here is the derivation, checked in a world of three completions where everything is known; then DPO on a judge's
# preferences, and what happens to the probability of the answers that were preferred. In full the lesson takes less than half a minute.

# %%
import copy
import io
import math
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## The best policy, in closed form
#
# What RLHF maximises is J - β KL(π‖ref): the expected reward, less a price β for each nat of distance to the reference. No policy does better than
#
#     π*(y) = ref(y) · e^(r(y) / β) / Z          Z = Σ ref(y) e^(r(y) / β)          (2305.18290, Eq. 4)
#
# Three completions, their rewards, a reference:

# %%
rewards, beta = np.array([1.0, 0.5, 0.0]), 0.5
start = tl.rl.Tabular(3, 1)
start.logits.data[:] = np.log([0.2, 0.3, 0.5])
lab = tl.rl.enumerate(start, lambda y: rewards[y[0]], length=1)
ref = lab.probabilities
Z = (ref * np.exp(rewards / beta)).sum()
best = ref * np.exp(rewards / beta) / Z
print(f"reference {ref.round(4)}   best policy {best.round(4)}")
assert np.allclose(best, lab.optimal(beta))
value = lambda pi: pi @ rewards - beta * pi @ np.log(pi / ref)
others = tl.Generator(0).rand((1000, 3), dtype=np.float64) + 1e-3
rival = max(value(o / o.sum()) for o in others)
print(f"J - β KL of the best policy {value(best):.6f} = β log Z = {beta * math.log(Z):.6f}; the best of 1,000 random ones {rival:.6f}")
assert math.isclose(value(best), beta * math.log(Z)) and rival < value(best)

# %% [markdown]
# ## Turned around
#
# Solve it for the reward: r(y) = β log π*(y)/ref(y) + β log Z. Nobody can compute Z for a language model. But preferences only know differences of
# rewards (Bradley and Terry, lesson 20), and in a difference Z goes away:
#
#     P(y_w over y_l) = σ(r_w - r_l) = σ(β h),   h = log π(y_w)/ref(y_w) - log π(y_l)/ref(y_l)          L = -log σ(β h)
#
# That is DPO's loss. Its slope by log π(y_w) is -β σ(-βh), and the same with the other sign by log π(y_l): wrongly ordered pairs pull most. At the
# start π = ref, so h = 0 and the loss is log 2.

# %%
r_back = beta * np.log(best / ref) + beta * math.log(Z)
print(f"rewards read back from the best policy: {r_back.round(4)}")
assert np.allclose(r_back, rewards)
chosen, rejected = tl.Tensor([-2.0], requires_grad=True), tl.Tensor([-3.0], requires_grad=True)
loss, info = tl.rl.dpo_loss(chosen, rejected, [-2.5], [-2.5], beta=beta)
loss.backward()
h = (-2.0 + 2.5) - (-3.0 + 2.5)
print(f"h = {h:g}: loss {loss.item():.4f}, slopes {chosen.grad[0]:+.4f} and {rejected.grad[0]:+.4f}")
assert math.isclose(loss.item(), math.log(1 + math.exp(-beta * h)), rel_tol=1e-6)
assert math.isclose(-chosen.grad[0], beta / (1 + math.exp(beta * h)), rel_tol=1e-6) and chosen.grad[0] == -rejected.grad[0]

# %% [markdown]
# ## Does it find the best policy?
#
# An endless supply of comparisons of our three completions, in which y_i is preferred to y_j in a share σ(r_i - r_j) of the cases. The mean loss of
# such a pair is DPO's loss with label smoothing ε = σ(r_j - r_i), the share of the cases in which the worse one wins. No reward, no sampling, no Z in
# it, and yet:

# %%
pairs = [(0, 1), (0, 2), (1, 2)]


def descend(loss_of, steps=200, rate=1.0):
    """(policies on the way (steps, 3), KL to the best one) of gradient descent from the reference."""
    policy = tl.rl.Tabular(3, 1)
    policy.logits.data[:] = start.logits.data
    way, distance = [], []
    for _ in range(steps):
        here = tl.rl.enumerate(policy, lambda y: rewards[y[0]], length=1, reference=start)
        way.append(here.probabilities)
        distance.append(here.kl_to_optimal(beta))
        policy.logits.grad = None
        logp = tl.F.log_softmax(policy.logits)[0]
        sum(loss_of(logp, i, j) for i, j in pairs).backward()
        policy.logits.data -= rate * policy.logits.grad / len(pairs)
    return np.array(way), distance


def one_pair(logp, i, j, **options):
    return tl.rl.dpo_loss(logp[[i]], logp[[j]], np.log(ref[[i]]), np.log(ref[[j]]), beta=beta, **options)[0]


share_wrong = lambda i, j: 1 / (1 + math.exp(rewards[i] - rewards[j]))
way, distance = descend(lambda logp, i, j: one_pair(logp, i, j, label_smoothing=share_wrong(i, j)))
print(f"\nDPO ends at {way[-1].round(3)}, the best policy is {best.round(3)}; KL to it {distance[0]:.4f} -> {distance[-1]:.1e}")
assert np.allclose(way[-1], best, atol=1e-4)

# %% [markdown]
# A judge who never errs breaks the bargain. If y_i always wins, the reward difference that explains it is infinite, and so is the best policy's: the
# loss has no minimum and the policy runs off, as far as it is trained, whatever β. IPO (2310.12036) asks for h = 1/2β instead and stops; the fewer
# the comparisons, the more it matters.

# %%
runaway, _ = descend(one_pair)
ipo, _ = descend(lambda logp, i, j: one_pair(logp, i, j, kind="ipo"), rate=0.03)
wish = ref * np.exp([4 / 3, 2 / 3, 0])      # IPO wants h = 1 of all three pairs; h_02 = h_01 + h_12, so it gets 2/3, 2/3, 4/3 (least squares)
assert np.allclose(ipo[-1], wish / wish.sum(), atol=1e-3)
print(f"a judge who never errs, 200 steps: DPO {runaway[-1].round(4)}, IPO {ipo[-1].round(4)}")
steps_axis = np.arange(len(way))
drawing.save("out/23_three_completions.html", drawing.page(
    "Three completions",
    drawing.curves({f"π of reward {r:g}": (steps_axis, way[:, k]) for k, r in enumerate(rewards)}, "a judge of Bradley and Terry's kind",
                   floors={f"π* of reward {r:g}:": best[k] for k, r in enumerate(rewards)}, x_label="step"),
    drawing.curves({"KL(π‖π*)": (steps_axis, distance)}, "the way that is left, in nats", log="y", x_label="step"),
    drawing.curves({f"π of reward {r:g}": (steps_axis, runaway[:, k]) for k, r in enumerate(rewards)}, "a judge who never errs: DPO", x_label="step"),
    drawing.curves({f"π of reward {r:g}": (steps_axis, ipo[:, k]) for k, r in enumerate(rewards)}, "a judge who never errs: IPO", x_label="step")))

# %% [markdown]
# ## On a task
#
# A GPT that sorts digits and is right now and then; a judge compares its attempts, and errs in one case out of ten. The share of the digits that are
# right is what the judge looks at.

# %%
task = tl.rl.Graded(tl.rl.load_task("sort", 3 if quick else 5))
tokenizer = tl.rl.task_tokenizer(task)
model = tl.rl.fresh_model(task, tokenizer)
tl.rl.warm_start(model, task, tokenizer, until=0.1, out=io.StringIO())
records = tl.rl.judged_pairs(model, tokenizer, task, 100 if quick else 3000, tl.Generator(2), noise=0.1)
runs = {}
steps = 3 if quick else 180
print(f"\n{'':12}{'reward':>17}{'sampled':>17}{'KL':>7}{'log π: chosen':>17}{'rejected':>17}")
for name, options in {"β = 1": {"beta": 1.0}, "β = 0.1": {"beta": 0.1}, "IPO, β = 0.1": {"beta": 0.1, "kind": "ipo"}}.items():
    config = tl.rl.DPOConfig(steps=steps, eval_every=max(steps // 6, 1), lr=3e-4, **options)
    runs[name] = trainer = tl.rl.watched(tl.rl.DPO)(copy.deepcopy(model), records, task, tokenizer, config, out=io.StringIO())
    trainer.fit()
    first, last = trainer.points[0], trainer.points[-1]
    mean = lambda key, part: np.mean([record[key] for record in trainer.records[part]])
    ends = [f"{mean(key, slice(0, 5)):.2f} -> {mean(key, slice(-20, None)):.2f}" for key in ("logp_chosen", "logp_rejected")]
    print(f"{name:12}{first['reward']:>8.3f} -> {last['reward']:.3f}{first['accuracy']:>8.1%} -> {last['accuracy']:.1%}{last['kl']:>7.2f}{ends[0]:>17}{ends[1]:>17}")

# %% [markdown]
# ## What happens to the preferred answers
#
# The loss asks for a difference: log π of the chosen less that of the rejected. It says nothing about either. Watch both: where they fall together,
# probability flows to answers that nobody compared. Here the run with the small β goes four times as far in KL or more, wins no reward, and makes the
# very answers that were preferred less likely. So one watches the log-probability of the chosen answers, and not the loss alone.

# %%
def smooth(trainer, key, over=15):
    """(step, mean of a number over the last steps)."""
    values = [record[key] for record in trainer.records]
    over = min(over, len(values))
    return np.arange(over, len(values) + 1), np.convolve(values, np.full(over, 1 / over), "valid")


held = lambda trainer, key: tuple(zip(*((point["step"], point[key]) for point in trainer.points)))
drawing.save("out/23_dpo.html", drawing.page(
    "DPO on sorting digits", "# The completions of the preferences, mean over 15 steps",
    drawing.curves({name: smooth(trainer, "logp_chosen") for name, trainer in runs.items()}, "log π of the chosen", 420, 240, x_label="step"),
    drawing.curves({name: smooth(trainer, "logp_rejected") for name, trainer in runs.items()}, "log π of the rejected", 420, 240, x_label="step"),
    "# Held-out prompts",
    drawing.curves({name: held(trainer, "reward") for name, trainer in runs.items()}, "reward", 420, 240, x_label="step"),
    drawing.curves({name: held(trainer, "kl") for name, trainer in runs.items()}, "KL to the start, nats a completion", 420, 240, x_label="step")))
