"""`report.html`: the curves of a run on one page that needs nothing but a browser.

Loss on training batches (each step faint, their running mean strong), on the validation text with its best
point, and the floor where it is known; learning rate, gradient norm and speed below. The pictures are SVG in the
page itself. `write_comparison` draws the losses of several runs together.
"""

import html
import itertools
import math
from pathlib import Path

from ..atomic import write_bytes
from .metrics import read_metrics
from .run import RunDirectory

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 760, 300, 56, 20, 28, 12
INK, FAINT, TRAIN, VALIDATION, FLOOR = "#333", "#ddd", "#4878a8", "#c8553d", "#5a8f5a"
COLOURS = (TRAIN, VALIDATION, FLOOR, "#8c6bb1", "#b8860b", "#2a9d8f")       # of the runs in a comparison

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;color:#333;max-width:800px;margin:2em auto;padding:0 1em}}
h1{{font-size:1.4em}}h2{{font-size:1.05em;margin:1.6em 0 .3em}}svg{{width:100%;height:auto}}
table{{border-collapse:collapse}}td{{padding:.1em 1.2em .1em 0}}td:first-child{{color:#777}}pre{{white-space:pre-wrap}}</style>
<h1>{title}</h1>{body}</html>
"""


def write_report(path):
    """Write `report.html` into run directory `path`; returns its path. UserError if it is no run."""
    run = RunDirectory.open(path)
    records = read_metrics(run.metrics_path)
    page = PAGE.format(title=html.escape(run.path.name), body=_body(run.config, records))
    target = Path(run.path) / "report.html"
    write_bytes(target, page.encode())
    return target


def write_comparison(paths, target):
    """Write one page with the losses of several runs, a colour each; returns its path. UserError if one is no run."""
    runs = [RunDirectory.open(path) for path in paths]
    records = [read_metrics(run.metrics_path) for run in runs]
    curves = {"Validation loss": [_points(own, "val_loss") for own in records],
              "Training loss, running mean": [running_mean(_points(own, "loss")) for own in records]}
    names = [html.escape(run.path.name) for run in runs]
    rows = [f"<tr><td style='color:{colour}'>{name}</td><td>{_model(run.config['model'])}</td><td>{_best(losses)}</td></tr>"
            for colour, name, run, losses in zip(itertools.cycle(COLOURS), names, runs, curves["Validation loss"])]
    parts = [f"<table>{''.join(rows)}</table>"]
    for title, lines in curves.items():
        if any(lines):
            drawn = [(points, colour, 2, name) for points, colour, name in zip(lines, itertools.cycle(COLOURS), names) if points]
            parts.append(f"<h2>{title}, nats per token</h2>" + chart(drawn))
    page = PAGE.format(title=", ".join(names), body="".join(parts))
    write_bytes(Path(target), page.encode())
    return Path(target)


def _points(records, key):
    return [(record["step"], record[key]) for record in records if record.get(key) is not None]


def _best(losses):
    return "best {1:.4f} at step {0:,}".format(*min(losses, key=lambda pair: pair[1])) if losses else "not validated"


def _model(model):
    return f"{model['type']}, {model['n_layer']} layers, {model['n_head']} heads, width {model['n_embd']}, block {model['block_size']}"


def _body(config, records):
    steps = [record for record in records if record.get("loss") is not None]
    evaluations = _points(records, "val_loss")
    parts = [_facts(config, steps, evaluations)]
    if steps:
        def points(key):
            return _points(steps, key)
        floor = config["data"].get("floor_per_token")
        lines = [(points("loss"), FAINT, 1, None), (running_mean(points("loss")), TRAIN, 2, "training"), (evaluations, VALIDATION, 2, "validation")]
        if floor is not None:
            lines.append(([(steps[0]["step"], floor), (steps[-1]["step"], floor)], FLOOR, 1.5, f"floor {floor:.3f}"))
        best = min(evaluations, key=lambda pair: pair[1], default=None)
        parts.append("<h2>Loss, nats per token</h2>" + chart(lines, mark=best))
        for key, title in (("lr", "Learning rate"), ("grad_norm", "Gradient norm, before clipping"), ("tokens_per_second", "Tokens per second")):
            drawn = [(points(key), FAINT, 1, None), (running_mean(points(key)), TRAIN, 2, None)] if key != "lr" else [(points(key), TRAIN, 2, None)]
            parts.append(f"<h2>{title}</h2>" + chart(drawn, height=140))
    return "".join(parts)


def _facts(config, steps, evaluations):
    model, data, train = config["model"], config["data"], config["train"]
    rows = {"model": _model(model),
            "text": f"{', '.join(Path(s).name for s in data['sources'])}: {data['train_tokens']:,} tokens to train on, {data['val_tokens']:,} to "
                    f"validate on, {data['tokenizer']} vocabulary of {model['vocab_size']:,}",
            "training": f"{len(steps):,} of {train['steps']:,} steps of {train['batch']} × {train['accumulate']} windows, seed {train['seed']}"}
    if evaluations:
        step, loss = min(evaluations, key=lambda pair: pair[1])
        rows["best validation loss"] = f"{loss:.4f} at step {step:,}"
    seconds = sum(record.get("seconds", 0) for record in steps)
    rows["time in steps"] = f"{seconds:,.0f} s"
    cells = "".join(f"<tr><td>{name}</td><td>{html.escape(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{cells}</table>"


def running_mean(points, share=0.05):
    """Exponential running mean of y over (x, y) points, free of the start's bias.

    >>> running_mean([(1, 2.0), (2, 2.0)])
    [(1, 2.0), (2, 2.0)]
    """
    mean = weight = 0.0
    smooth = []
    for x, y in points:
        mean, weight = (1 - share) * mean + share * y, (1 - share) * weight + share
        smooth.append((x, mean / weight))
    return smooth


def chart(lines, height=HEIGHT, mark=None):
    """An SVG of lines (points, colour, width, label or None) over common axes; `mark` is a point to name."""
    every = [point for points, *_ in lines for point in points]
    (x0, x1), (y0, y1) = (_range([point[axis] for point in every]) for axis in (0, 1))
    y0 = min(y0, 0) if y0 < 0.4 * y1 else y0
    labels = [(colour, label) for _, colour, _, label in lines if label]
    top = TOP + 14 if labels else TOP

    def place(x, y):
        return LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT), top + (y1 - y) / (y1 - y0) * (height - top - BOTTOM)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" font-size="12" fill="{INK}">']
    for tick in ticks(y0, y1):
        y = place(x0, tick)[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eee"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(x0, x1):
        parts.append(f'<text x="{place(tick, y0)[0]:.1f}" y="{height - 8}" text-anchor="middle">{tick:g}</text>')
    for points, colour, width, _ in lines:
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>')
    right = WIDTH - RIGHT
    for colour, label in reversed(labels):      # a row above the lines, where it can cover none of them
        parts.append(f'<text x="{right}" y="{TOP}" text-anchor="end" fill="{colour}">{label}</text>')
        right -= 7 * len(label) + 14
    if mark is not None:
        x, y = place(*mark)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{VALIDATION}"/>'
                     f'<text x="{x - 8:.1f}" y="{y - 8:.1f}" text-anchor="end" fill="{VALIDATION}">best {mark[1]:.4f}</text>')
    return "".join(parts) + "</svg>"


def _range(values):
    low, high = min(values), max(values)
    # a constant, whose running mean may differ from it in the last place, is drawn as one
    return (low, high) if high - low > 1e-9 * max(abs(low), abs(high)) else (low - 0.5, high + 0.5)


def ticks(low, high):
    """Round numbers between low and high, about five.

    >>> ticks(0, 2000)
    [0.0, 500.0, 1000.0, 1500.0, 2000.0]
    """
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= 0.999 * rough)
    first = -(-low // step)
    count = int((high - first * step) / step + 1e-9) + 1
    return [round((first + i) * step, 12) for i in range(count)]
