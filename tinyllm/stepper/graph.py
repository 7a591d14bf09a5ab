"""The graph of a computation as a picture: operations in layers, from the leaves at the top to the loss at the bottom.

    loss.graph()            in a notebook an inline SVG, in a terminal text
    picture(trace, fold)    the same of a trace; `fold` "operations", "composites" or "modules"

A node's layer is one more than the deepest of those it is computed from. An edge that skips layers, a residual connection,
is drawn as an arc around what it skips. Parameters and constants are written into the nodes that read them.
"""

import html
from dataclasses import dataclass, field

from ..engine.primitive import Node
from ..engine.tensor import Tensor
from .arrays import shape_words

FOLDS = ("operations", "composites", "modules")
WIDE, HIGH, GAP_X, GAP_Y = 190, 40, 26, 26


@dataclass
class Box:
    """One node of a picture: `key` is what a click names, `title` and `note` its two lines, `reads` the leaves written into it."""

    key: str
    title: str
    note: str = ""
    reads: list = field(default_factory=list)
    parents: list = field(default_factory=list)
    layer: int = 0
    x: float = 0.0
    y: float = 0.0


class Picture:
    """Boxes with their places; renders itself as SVG (in a notebook) and as text (elsewhere)."""

    def __init__(self, boxes):
        self.boxes = boxes
        self.width, self.height = _arrange(boxes)

    def _repr_svg_(self):
        return self.svg()

    def svg(self, styled=True, tip="tip"):
        """The SVG; `styled` with colours of its own, else those of the page around it. `tip`: the arrowhead's id, its own on a page of several."""
        by_key = {box.key: box for box in self.boxes}
        parts = [f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:.0f} {self.height:.0f}" width="{self.width:.0f}" '
                 f'role="img" aria-label="graph of {len(self.boxes)} operations">', STYLE if styled else "",
                 f'<defs><marker id="{tip}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
                 '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>']
        for box in self.boxes:
            parts += [_edge(by_key[p], box, tip) for p in box.parents]
        for box in self.boxes:
            note = " ".join(x for x in (box.note, ", ".join(box.reads)) if x)
            parts.append(
                f'<g class="box" data-key="{html.escape(box.key)}" transform="translate({box.x:.0f} {box.y:.0f})"><title>{html.escape(box.title)} {html.escape(note)}</title>'
                f'<rect width="{WIDE}" height="{HIGH}" rx="5"/><text x="10" y="17" class="name">{html.escape(_cut(box.title, 26))}</text>'
                f'<text x="10" y="32" class="note">{html.escape(_cut(note, 30))}</text></g>')
        return "".join(parts) + "</svg>"

    def __str__(self):
        """One line a box, with the boxes it reads."""
        wide = max((len(box.title) for box in self.boxes), default=0)
        names = {box.key: box.title for box in self.boxes}
        return "\n".join(f"{box.layer:>3}  {box.title.ljust(wide)}  {box.note.ljust(10)}  ← {', '.join([*(names[p] for p in box.parents), *box.reads])}".rstrip(" ←")
                         for box in self.boxes)

    __repr__ = __str__


STYLE = """<style>.graph{font:12px system-ui,sans-serif}.graph rect{fill:#fff;stroke:#888}.graph .note{fill:#777;font-size:10px}
.graph .edge{fill:none;stroke:#888}.graph .skip{stroke-dasharray:4 3}.graph marker path{fill:#888}
@media (prefers-color-scheme:dark){.graph rect{fill:#222;stroke:#999}.graph text{fill:#eee}.graph .note{fill:#aaa}}</style>"""


def _cut(text, most):
    return text if len(text) <= most else text[:most - 1] + "…"


def _arrange(boxes):
    """Give every box its layer and place; returns the size of the picture."""
    by_key, layers = {box.key: box for box in boxes}, {}
    for box in boxes:       # parents come first
        box.layer = 1 + max((by_key[p].layer for p in box.parents), default=-1)
        layers.setdefault(box.layer, []).append(box)
    widest = max(map(len, layers.values()), default=1)
    skips = any(by_key[p].layer < box.layer - 1 for box in boxes for p in box.parents)
    for number, row in sorted(layers.items()):
        row.sort(key=lambda box: sum(by_key[p].x for p in box.parents) / len(box.parents) if box.parents else 0)
        start = (widest - len(row)) * (WIDE + GAP_X) / 2
        for k, box in enumerate(row):
            box.x, box.y = 4 + start + k * (WIDE + GAP_X), 4 + number * (HIGH + GAP_Y)
    return 8 + widest * (WIDE + GAP_X) + (90 if skips else 0), 8 + len(layers) * (HIGH + GAP_Y)


def _edge(parent, box, tip):
    x1, y1, x2, y2 = parent.x + WIDE / 2, parent.y + HIGH, box.x + WIDE / 2, box.y
    if box.layer == parent.layer + 1:
        return f'<path class="edge" marker-end="url(#{tip})" d="M{x1:.0f} {y1:.0f} C{x1:.0f} {y1 + 14:.0f} {x2:.0f} {y2 - 14:.0f} {x2:.0f} {y2:.0f}"/>'
    x1, x2, y1, y2 = parent.x + WIDE, box.x + WIDE, parent.y + HIGH / 2, box.y + HIGH / 2
    out = max(x1, x2) + min(90, 20 + 8 * (box.layer - parent.layer))
    return f'<path class="edge skip" marker-end="url(#{tip})" d="M{x1:.0f} {y1:.0f} C{out:.0f} {y1:.0f} {out:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"/>'


# ---- of a trace

def picture(trace, fold="composites"):
    """The Picture of a trace's forward pass up to the root of its walk."""
    last = int(trace.root[1:]) if trace.root else len(trace.values) - 1
    boxes, owner = {}, {}
    paths = {_path(v) for v in trace.values[:last + 1]}
    whole = {p for p in paths if p and not any(q.startswith(p + ".") for q in paths)}       # a block's own additions stay outside
    for value in trace.values[:last + 1]:
        if value.op is None:
            continue
        key, title = _box_of(value, fold, whole)
        owner[value.id] = key
        box = boxes.setdefault(key, Box(key, title))
        box.note = shape_words(trace.array(value).shape)
        if key == value.id:
            box.title = f"{value.name} · {value.op}"
        for x in value.inputs:
            if isinstance(x, str) and owner.get(x, key) != key:
                _once(box.parents, owner[x])
            elif isinstance(x, str) and trace[x].op is None and not trace[x].name.startswith("constant_"):
                _once(box.reads, trace[x].name.split(".")[-1] if fold == "modules" else trace[x].name)
    return Picture(_in_order(boxes))


def _once(items, item):
    if item not in items:
        items.append(item)


def _path(value):
    """The module a value is folded into: at most three names deep, as blocks.0.attn."""
    return ".".join(value.module.split(".")[:3])


def _box_of(value, fold, whole):
    """(key, title) of the box a value is drawn in."""
    path = _path(value)
    if fold == "modules" and path in whole:
        return f"module {path}", path
    if fold != "operations" and value.groups:
        return value.groups[0], value.groups[0]
    return value.id, value.op


def _in_order(boxes):
    """Boxes with parents first; edges that would go round in a circle, as folding can make them, are left out."""
    ordered, state = [], {}
    for start in boxes:
        stack = [(start, False)]
        while stack:
            key, leaving = stack.pop()
            if leaving:
                state[key] = 2
                ordered.append(boxes[key])
            elif key not in state:
                state[key] = 1
                stack.append((key, True))
                boxes[key].parents = [p for p in boxes[key].parents if state.get(p) != 1]
                stack.extend((p, False) for p in boxes[key].parents)
    place = {box.key: k for k, box in enumerate(ordered)}
    for k, box in enumerate(ordered):
        box.parents = [p for p in box.parents if place[p] < k]
    return ordered


# ---- of a tensor

def graph(tensor):
    """The graph behind a tensor that has one: in a notebook a picture, in a terminal text.

    >>> import tinyllm as tl
    >>> x = tl.Tensor([1.0, 2.0], requires_grad=True, name="x")
    >>> (x * x).sum().graph()
      0  multiply  2           ← x
      1  sum       scalar      ← multiply
    """
    if tensor.node is None:
        return Picture([Box("leaf", tensor.name or "leaf", shape_words(tensor.shape))])
    nodes, stack = {tensor.node}, [tensor.node]
    while stack:
        for parent in stack.pop().parents or ():
            if isinstance(parent, Node) and parent not in nodes:
                nodes.add(parent)
                stack.append(parent)
    boxes = []
    for node in sorted(nodes, key=lambda n: n.index):
        box = Box(str(node.index), node.primitive.name, shape_words(node.shape))
        for parent in node.parents or ():
            if isinstance(parent, Node):
                _once(box.parents, str(parent.index))
            elif isinstance(parent, Tensor):
                _once(box.reads, parent.name or f"leaf {shape_words(parent.shape)}")
        boxes.append(box)
    return Picture(boxes)
