"""Small pictures as SVG: attention grids, bars, curves, histograms, heatmaps. No package, no script, nothing to fetch.

Every function returns a string that can stand in a page and shows itself in a notebook. Colours are variables of the page around
it (`--ink`, `--soft`, `--line`, `--plus`, `--minus`) with defaults for light and dark, so that a picture fits where it stands.

    attention_grid(weights, tokens)     how much each token looks at each other, one grid a head; what is hidden is grey
    next_tokens(logits, tokens)         bars of the likeliest tokens, after temperature and filters
    numbers(matrix, rows, columns)      a small matrix with its numbers in its squares
    heatmap(matrix)                     a matrix of any size, as colours
    curves({"training": losses, …})     lines over common axes, logarithmic or not, with best points and floors
    strips(rows, labels)                tokens side by side, a row a step: merges, windows
    bars, histogram                     the same for anything
    page(title, …), save(path, …)       pictures and words on one page; into a file
"""

import html
import itertools
import math
from pathlib import Path

import numpy as np

from .atomic import write_bytes

STYLE = """<style>.tl-drawing{--i:var(--ink,#1d2125);--s:var(--soft,#5f676f);--l:var(--line,#dcd8cf);--p:var(--plus,196,70,20);--m:var(--minus,30,90,200);
--c2:#3f7d3f;--c3:#7d55b0;--c4:#8a6a10;--c5:#0f7c78;font:11px system-ui,sans-serif;fill:var(--i)}.tl-drawing .soft{fill:var(--s)}.tl-drawing .line{stroke:var(--l);fill:none}
.tl-drawing .title{font-weight:600}.tl-drawing .hidden{fill:var(--l);opacity:.45}.tl-drawing:root{background:#fff}
.tl-drawing .mark{paint-order:stroke;stroke:var(--paper,Canvas);stroke-width:3px;stroke-linejoin:round}
@media (prefers-color-scheme:dark){.tl-drawing{--i:var(--ink,#e8e6e1);--s:var(--soft,#a0a6ab);--l:var(--line,#363a3d);--p:var(--plus,240,130,80);--m:var(--minus,100,160,255);
--c2:#7dbb7d;--c3:#b592e0;--c4:#cfae4d;--c5:#56c2bd}.tl-drawing:root{background:#16181a}}</style>"""
LINES = ("rgb(var(--m))", "rgb(var(--p))", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)")
DASHES = ("", "6 3", "2 2", "8 3 2 3", "4 2", "1 3")
LETTER = 6.3    # the width of a character, about
MOST = 40       # rows and columns of a heatmap that are drawn one by one
PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/><title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}}
h1{{font-size:1.4em}}h2{{font-size:1.1em;margin:1.6em 0 .4em}}p{{max-width:44em}}svg{{max-width:100%;height:auto;margin:.4em 1em .4em 0;vertical-align:top}}
td{{padding:.1em 1.2em .1em 0;vertical-align:top;white-space:pre-wrap}}td.soft{{opacity:.65;white-space:nowrap}}</style></head>
<body><h1>{title}</h1>{body}</body></html>
"""


class Picture(str):
    """The text of a picture or a page; a notebook shows what it looks like, a page in a frame of its own."""

    def _repr_html_(self):
        if self.startswith("<svg"):
            return str(self)
        return f'<iframe srcdoc="{html.escape(self)}" style="width:100%;height:640px;border:0"></iframe>'


def svg(width, height, body, label):
    """The SVG around a picture; `label` is what a screen reader says."""
    return Picture(f'<svg class="tl-drawing" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
                   f'height="{height:.0f}" role="img" aria-label="{html.escape(label)}">{STYLE}{body}</svg>')


def page(title, *parts):
    """One page that needs nothing but a browser. A part is a picture, a sentence, or "# " and a heading; pictures in a row stand side by side.

    >>> page("Gelu", "# The curve", "It dips below 0.", curves({"gelu": [0.0, 1.0]})).count("<svg")
    1
    """
    body = []
    for part in parts:
        if part.startswith("# "):
            body.append(f"<h2>{html.escape(part[2:])}</h2>")
        else:
            body.append(part if isinstance(part, Picture) else f"<p>{html.escape(part)}</p>")
    return Picture(PAGE.format(title=html.escape(title), body="\n".join(body)))


def save(path, picture):
    """Write a picture (.svg) or a page (.html) to `path`, making its directory; returns the picture, for a notebook to show.

    >>> import tempfile
    >>> save(Path(tempfile.mkdtemp()) / "out" / "bars.svg", bars([1.0], ["a"])).startswith("<svg")
    wrote ...bars.svg
    True
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(Path(path), picture.encode())
    print(f"wrote {path}")
    return picture


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


def heatmap(array, title="", side=None, rows="", columns="", most=MOST):
    """A matrix as coloured squares, + and - told apart by colour and in each square's title; a large one as block means.

    `rows` and `columns` say what the axes are; from `most` rows or columns on, blocks are drawn.

    >>> heatmap(np.eye(3)).count("<rect")
    9
    """
    from .stepper.arrays import block_means, matrix, shape_words
    whole = np.asarray(array)
    m = block_means(whole, (most, most)) if max(matrix(whole).shape) > most else matrix(whole).astype(np.float64)
    top = float(np.abs(m[np.isfinite(m)]).max(initial=0))
    side = side or max(5, min(18, 300 // max(m.shape, default=1) if m.size else 5))
    note = f"scale ±{top:.4g}" + ("" if m.size == whole.size else f"; {shape_words(whole.shape)} shown as {shape_words(m.shape)} block means")
    left, above = 2 + 15 * bool(rows), 18 + 15 * bool(columns)
    low = above + m.shape[0] * side
    width = max(left + m.shape[1] * side, 7 * max(len(note), len(title)) * 0.8) + 4
    body = _text(2, 12, title, kind="title") + _cells(m, left, above, side, top) + _text(left, low + 13, note, kind="soft")
    body += f'<rect x="{left}" y="{above}" width="{m.shape[1] * side}" height="{m.shape[0] * side}" class="line"/>' if rows or columns else ""
    body += _text(left, above - 4, columns, kind="soft") + _text(12, above, rows, "end", "soft", -90)
    return svg(width, low + 20, body, f"heatmap {title}, {note}")


def numbers(matrix, rows=None, columns=None, title="", digits=2, top=None):
    """A small matrix with its numbers in its squares, coloured by sign and size; NaN is left empty and grey (hidden, not yet there).

    `rows` and `columns` name them; `top` is the size of the strongest colour (the largest number, if it is not given).

    >>> numbers([[0.25, np.nan], [0.5, -0.5]], ["so", "it"]).count(">-0.50<")
    1
    """
    m = np.atleast_2d(np.asarray(matrix, np.float64))
    rows, columns = ([str(name) for name in names or ()] for names in (rows, columns))
    top = float(np.nanmax(np.abs(m), initial=0)) if top is None else top
    words = [["" if np.isnan(v) else f"{round(v, digits) + 0:.{digits}f}" for v in row] for row in m]
    wide = LETTER * max(len(w) for w in itertools.chain(*words, columns)) + 12
    left, above = 4 + (LETTER * max(map(len, rows)) + 10 if rows else 0), 20 + 16 * bool(columns)
    body = _text(2, 12, title, kind="title")
    body += "".join(_text(left + (j + 0.5) * wide, above - 5, name, "middle", "soft") for j, name in enumerate(columns))
    body += "".join(_text(left - 6, above + 20 * i + 14, name, "end", "soft") for i, name in enumerate(rows))
    for (i, j), value in np.ndenumerate(m):
        place = f'x="{left + j * wide:.1f}" y="{above + 20 * i}" width="{wide:.1f}" height="20"'
        strength = 0.75 * min(abs(value) / top, 1) if top and value == value else 0
        paint = 'class="hidden"' if value != value else f'style="fill:rgba(var({"--p" if value >= 0 else "--m"}),{strength:.3f})"'
        body += f"<rect {place} {paint}/>" + _text(left + (j + 0.5) * wide, above + 20 * i + 14, words[i][j], "middle")
    body += f'<rect x="{left:.1f}" y="{above}" width="{m.shape[1] * wide:.1f}" height="{20 * m.shape[0]}" class="line"/>'
    return svg(max(left + m.shape[1] * wide, LETTER * len(title)) + 4, above + 20 * m.shape[0] + 6, body, f"numbers {title}")


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
    overhang = max((j - keys + 0.7) * side + 0.5 * LETTER * len(name) for j, name in enumerate(names))
    wide, high = margin + keys * side + max(overhang, 4) + 8, 20 + margin + rows * side + 10
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


def strips(rows, labels=None, title="", unit=8):
    """Rows of boxes side by side. A row is a list of (words, size in units of `unit` pixels); boxes of the same words share a colour.

    Words None leave a gap, and a third value picks the colour by number, or none (None).

    >>> strips([[("t", 1), ("h", 1)], [("th", 2)]], ["bytes", "merged"]).count("<rect")
    3
    """
    labels = [str(label) for label in labels or ()]
    left = 4 + (LETTER * max(map(len, labels), default=0) + 10 if labels else 0)
    tones, widest, body = {}, 0, _text(2, 12, title, kind="title")
    for k, row in enumerate(rows):
        x, y = left, 22 + 24 * k
        body += _text(left - 10, y + 14, labels[k], "end", "soft") if labels else ""
        for words, size, *tone in row:
            if words is not None:
                tone = tone[0] if tone else tones.setdefault(words, len(tones))
                paint = "fill:none" if tone is None else f"fill:{LINES[tone % len(LINES)]};fill-opacity:.3"
                body += f'<rect x="{x + 0.5:.1f}" y="{y}" width="{size * unit - 1:.1f}" height="20" rx="3" style="{paint};stroke:var(--l)"/>'
                body += _text(x + size * unit / 2, y + 14, words, "middle")
            x += size * unit
        widest = max(widest, x)
    return svg(max(widest, LETTER * len(title)) + 4, 28 + 24 * len(rows), body, f"strips {title}")


def bars(values, labels, title="", width=360, log=False):
    """Horizontal bars with their numbers, negative ones in the other colour; {name: values} draws a bar of each name side by side.

    `log` makes their lengths logarithmic, from the power of ten below the smallest.

    >>> bars([0.5, 0.25], [" a", " the"]).count("<rect")
    2
    """
    groups = {name: [float(v) for v in own] for name, own in (values if isinstance(values, dict) else {"": values}).items()}
    for own in groups.values():
        if len(own) != len(labels):
            raise ValueError(f"bars: {len(own)} values, {len(labels)} labels")
    sizes = [abs(v) for own in groups.values() for v in own if math.isfinite(v) and (v or not log)]
    left, top = 14 + 6.8 * max((len(str(label)) for label in labels), default=0), max(sizes, default=0) or 1
    low = 10.0 ** (math.ceil(math.log10(min(sizes))) - 1) if log and sizes else 0

    def share(value):
        if not math.isfinite(value) or abs(value) <= low:
            return 0
        return math.log(abs(value) / low) / math.log(top / low) if log else abs(value) / top
    room = width - left - 60
    legend, more = _legend(groups, left, width, 27) if len(groups) > 1 else ("", 0)
    above = 20 + more + 17 * (len(groups) > 1 or log)
    body = _text(2, 12, title, kind="title") + legend
    body += _text(width - 4, 27, f"logarithmic, from {low:g}", "end", "soft") if log else ""
    high = 17 * len(groups) + 5 * (len(groups) > 1)
    for k, label in enumerate(labels):
        body += _text(left - 6, above + high * k + 17 * len(groups) / 2 + 3, label, "end")
        for n, own in enumerate(groups.values()):
            y, long = above + high * k + 17 * n, room * share(own[k])
            colour = LINES[n] if len(groups) > 1 else f'rgb(var({"--p" if own[k] >= 0 else "--m"}))'
            body += f'<rect x="{left:.1f}" y="{y}" width="{long:.1f}" height="13" style="fill:{colour}"/>' + _text(left + long + 5, y + 11, f"{own[k]:.4g}", kind="soft")
    return svg(width, above + 6 + high * len(labels), body, f"bars {title}")


def _legend(names, left, right, y):
    """(names in the colours of their lines or bars, in as many rows as they need; the height beyond the first row)."""
    body, x, rows = "", left, 0
    for name, colour in zip(map(str, names), itertools.cycle(LINES)):
        if x > left and x + LETTER * len(name) > right:
            x, rows = left, rows + 1
        body += f'<text x="{x:.1f}" y="{y + 15 * rows}" style="fill:{colour}">{html.escape(name)}</text>'
        x += LETTER * len(name) + 16
    return body, 15 * rows


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


def ticks(low, high, log=False):
    """Round numbers between low and high, three to seven; where `log`, low and high are logarithms and so are the numbers.

    >>> ticks(0, 20), ticks(-3, 0, log=True)
    ([0.0, 5.0, 10.0, 15.0, 20.0], [-3.0, -2.0, -1.0, 0.0])
    """
    if log and high - low < 2.5:
        powers = range(math.floor(low), math.ceil(high) + 1)
        marks = [power + math.log10(m) for power in powers for m in ((1, 2, 5) if high - low > 0.5 else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9))]
        return [mark for mark in marks if low - 1e-9 <= mark <= high + 1e-9]
    rough = max((high - low) / 6, 1 if log else 0)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= 0.999 * rough)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def curves(lines, title="", width=480, height=240, *, log="", mark_lowest=(), floors=None, faint=None, x_label="", y_label=""):
    """Lines (name -> y values, or name -> (x values, y values)) over common axes; few points are shown as dots, too.

    `log` names the axes that are logarithmic ("x", "y", "xy"); `mark_lowest` the lines whose best point is marked (a name, or
    several); `floors` {name: y} are drawn dotted across; `faint` holds lines as `lines` does, drawn thin behind the one of the same
    name: single steps behind their running mean. Numbers that are not finite, or cannot stand on a logarithmic axis, leave a gap.

    >>> curves({"loss": [3.0, 2.0, 2.5]}, mark_lowest="loss", floors={"entropy": 1.5}).count("<polyline")
    1
    """
    scales = [math.log10 if axis in log else float for axis in "xy"]
    lines, faint = ({name: _points(line, log) for name, line in (group or {}).items()} for group in (lines, faint))
    every = [p for group in (lines, faint) for line in group.values() for p in line if p] + [(None, y) for y in (floors or {}).values()]
    (x0, x1), (y0, y1) = (_span([scales[k](p[k]) for p in every if p[k] is not None]) for k in (0, 1))
    marked = (mark_lowest,) if isinstance(mark_lowest, str) else mark_lowest
    y0, y1 = y0 - (0.14 if marked else 0.04) * (y1 - y0), y1 + 0.04 * (y1 - y0)      # room for the words below the best point
    names, left = list(dict.fromkeys([*lines, *faint])), 56
    length = LETTER * sum(map(len, names)) + 16 * (len(names) - 1)
    start = max(left, width - 14 - length, LETTER * len(y_label) + 14)      # ends at the right, where there is room
    legend, more = _legend(names, start, width, 30) if len(names) > 1 or faint else ("", 0)
    top, bottom = (42 if legend or y_label else 26) + more, 24 + 14 * bool(x_label)

    def place(x, y):
        return left + (scales[0](x) - x0) / (x1 - x0) * (width - left - 14), top + (y1 - scales[1](y)) / (y1 - y0) * (height - top - bottom)
    body = _text(2, 12, title, kind="title") + _text(2, 30, y_label, kind="soft") + legend
    body += _text(width - 14, height - 6, x_label, "end", "soft")
    body += f'<line x1="{left}" x2="{width - 14}" y1="{height - bottom}" y2="{height - bottom}" style="stroke:var(--s);stroke-width:.7"/>'
    for tick in ticks(y0, y1, "y" in log):
        at = top + (y1 - tick) / (y1 - y0) * (height - top - bottom)
        body += f'<line x1="{left}" x2="{width - 14}" y1="{at:.1f}" y2="{at:.1f}" class="line"/>' + _text(left - 5, at + 4, _number(10**tick if "y" in log else tick), "end", "soft")
    for tick in ticks(x0, x1, "x" in log):
        at = left + (tick - x0) / (x1 - x0) * (width - left - 14)
        body += f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{height - bottom}" y2="{height - bottom + 3}" class="line"/>'
        body += _text(at, height - bottom + 15, _number(10**tick if "x" in log else tick), "middle", "soft")
    for name, y in (floors or {}).items():
        at = place(10**x0 if "x" in log else x0, y)[1]
        body += f'<line x1="{left}" x2="{width - 14}" y1="{at:.1f}" y2="{at:.1f}" class="floor" style="stroke:var(--s);stroke-dasharray:1 3"/>'
        body += _text(left + 4, at + (13 if at < top + 14 else -4), f"{name} {y:.4g}", "start", "soft")      # most lines begin far from their end
    for group, thick in ((faint, "0.7;opacity:.45"), (lines, "1.8")):
        for name, line in group.items():
            k = names.index(name)
            dash = f";stroke-dasharray:{DASHES[k % len(DASHES)]}" if k % len(DASHES) and group is lines else ""
            for there, run in itertools.groupby(line, key=bool):
                path = " ".join("{:.1f},{:.1f}".format(*place(*p)) for p in run) if there else ""
                body += f'<polyline points="{path}" style="fill:none;stroke:{LINES[k % len(LINES)]};stroke-width:{thick}{dash}"/>' if there else ""
            if len(line) <= 16 and group is lines:
                body += "".join('<circle cx="{:.1f}" cy="{:.1f}" r="2.5" style="fill:{}"/>'.format(*place(*p), LINES[k % len(LINES)]) for p in line if p)
    for name in marked:
        best = min((p for p in lines[name] if p), key=lambda p: p[1], default=None)
        if best:
            x, y = place(*best)
            side = "end" if x > width - 90 else "start" if x < left + 60 else "middle"
            body += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" style="fill:none;stroke:{LINES[names.index(name) % len(LINES)]};stroke-width:1.5"/>'
            body += _text(x, y + 17, f"best {best[1]:.4g} at {best[0]:g}", side, "mark")
    return svg(width, height, body, f"curves {title}: {', '.join(names)}")


def _number(value):
    """A number beside an axis."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def _points(line, log):
    """[(x, y) or None, …] of a line: None where a number is missing or has no logarithm."""
    x, y = line if isinstance(line, tuple) else (range(1, len(line) + 1), line)
    pairs = [(float(a), float(b)) for a, b in zip(x, y)]
    return [p if all(math.isfinite(v) and (v > 0 or axis not in log) for v, axis in zip(p, "xy")) else None for p in pairs]


def _span(values):
    """Smallest and largest of some numbers, apart from each other."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return (low, high) if high - low > 1e-9 * max(abs(low), abs(high)) else (low - 0.5, high + 0.5)


def gradient_norms(model, title="gradient norm of each parameter"):
    """Bars of the L2 norm of each parameter's gradient, in the order of the model; those without one are left out."""
    norms = [(name, float(np.linalg.norm(p.grad))) for name, p in model.named_parameters() if p.grad is not None]
    return bars([n for _, n in norms], [name for name, _ in norms], title, width=520)


def activations(trace, title="standard deviation of what each module computes"):
    """Bars of the standard deviation of the last result of each module of a recorded `tl.trace`, in the order of the walk."""
    from .stepper.arrays import statistics
    last = {value.module: value for value in trace.values if value.op is not None and value.module}
    return bars([statistics(trace.array(value)).get("std", math.nan) for value in last.values()], list(last), title, width=520)
