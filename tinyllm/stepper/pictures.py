"""An array in a terminal: a table of numbers, a heatmap of block means, a histogram, or its statistics.

Signs are told by a character as well as by colour, so that a heatmap can be read without colour: + above 0, - below.
"""

import textwrap

import numpy as np

from .arrays import BLOCKS, Omitted, block_means, entry, matrix, shape_words, short, statistics

VIEWS = ("numbers", "heatmap", "histogram", "stats")
STYLES = {"bold": "1", "dim": "2", "reverse": "7", "forward": "36", "backward": "33", "update": "32", "good": "32", "bad": "31;1",
          "plus": "31", "minus": "34", "title": "1"}
SHADES = "·░▒▓█"


def painter(color):
    """A function (text, style) -> text, with ANSI colours or without."""
    if not color:
        return lambda text, style=None: text
    return lambda text, style=None: f"\x1b[{STYLES[style]}m{text}\x1b[0m" if style else text


def one_line(array):
    """`4×2 float32  min -0.1  mean 0.02  max 0.3  std 0.1  norm 0.5  zeros 12%`, and NaN and Inf where there are any."""
    stats = statistics(array)
    words = [f"{shape_words(array.shape)} {array.dtype}"]
    if "max" in stats and array.size > 1:
        tiny = 1e-15 * max(abs(stats["min"]), abs(stats["max"]))        # a mean that is only rounding
        words += [f"{k} {short(stats[k] if abs(stats[k]) > tiny else 0.0)}" for k in ("min", "mean", "max", "std", "norm")]
    if stats.get("zeros") and array.size > 1:
        words.append(f"zeros {stats['zeros']:.0%}")
    words += [f"{stats[k]} {label}" for k, label in (("nan", "NaN"), ("inf", "Inf")) if stats[k]]
    return "  ".join(words)


def picture(array, view, width, paint, at=None):
    """Lines that show an array; `at`: the selected index, marked."""
    if view == "stats":
        return [f"{k} {short(v)}" for k, v in statistics(array).items()]
    if isinstance(array, Omitted):
        return [*textwrap.wrap(f"omitted: {array.why}", width), *_heatmap(array.blocks, array.shape, width, paint)]
    if view == "histogram":
        return _histogram(array, width)
    m = matrix(array)
    digits = _decimals(m) if m.dtype.kind == "f" else None
    cells = [[_number(x, digits) for x in row] for row in m] if m.shape[0] <= 8 and m.shape[1] <= 16 else None
    if view == "numbers" and cells is not None:
        if (max((len(c) for row in cells for c in row), default=1) + 2) * m.shape[1] <= width:
            return _table(cells, paint, None if at is None else _place(array.shape, at))
    lines = _heatmap(m if m.dtype.kind == "f" else m.astype(np.float64), array.shape, width, paint)
    if at is not None:
        lines.append(f"selected {entry(at) or 'the scalar'} = {float(array[at]):.9g}")
    return lines


def _decimals(m):
    """So many decimals that the largest entry shows four digits; None: powers of ten."""
    largest = float(np.abs(m[np.isfinite(m)]).max(initial=0))
    if not largest:
        return 4
    return None if not 1e-4 <= largest < 1e5 else int(min(7, max(0, 4 - max(-3, np.ceil(np.log10(largest))))))


def _number(x, digits):
    if isinstance(x, (np.integer, np.bool_)):
        return str(int(x))
    if x == 0 or not np.isfinite(x):
        return "0" if x == 0 else str(x)
    return f"{x:.2e}" if digits is None else f"{x:.{digits}f}"


def _place(shape, at):
    """Row and column in `matrix(array)` of an index."""
    if len(shape) < 2:
        return 0, (at[0] if at else 0)
    return int(np.ravel_multi_index(at[:-1], shape[:-1])), at[-1]


def _table(cells, paint, at):
    """Rows of numbers, aligned on the decimal point, the selected one in brackets."""
    parts = [[c.partition(".") for c in row] for row in cells]
    before = max((len(whole) for row in parts for whole, _, _ in row), default=0)
    after = max((len(dot + rest) for row in parts for _, dot, rest in row), default=0)
    lines = []
    for i, row in enumerate(parts):
        texts = [whole.rjust(before) + (dot + rest).ljust(after) for whole, dot, rest in row]
        lines.append("".join(paint(f"[{t}]", "reverse") if (i, j) == at else f" {t} " for j, t in enumerate(texts)).rstrip() or "(empty)")
    return lines or ["(empty)"]


def _heatmap(m, shape, width, paint):
    blocks = block_means(m, (BLOCKS[0], max(4, min(BLOCKS[1], width // 2))))
    if not blocks.size:
        return ["(empty)"]
    finite = np.abs(blocks[np.isfinite(blocks)])
    top = float(finite.max(initial=0))
    lines = []
    for row in blocks:
        line = ""
        for x in row:
            if not np.isfinite(x):
                line += paint("!!", "bad")
                continue
            shade = SHADES[min(4, int(np.ceil(abs(x) / top * 4)))] if top else SHADES[0]
            line += paint(("+" if x > 0 else "-") + shade, "plus" if x > 0 else "minus") if shade != SHADES[0] else " " + shade
        lines.append(line)
    shown = shape_words(blocks.shape)
    whole = shape_words(shape)
    note = f"; {whole} shown as {shown} block means" if int(np.prod(shape)) != blocks.size else ""
    return lines + textwrap.wrap(f"scale ±{short(top)}, + above 0, - below, · near 0{note}", width)


def _histogram(array, width):
    flat = np.asarray(array, np.float64).ravel()
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return ["(no finite number)"]
    counts, edges = np.histogram(flat, bins=10)
    most = max(5, min(40, width - 32))
    return [f"{short(a):>10} … {short(b):<10} {'█' * int(np.ceil(n / counts.max() * most)) if n else ''} {n}"
            for a, b, n in zip(edges, edges[1:], counts)]
