"""`report.html` of a reinforcement-learning run: curves, samples, and the last rollout token by token.

In the last rollout a token's background says what its completion's advantage asks for (blue: likelier, red: less likely, the stronger the
more) and its underline what the clip says after the last update: a line under a token whose ratio has left the clip's range on the side
that its advantage points to, and which would learn nothing more.
"""

import html

import numpy as np

from .. import drawing
from ..atomic import write_bytes
from ..drawing import Picture, curves
from ..engine import no_grad
from ..train.metrics import read_metrics
from ..train.report import LOW, WIDE, points, smoothed, table
from .rows import policy_logps

CURVES = (
    ("reward", "Reward of training completions"), ("score", "What learning takes for their reward"), ("loss", "Loss"), ("kl_coef", "Price of KL"),
    ("clip_fraction", "Share of tokens clipped"), ("no_signal", "Share of groups whose rewards are all equal"),
    ("pair_accuracy", "Pairs in the right order"), ("explained_variance", "Share of the returns' variance that the value function explains"),
    ("length", "Tokens a completion"), ("grad_norm", "Gradient norm, before clipping"))
HELD_OUT = {"sampled": "eval_accuracy", "greedy": "eval_greedy", "reward": "eval_reward"}
SHOWN = 24      # completions of the last rollout


def write_report(trainer):
    """Write `report.html` into the trainer's run directory; returns its path."""
    run = trainer.run
    records = read_metrics(run.metrics_path)
    target = run.path / "report.html"
    parts = [_facts(trainer), *_held_out(records), *_time(records), *_curves(records), *_samples(trainer.last), *_rollout(trainer)]
    write_bytes(target, drawing.page(run.path.name, *parts).encode())
    return target


def _facts(trainer):
    told = trainer.run.config
    return table([
        ("algorithm", told["algorithm"]), ("task", " ".join(str(word) for word in told["task"] if word is not None)),
        ("model", f"{told['model']['type']}, {trainer.model.num_params():,} parameters"), ("steps", f"{trainer.step:,} in {trainer.seconds:,.0f} s"),
        ("settings", ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in told["rl"].items()))])


def _held_out(records):
    lines = {name: line for name, key in HELD_OUT.items() if (line := points(records, key))[0]}
    if lines.get("reward") == lines.get("sampled"):         # a reward of 0 or 1 is the share of right answers
        lines.pop("reward", None)
    if len(lines.get("sampled", ([],))[0]) > 1:
        yield "# Held out: share of right answers"
        yield curves(lines, "", WIDE, LOW * 2, x_label="step")


def _time(records):
    """Where the time of a step goes."""
    sums = {name: sum(record.get(name, 0.0) for record in records) for name in ("seconds_sampling", "seconds_learning", "seconds")}
    if sums["seconds_sampling"]:
        steps = sum("seconds" in record for record in records)
        yield (f"{sums['seconds'] / steps:.3f} s a step: {sums['seconds_sampling'] / sums['seconds']:.0%} sampling and judging, "
               f"{sums['seconds_learning'] / sums['seconds']:.0%} learning")


def _curves(records):
    steps = [record for record in records if "seconds" in record]
    for name, title in CURVES:
        line = points(steps, name)
        if len(line[0]) > 1:
            yield "# " + title
            yield smoothed(line)
    for name, title in (("eval_entropy", "Entropy, nats a token"), ("eval_kl", "KL to the start on held-out prompts, nats a completion")):
        line = points(records, name)
        if len(line[0]) > 1:
            yield "# " + title
            yield curves({name.removeprefix("eval_"): line}, "", WIDE, LOW)


def _samples(last):
    if last.get("samples"):
        yield "# Samples and their rewards"
        yield table([(prompt, text, f"{reward:g}") for prompt, text, reward in last["samples"]])


def _rollout(trainer):
    """The last rollout, each token coloured by its advantage and marked where it is clipped."""
    shown = getattr(trainer, "last_rollout", None)
    if shown is None or not np.any(shown[1]):
        return
    rollout, advantages = shown
    telling = np.flatnonzero(np.abs(advantages.reshape(len(rollout), -1)).max(axis=1) > 0)[:SHOWN]      # the others teach nothing
    rows, advantages = rollout.take(telling), advantages[telling]
    with no_grad():
        ratio = np.exp(policy_logps(trainer.model, rows, trainer.config.temperature).numpy() - rows.old_logps)
    width = ratio.shape[1]
    advantages = np.broadcast_to(advantages[:, None] if advantages.ndim == 1 else advantages[:, :width], ratio.shape)
    high = 1 + (trainer.config.clip if trainer.config.clip_high is None else trainer.config.clip_high)
    lines = []
    for i in range(len(rows)):
        tokens = []
        for t in np.flatnonzero(rows.actions[i]):
            text, a, r = trainer.tokenizer.decode([int(rows.ids[i, t + 1])]), advantages[i, t], ratio[i, t]
            clipped = (a > 0 and r > high) or (a < 0 and r < 1 - trainer.config.clip)
            tokens.append(_token("⏎" if text == "\n" else text, a, r, clipped))
        lines.append(f"<div><code>{html.escape(rows.prompts[i])}{''.join(tokens)}</code> reward {rows.rewards[i]:g}</div>")
    legend = "blue: to become likelier; red: less likely; underlined: clipped after the last update. Point at a token for its numbers."
    yield from ("# The last rollout", legend, Picture("".join(lines)))


def _token(text, advantage, ratio, clipped):
    strength = min(abs(advantage) / 2, 1.0) * 0.6
    colour = f"rgba(72,120,168,{strength:.2f})" if advantage > 0 else f"rgba(200,85,61,{strength:.2f})"
    line = "border-bottom:2px solid" if clipped else ""
    return (f'<span style="background:{colour};{line}" title="advantage {advantage:.3f}, ratio {ratio:.3f}{", clipped" if clipped else ""}">'
            f"{html.escape(text)}</span>")
