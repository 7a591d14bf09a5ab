"""`report.html`: what a run did and what its model has learned, on one page that needs nothing but a browser.

The curves: loss on training batches (each step faint, their running mean strong) and on the validation text, with its best point and the
floor where it is known; learning rate, gradient norm, and speed. Then what training looks like from inside: the gradient norm of each layer,
and what the model wrote at each evaluation. Last the model itself, with its best weights: which tokens its heads look at, and what it
would write next. `write_comparison` draws the losses of several runs together.
"""

import html
from pathlib import Path

import numpy as np

from .. import drawing
from ..atomic import write_bytes
from ..drawing import Picture, curves
from ..engine import no_grad
from .metrics import read_metrics
from .run import RunDirectory

WIDE, HIGH, LOW = 760, 300, 150     # of the charts, in pixels
SAMPLES = 8                         # of those that were written at evaluations, the most that are shown
READ = 14                           # tokens whose attention is drawn
HEADS = 6                           # heads of a layer that are drawn


def write_report(path):
    """Write `report.html` into run directory `path`; returns its path. UserError if it is no run."""
    run = RunDirectory.open(path)
    records = read_metrics(run.metrics_path)
    steps = [record for record in records if record.get("loss") is not None]
    with run.understood():
        evaluations = points(records, "val_loss")
        parts = [_facts(run.config, steps, evaluations)]
        if steps:
            parts += [*_curves(run.config, steps, evaluations), *_layers(steps), *_samples(records), *_model_at_work(run, records)]
        page = drawing.page(run.path.name, *parts)
    target = run.path / "report.html"
    write_bytes(target, page.encode("utf-8", "replace"))
    return target


def write_comparison(paths, target):
    """Write one page with the losses of several runs, a colour each; returns its path. UserError if one is no run."""
    runs = [RunDirectory.open(path) for path in paths]
    records = [read_metrics(run.metrics_path) for run in runs]
    names = _distinct([run.path.name for run in runs])
    validation = {name: points(own, "val_loss") for name, own in zip(names, records)}
    training = {name: running_mean(points(own, "loss")) for name, own in zip(names, records)}
    parts = [table([("run", "model", "validation loss")] + [(name, _model(run.config["model"]), _best(validation[name])) for name, run in zip(names, runs)])]
    right = {name: points(own, "eval_accuracy") for name, own in zip(names, records)}
    for title, lines, unit in (("Validation loss", validation, "nats per token"), ("Training loss, running mean", training, "nats per token"),
                               ("Held out: share of right answers", right, "")):
        lines = {name: line for name, line in lines.items() if line[0]}
        if lines:
            parts += ["# " + title, curves(lines, "", WIDE, HIGH, x_label="step", y_label=unit)]
    write_bytes(Path(target), drawing.page(", ".join(names), *parts).encode())
    return Path(target)


def _distinct(names):
    """The names, numbered where one comes again."""
    return [name if names.index(name) == k else f"{name} ({k + 1})" for k, name in enumerate(names)]


# ---- parts of a page, also of those of reinforcement learning

def table(rows):
    """Rows of cells, the first column soft.

    >>> table([("steps", "3 < 4")])
    '<table><tr><td class="soft">steps</td><td>3 &lt; 4</td></tr></table>'
    """
    def row(first, *rest):
        return f'<tr><td class="soft">{html.escape(first)}</td>' + "".join(f"<td>{html.escape(cell)}</td>" for cell in rest) + "</tr>"
    return Picture("<table>" + "".join(row(*cells) for cells in rows) + "</table>")


def points(records, key):
    """(steps, values) of the records that have a value."""
    kept = [record for record in records if record.get(key) is not None]
    return [record["step"] for record in kept], [record[key] for record in kept]


def smoothed(line, name="mean", **options):
    """A chart of (steps, values): each step faint, their running mean strong."""
    return curves({name: running_mean(line)}, "", WIDE, LOW, faint={name: line}, **options)


def running_mean(line, share=0.05):
    """(x, exponential running mean of y) of (x, y), free of the start's bias.

    >>> running_mean(([1, 2], [2.0, 2.0]))
    ([1, 2], [2.0, 2.0])
    """
    mean = weight = 0.0
    smooth = []
    for y in line[1]:
        mean, weight = (1 - share) * mean + share * y, (1 - share) * weight + share
        smooth.append(mean / weight)
    return line[0], smooth


# ---- the page of one run

def _best(line):
    step, loss = min(zip(*line), key=lambda pair: pair[1], default=(None, None))
    return "not validated" if step is None else f"best {loss:.4f} at step {step:,}"


def _model(model):
    return f"{model['type']}, {model['n_layer']} layers, {model['n_head']} heads, width {model['n_embd']}, block {model['block_size']}"


def _facts(config, steps, evaluations):
    model, data, train = config["model"], config["data"], config["train"]
    windows = len(steps) * train["batch"] * train["accumulate"]
    rows = [("model", _model(model)),
            ("text", f"{', '.join(Path(s).name for s in data['sources'])}: {data['train_tokens']:,} tokens to train on, {data['val_tokens']:,} to "
                     f"validate on, {data['tokenizer']} vocabulary of {model['vocab_size']:,}"),
            ("training", f"{len(steps):,} of {train['steps']:,} steps of {train['batch']} × {train['accumulate']} windows, seed {train['seed']}"),
            ("tokens seen", f"{windows * model['block_size']:,}, {windows * model['block_size'] / max(data['train_tokens'], 1):.3g} times the text")]
    if evaluations[0]:
        rows.append(("validation loss", _best(evaluations)))
    rows.append(("time in steps", f"{sum(record.get('seconds', 0) for record in steps):,.0f} s"))
    return table(rows)


def _curves(config, steps, evaluations):
    loss, floor = points(steps, "loss"), config["data"].get("floor_per_token")
    lines = {"training": running_mean(loss)} | ({"validation": evaluations} if evaluations[0] else {})
    yield "# Loss"
    yield curves(lines, "", WIDE, HIGH, faint={"training": loss}, mark_lowest="validation" if evaluations[0] else (),
                 floors=None if floor is None else {"floor": floor}, x_label="step", y_label="nats per token")
    yield "# Learning rate"
    yield curves({"rate": points(steps, "lr")}, "", WIDE, LOW)
    yield "# Gradient norm, before clipping"
    yield smoothed(points(steps, "grad_norm"))
    yield "# Tokens per second"
    yield smoothed(points(steps, "tokens_per_second"))


def _layers(steps):
    """Gradient norms by layer: at the first step, half-way, and at the last evaluation."""
    seen = [record for record in steps if record.get("layer_grad_norms")]
    if seen:
        shown = {f"step {record['step']:,}": record["layer_grad_norms"] for record in (seen[0], seen[len(seen) // 2], seen[-1])}
        layers = list(dict.fromkeys(layer for norms in shown.values() for layer in norms))
        yield "# Gradient norm of each layer, before clipping"
        yield drawing.bars({step: [norms.get(layer, 0.0) for layer in layers] for step, norms in shown.items()}, layers, "", WIDE, log=True)


def _samples(records):
    """What the model wrote, from the first evaluation to the last."""
    written = [(record["step"], record["sample"]) for record in records if "sample" in record]
    if written:
        chosen = dict.fromkeys(round(k) for k in np.linspace(0, len(written) - 1, min(SAMPLES, len(written))))
        yield "# What it wrote, with the same random numbers each time"
        yield table([(f"step {written[k][0]:,}", written[k][1].strip()) for k in chosen])


def _model_at_work(run, records):
    """Attention of the first and the last layer on a piece of the last sample, and what would come next."""
    sample = next((record["sample"] for record in reversed(records) if record.get("sample", "").strip()), None)
    if sample is None or not ("best" in run.checkpoints or "last" in run.checkpoints):
        return
    from ..load import load
    from ..nn.attention import reading
    model, tokenizer = load(run.path)
    ids = tokenizer.encode_array(sample.strip(), disallowed_special=())[:min(READ, model.config.block_size)]
    with no_grad(), reading(model) as weights:
        logits = model(ids[None]).numpy()[0, -1]
    words = [_word(tokenizer, token) for token in ids.tolist()]
    last = len(weights) - 1
    yield f"# What its heads look at, with the best weights (layer 0{f' and layer {last}' if last else ''})"
    columns = 4 if model.config.n_head == 4 else 3
    yield from (drawing.attention_grid(weights[layer][0][:HEADS], words, f"layer {layer}", columns) for layer in sorted({0, last}))
    best = np.argsort(-logits, kind="stable")[:12].tolist()
    yield f"# What comes after “{''.join(tokenizer.decode(ids))}”"
    yield drawing.next_tokens(logits, {token: _word(tokenizer, token) for token in best})


def _word(tokenizer, token):
    """A token as one can see it."""
    return tokenizer.decode([token]).replace("\n", "⏎")
