# %% [markdown]
# # Reward models: a number from comparisons
#
# Nobody can say how good an answer is on a scale from 0 to 100 and mean the same tomorrow. Saying which of two is better is easy. A reward model
# turns such comparisons into a number for any answer, and that number is what reinforcement learning from human feedback then climbs. Here is the
# maths on three answers; then a model that learns from a judge who errs in one case out of ten, and the two questions one should ask of it: how right
# can it be at all, and does it know how sure it is? In full the lesson takes about half a minute.

# %%
import io
import math
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## Bradley and Terry, on three answers
#
# Give each answer a score s. The model of 1952: A is preferred to B with the probability σ(s_A - s_B) = 1 / (1 + e^-(s_A - s_B)). The other way
# round, given who won, the loss of a comparison is -log of the probability of what happened:
#
#     L = -log σ(D),  D = s_winner - s_loser          ∂L/∂s_winner = -σ(-D),  ∂L/∂s_loser = +σ(-D)
#
# A surprise (D far below 0) pulls with full force, 1; what was expected hardly pulls at all. Three answers met a hundred times each:

# %%
sigma = lambda x: 1 / (1 + math.exp(-x))
wins = {("A", "B"): 73, ("B", "A"): 27, ("B", "C"): 73, ("C", "B"): 27, ("A", "C"): 88, ("C", "A"): 12}
winner = np.array(["ABC".index(w) for (w, _), n in wins.items() for _ in range(n)])
loser = np.array(["ABC".index(l) for (_, l), n in wins.items() for _ in range(n)])
scores = tl.Tensor(np.zeros(3), requires_grad=True)
loss, info = tl.rl.reward_loss(scores[winner], scores[loser])
loss.backward()
by_hand = [(loser == k).sum() * 0.5 / 300 - (winner == k).sum() * 0.5 / 300 for k in range(3)]      # σ(0) = 1/2
print(f"all scores 0: loss {loss.item():.4f} = log 2, slopes {scores.grad.round(4)}")
assert math.isclose(loss.item(), math.log(2)) and np.allclose(scores.grad, by_hand)

# %%
for step in range(300):
    scores.grad = None
    loss, _ = tl.rl.reward_loss(scores[winner], scores[loser])
    loss.backward()
    scores.data -= 2.0 * scores.grad
a, b, c = scores.numpy()
print(f"after 300 steps: A {a:.3f}, B {b:.3f}, C {c:.3f}; loss {loss.item():.4f}")
print(f"P(A over B) = {sigma(a - b):.3f} (counted 0.73), P(B over C) = {sigma(b - c):.3f} (0.73), P(A over C) = {sigma(a - c):.3f} (0.88)")
assert abs(sigma(a - b) - 0.73) < 0.01 and abs(sigma(a - c) - 0.88) < 0.01

# %% [markdown]
# Two scores a step apart win 73 to 27, two steps apart 88 to 12: the three numbers explain six. Only differences count: add 100 to each and no
# probability changes. That is why a trained reward model is moved to mean 0 and standard deviation 1 before it is used (`tl.rl.Normaliser`).

# %%
shifted, _ = tl.rl.reward_loss(scores.numpy()[winner] + 100, scores.numpy()[loser] + 100)
assert math.isclose(shifted.item(), tl.rl.reward_loss(scores.numpy()[winner], scores.numpy()[loser])[0].item())
D = np.linspace(-4, 4, 81)
drawing.save("out/20_bradley_terry.svg", drawing.curves(
    {"-log σ(D)": (D, np.logaddexp(0, -D)), "its pull, σ(-D)": (D, 1 / (1 + np.exp(D)))}, "the loss of a comparison", 480, 260,
    x_label="D, score of the winner less that of the loser"))

# %% [markdown]
# ## A judge who errs
#
# The answers are now a small GPT's attempts at sorting four digits, and how good one is we know exactly: the share of its digits that are right. The
# judge sees two attempts, prefers the better one, and errs in one case out of ten.

# %%
noise, task = 0.1, tl.rl.Graded(tl.rl.load_task("sort", 3 if quick else 4))
tokenizer = tl.rl.task_tokenizer(task)
policy = tl.rl.fresh_model(task, tokenizer)
tl.rl.warm_start(policy, task, tokenizer, until=0.1, out=io.StringIO())
records = tl.rl.judged_pairs(policy, tokenizer, task, 200 if quick else 4000, tl.Generator(2), noise=noise)
for record in records[:3]:
    better, worse = (task.reward(record["prompt"], record[side]) for side in ("chosen", "rejected"))
    print(f"{record['prompt']}  preferred {record['chosen']!r} ({better:.1f}) to {record['rejected']!r} ({worse:.1f}){'   <- a mistake' if better < worse else ''}")
wrong = np.mean([task.reward(r["prompt"], r["chosen"]) < task.reward(r["prompt"], r["rejected"]) for r in records])
print(f"{len(records)} comparisons, {wrong:.1%} of them mistakes")

# %% [markdown]
# ## Training, and the ceiling
#
# A reward model is the GPT with its head exchanged for a single number, read at the last token. Nobody can agree with this judge in more than 90 % of
# new cases: that is the ceiling. With the truth, which the judge only reports, it may agree more often. And on the comparisons it is trained on it
# may agree too often: from there on it learns the judge's mistakes by heart.

# %%
def truly(pairs):
    """+1 where the chosen completion is the better one, -1 where the judge erred."""
    value = lambda rows: np.array([task.reward(p, t) for p, t in zip(rows.prompts, rows.texts)])
    return np.sign(value(pairs.chosen) - value(pairs.rejected))


def margins(model, pairs):
    with tl.no_grad():
        return model.score(pairs.chosen).numpy() - model.score(pairs.rejected).numpy()


def train(records, steps, looks=12):
    """A reward model, and what it gets right on the way: [(passes over its comparisons, training, held out, truth), …]."""
    config = tl.rl.RewardConfig(steps=steps, eval_every=steps)
    trainer = tl.rl.RewardTrainer(policy, records, task, tokenizer, config, out=io.StringIO())
    some = trainer.train.take(np.arange(min(500, len(trainer.train))))
    truth, rows = truly(judged), []
    for step in range(steps + 1):
        if step % max(steps // looks, 1) == 0:
            D = margins(trainer.model, judged)
            rows.append((step * config.batch / len(trainer.train), (margins(trainer.model, some) > 0).mean(), (D > 0).mean(), (D * truth > 0).mean()))
        if step < steps:
            trainer.iteration()
            trainer.step += 1
    return trainer, np.array(rows)


fresh = tl.rl.judged_pairs(policy, tokenizer, task, 100 if quick else 1000, tl.Generator(77), noise=noise)      # never trained on
judged = tl.rl.encode_pairs(tokenizer, fresh, policy.config.block_size)
few, steps = (20, 3) if quick else (200, 500)
strong, strong_rows = train(records, steps)
weak, weak_rows = train(records[:few], max(steps // 2, 1))
print(f"\n{'':22}{'passes':>8}{'its own':>9}{'held out':>10}{'the truth':>11}")
for name, rows in ((f"{len(records)} comparisons", strong_rows), (f"{few} comparisons", weak_rows)):
    for row in rows[[0, len(rows) // 3, -1]]:
        print(f"{name:22}{row[0]:>8.1f}{row[1]:>9.1%}{row[2]:>10.1%}{row[3]:>11.1%}")


def learning(rows, title):
    names = "its own comparisons", "new ones, the judge", "new ones, the truth"
    return drawing.curves({name: (rows[:, 0], rows[:, k]) for k, name in enumerate(names, 1)}, title, 520, 300, floors={"the judge's own": 1 - noise}, x_label="passes over the comparisons", y_label="share right")


drawing.save("out/20_ceiling.html", drawing.page(
    "How right a reward model can be", learning(strong_rows, f"{len(records)} comparisons"), learning(weak_rows, f"{few} comparisons"),
    "A model that agrees with its own comparisons more often than the judge agrees with the truth has learnt mistakes by heart."))

# %% [markdown]
# ## Does it know how sure it is?
#
# σ(D) is a promise: of the comparisons in which it says 80 %, 80 should go its way. Sort the new comparisons by the size of D, make ten heaps, and
# look what came of each. No heap can keep much more than 90 %, since the judge errs everywhere; a model that has seen few comparisons too often
# promises far more than it keeps.

# %%
lines = {"a promise kept": ([0.5, 1.0], [0.5, 1.0])}
for name, trainer in ((f"{len(records)} comparisons", strong), (f"{few} comparisons", weak)):
    with tl.no_grad():
        chosen, rejected = trainer.model.score(judged.chosen).numpy(), trainer.model.score(judged.rejected).numpy()
    bins = tl.rl.calibration(chosen, rejected, bins=10)
    lines[name] = ([row[3] for row in bins], [row[4] for row in bins])
    off = sum(row[2] * abs(row[3] - row[4]) for row in bins) / len(judged)
    print(f"{name}: promises {np.mean(lines[name][0]):.1%} on average and keeps {np.mean(lines[name][1]):.1%}; off by {off:.3f} in the mean heap")
drawing.save("out/20_calibration.svg", drawing.curves(lines, "how often it is right, by what it promises", 460, 320, x_label="promised, σ(|D|)", y_label="kept"))

# %% [markdown]
# ## The number itself
#
# It has only ever seen which of two is better, never a reward. Its mean score for attempts of each true reward:

# %%
asked = tl.rl.Prompts(task).draw(32 if quick else 500, tl.Generator(9), held_out=True)
rollout = tl.rl.scored(tl.rl.sample(policy, tokenizer, asked, 1, task.max_new_tokens, tl.Generator(10)), task)
rollout = rollout.take(np.flatnonzero(~rollout.truncated))          # the judge is shown finished attempts only
with tl.no_grad():
    given = {}
    for name, trainer in ((f"{len(records)} comparisons", strong), (f"{few} comparisons", weak)):
        trainer.evaluate()              # fits its normaliser
        given[name] = trainer.normaliser(trainer.model.score(rollout).numpy())
levels = np.round(4 * rollout.rewards) / 4
means = {name: [(level, scores[levels == level].mean()) for level in np.unique(levels)] for name, scores in given.items()}
print(f"\n{'true reward':18}" + "".join(f"{level:>8.2f}" for level in np.unique(levels)))
for name, row in means.items():
    print(f"{name:18}" + "".join(f"{score:>+8.2f}" for _, score in row))
for name, scores in given.items():
    print(f"correlation of score and true reward, {name}: {np.corrcoef(scores, rollout.rewards)[0, 1]:.3f}")
drawing.save("out/20_scores.svg", drawing.curves({name: tuple(zip(*row)) for name, row in means.items()},
                                                 "mean score of attempts", 460, 280, x_label="true reward", y_label="score"))

# %% [markdown]
# The scores were moved to mean 0 on preferred answers from the training: the model of few comparisons knows those by heart, and all new attempts look
# bad to it.
#
# The score follows the reward where there were attempts to compare. A policy that climbs it will go where there were none; what happens there is the
# last lesson's.
