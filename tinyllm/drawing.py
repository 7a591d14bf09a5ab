"""Small pictures as SVG: attention grids, bars, curves, histograms, heatmaps. No package, no script, nothing to fetch.

Every function returns a string that can stand in a page or in a notebook. Colours are variables of the page around it
(`--ink`, `--soft`, `--line`, `--plus`, `--minus`) with defaults for light and dark, so that a picture fits where it stands.

    attention_grid(weights, tokens)     how much each token looks at each other, one grid a head; what is hidden is grey
    next_tokens(logits, tokens)         bars of the likeliest tokens, after temperature and filters
    bars, curves, histogram, heatmap    the same for anything
"""

import html
import math

import numpy as np

STYLE = """<style>.tl-drawing{--i:var(--ink,#1d2125);--s:var(--soft,#5f676f);--l:var(--line,#dcd8cf);--p:var(--plus,196,70,20);--m:var(--minus,30,90,200);
font:11px system-ui,sans-serif;fill:var(--i)}.tl-drawing .soft{fill:var(--s)}.tl-drawing .line{stroke:var(--l);fill:none}.tl-drawing .title{font-weight:600}.tl-drawing .hidden{fill:var(--l);opacity:.45}
@media (prefers-color-scheme:dark){.tl-drawing{--i:var(--ink,#e8e6e1);--s:var(--soft,#a0a6ab);--l:var(--line,#363a3d);--p:var(--plus,240,130,80);--m:var(--minus,100,160,255)}}</style>"""
LINES = ("rgb(var(--m))", "rgb(var(--p))", "#5a8f5a", "#8a63b8", "#a08020")
MOST = 40       # rows and columns of a heatmap that are drawn one by one


def svg(width, height, body, label):
    """The SVG around a picture; `label` is what a screen reader says."""
    return (f'<svg class="tl-drawing" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
            f'role="img" aria-label="{html.escape(label)}">{STYLE}{body}</svg>')


def _text(x, y, words, anchor="start", kind="", turn=None):
    turned = "" if turn is None else f' transform="rotate({turn} {x:.1f} {y:.1f})"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}"{turned}>{html.escape(str(words))}</text>'


def _cells(matrix, x, y, side, top):
    """The squares of a matrix, coloured by sign and size; NaN and Inf are marked with a cross."""
    parts = []
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            place = f'x="{x + j * side:.1f}" y="{y + i * side:.1f}" width="{side:.1f}" height="{side:.1f}"'
            if not np.isfinite(value):
                parts.append(f'<rect {place} class="line"/>{_text(x + (j + 0.5) * side, y + (i + 0.8) * side, "×", "middle")}')
                continue
            tone = "--p" if value >= 0 else "--m"
            parts.append(f'<rect {place} style="fill:rgba(var({tone}),{abs(value) / top if top else 0:.3f})"><title>[{i}, {j}] {value:.6g}</title></rect>')
    return "".join(parts)


def heatmap(array, title="", side=None):
    """A matrix as coloured squares, + and - told apart by colour and in each square's title; a large one as block means.

    >>> heatmap(np.eye(3)).count("<rect")
    9
    """
    from .stepper.arrays import block_means, matrix, shape_words
    whole = np.asarray(array)
    m = block_means(whole, (MOST, MOST)) if max(matrix(whole).shape) > MOST else matrix(whole).astype(np.float64)
    top = float(np.abs(m[np.isfinite(m)]).max(initial=0))
    side = side or max(5, min(18, 300 // max(m.shape, default=1) if m.size else 5))
    note = f"scale ±{top:.4g}" + ("" if m.size == whole.size else f"; {shape_words(whole.shape)} shown as {shape_words(m.shape)} block means")
    width = max(m.shape[1] * side, 7 * max(len(note), len(title)) * 0.8) + 4
    body = _text(2, 12, title, kind="title") + _cells(m, 2, 18, side, top) + _text(2, 18 + m.shape[0] * side + 13, note, kind="soft")
    return svg(width, 18 + m.shape[0] * side + 20, body, f"heatmap {title}, {note}")


def attention_grid(weights, tokens=None, title="", columns=4):
    """Weights (H, T, S) or (T, S) as one labelled grid a head: row i shows what token i looks at; `tokens` names the S columns.

    >>> attention_grid(np.tril(np.ones((2, 3, 3))), ["a", "b", "c"]).count('class="title"')
    3
    """
    weights = np.asarray(weights, np.float64)
    weights = weights.reshape(-1, *weights.shape[-2:])
    heads, rows, keys = weights.shape
    names = [str(t) for t in (tokens if tokens is not None else range(keys))]
    if len(names) != keys:
        raise ValueError(f"attention_grid: {len(names)} tokens for weights (H, T, S) with S = {keys}; name every column")
    side = max(8, min(20, 260 // keys))
    margin = 8 + 6.5 * max(map(len, names))
    wide, high = margin + keys * side + 12, 20 + margin + rows * side + 10
    columns = min(columns, heads)
    body = _text(2, 12, title, kind="title")
    for head in range(heads):
        x, y = (head % columns) * wide, 18 + (head // columns) * high
        body += _text(x + margin, y + 10, f"head {head}", kind="title")
        for j, name in enumerate(names):
            body += _text(x + margin + (j + 0.7) * side, y + margin + 12, name, "start", "soft", -60)
        for i, name in enumerate(names[keys - rows:]):
            body += _text(x + margin - 5, y + margin + 18 + (i + 0.7) * side, name, "end", "soft")
        body += "".join(f'<rect x="{x + margin + j * side:.1f}" y="{y + margin + 18 + i * side:.1f}" width="{side}" height="{side}" class="hidden"/>'
                        for i, j in np.argwhere(weights[head] == 0))
        body += _cells(weights[head], x + margin, y + margin + 18, side, 1.0)
        body += f'<rect x="{x + margin:.1f}" y="{y + margin + 18:.1f}" width="{keys * side}" height="{rows * side}" class="line"/>'
    return svg(columns * wide, 18 + math.ceil(heads / columns) * high, body, f"attention weights of {heads} heads {title}")


def bars(values, labels, title="", width=360):
    """Horizontal bars with their numbers; a negative one is hatched to the other colour.

    >>> bars([0.5, 0.25], [" a", " the"]).count("<rect")
    2
    """
    values = [float(v) for v in values]
    if len(values) != len(labels):
        raise ValueError(f"bars: {len(values)} values, {len(labels)} labels")
    left = 14 + 6.8 * max((len(str(label)) for label in labels), default=0)
    top = max((abs(v) for v in values if math.isfinite(v)), default=0) or 1
    body = _text(2, 12, title, kind="title")
    for k, (value, label) in enumerate(zip(values, labels)):
        y, long = 20 + 17 * k, (width - left - 60) * abs(value) / top if math.isfinite(value) else 0
        body += _text(left - 6, y + 11, label, "end") + f'<rect x="{left:.1f}" y="{y}" width="{long:.1f}" height="13" style="fill:rgb(var({"--p" if value >= 0 else "--m"}))"/>'
        body += _text(left + long + 5, y + 11, f"{value:.4g}", kind="soft")
    return svg(width, 26 + 17 * len(values), body, f"bars {title}")


def next_tokens(logits, tokens=None, count=12, title="", **sampling):
    """Bars of the likeliest next tokens for logits (V,), after `temperature`, `top_k`, `top_p`, `min_p` as `generate` takes them.

    >>> next_tokens(np.log([0.5, 0.3, 0.2]), ["a", "b", "c"], top_k=2).count("<rect")
    2
    """
    from .generate import Sampling, probabilities
    logits = np.asarray(logits, np.float64).reshape(1, -1)
    p = probabilities(Sampling(**sampling).filter(logits))[0]
    best = [k for k in np.argsort(-p, kind="stable")[:count] if p[k] > 0]
    setting = ", ".join(f"{k} {v:g}" for k, v in sampling.items() if v is not None)
    return bars(p[best], [repr(tokens[k]) if tokens is not None else k for k in best], title or f"next token{f' ({setting})' if setting else ''}")


def histogram(array, title="", bins=24, width=320, height=120):
    """How often which numbers occur; NaN and Inf are counted in the caption.

    >>> histogram([0.0, 1.0, 1.0], bins=2).count("<rect")
    2
    """
    flat = np.asarray(array, np.float64).ravel()
    finite = flat[np.isfinite(flat)]
    counts, edges = np.histogram(finite, bins=bins) if finite.size else (np.zeros(1), np.zeros(2))
    step = (width - 8) / len(counts)
    body = _text(2, 12, title, kind="title")
    for k, n in enumerate(counts):
        tall = (height - 44) * n / max(counts.max(), 1)
        body += (f'<rect x="{4 + k * step:.1f}" y="{height - 22 - tall:.1f}" width="{max(step - 1, 0.5):.1f}" height="{tall:.1f}" style="fill:rgb(var(--m))">'
                 f'<title>{edges[k]:.4g} to {edges[k + 1]:.4g}: {int(n)}</title></rect>')
    lost = f"; {flat.size - finite.size} not finite" if finite.size < flat.size else ""
    body += _text(4, height - 8, f"{edges[0]:.4g}", kind="soft") + _text(width - 4, height - 8, f"{edges[-1]:.4g}{lost}", "end", "soft")
    return svg(width, height, body, f"histogram {title}")


def curves(lines, title="", width=480, height=220, log=False, mark_lowest=None):
    """Lines (name -> y values, or name -> (x values, y values)) over common axes; `log` for y; `mark_lowest` names the line whose best point is marked.

    >>> curves({"loss": [3.0, 2.0, 2.5]}, mark_lowest="loss").count("<polyline")
    1
    """
    points = {}
    for name, line in lines.items():
        x, y = line if isinstance(line, tuple) else (range(1, len(line) + 1), line)
        points[name] = [(float(a), math.log10(b) if log else float(b)) for a, b in zip(x, y) if math.isfinite(b) and (b > 0 or not log)]
    every = [point for line in points.values() for point in line] or [(0.0, 0.0)]
    x0, x1, y0, y1 = (f(p[axis] for p in every) for axis in (0, 1) for f in (min, max))
    x1, y1 = (x1 if x1 > x0 else x0 + 1), (y1 if y1 > y0 else y0 + 1)

    def place(x, y):
        return 52 + (x - x0) / (x1 - x0) * (width - 66), 22 + (y1 - y) / (y1 - y0) * (height - 48)
    body = _text(2, 12, title, kind="title")
    for k in range(5):
        y = y0 + k * (y1 - y0) / 4
        at = place(x0, y)[1]
        body += f'<line x1="52" x2="{width - 14}" y1="{at:.1f}" y2="{at:.1f}" class="line"/>' + _text(47, at + 4, f"{10**y if log else y:.3g}", "end", "soft")
    body += _text(52, height - 8, f"{x0:g}", kind="soft") + _text(width - 14, height - 8, f"{x1:g}", "end", "soft")
    for k, (name, line) in enumerate(points.items()):
        colour, dash = LINES[k % len(LINES)], "" if k == 0 else f' stroke-dasharray="{3 + 2 * k} 3"'
        path = " ".join("{:.1f},{:.1f}".format(*place(*p)) for p in line)
        body += f'<polyline points="{path}" style="fill:none;stroke:{colour};stroke-width:1.8"{dash}/>'
        body += f'<text x="{width - 18}" y="{34 + 15 * k}" text-anchor="end" style="fill:{colour}">{html.escape(name)}</text>'
        if name == mark_lowest and line:
            best = min(line, key=lambda p: p[1])
            x, y = place(*best)
            body += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" style="fill:none;stroke:{colour}"/>' + _text(x, y - 9, f"best {10**best[1] if log else best[1]:.4g} at {best[0]:g}", "middle")
    return svg(width, height, body, f"curves {title}: {', '.join(points)}")


def gradient_norms(model, title="gradient norm of each parameter"):
    """Bars of the L2 norm of each parameter's gradient, in the order of the model; those without one are left out."""
    norms = [(name, float(np.linalg.norm(p.grad))) for name, p in model.named_parameters() if p.grad is not None]
    return bars([n for _, n in norms], [name for name, _ in norms], title, width=520)


def activations(trace, title="standard deviation of what each module computes"):
    """Bars of the standard deviation of the last result of each module of a recorded `tl.trace`, in the order of the walk."""
    from .stepper.arrays import statistics
    last = {value.module: value for value in trace.values if value.op is not None and value.module}
    return bars([statistics(trace.array(value)).get("std", math.nan) for value in last.values()], list(last), title, width=520)
