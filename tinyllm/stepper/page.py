"""A trace as one HTML page: no server, no network, everything inline.

The page gets the trace, the steps with the same texts as the terminal's (explain.py), the finite-difference checks and the
written-out sums of the entries that can be had in a few seconds, questions with their answers, and the pictures of the graph.
page.js lays them out and reads the keys. Where the numbers together are too many, the largest arrays are left out by block
means, and the page says so.
"""

import html
import json
import re
import time
from pathlib import Path

import numpy as np

from ..atomic import write_bytes
from .arrays import Omitted, omit
from .explain import read_by
from .graph import FOLDS, picture
from .predict import KINDS, question_for, rule_source
from .record import encode_array
from .steps import Folds, steps_of
from .text import check, show
from .why import WHY

NUMBERS = 330_000       # array elements on a page, in all
SECONDS = 3.0           # for checks and sums; beyond it only the entry shown first has them
ENTRIES = 36            # arrays of so many entries have them all


def write_page(trace, path, seed=0):
    """Write the page of a trace; returns the path as a Path."""
    path = Path(path)
    write_bytes(path, page(trace, seed).encode())
    return path


def page(trace, seed=0):
    """The HTML text."""
    here = Path(__file__).parent
    pictures = {fold: picture(trace, fold).svg(styled=False, tip=f"tip-{fold}") for fold in FOLDS}
    graphs = "".join(f'<div class="fold" data-fold="{fold}" hidden>{svg}</div>' for fold, svg in pictures.items())
    data = json.dumps(content(trace, seed), ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    parts = {"TITLE": html.escape(trace.title or "backprop, step by step"), "CSS": (here / "page.css").read_text(encoding="utf-8"),
             "GRAPHS": graphs, "DATA": data, "JS": "".join((here / name).read_text(encoding="utf-8") for name in ("page_numbers.js", "page_answers.js", "page.js"))}
    text = (here / "page.html").read_text(encoding="utf-8")
    return re.sub("@@([A-Z]+)@@", lambda place: parts[place.group(1)], text)


def content(trace, seed=0):
    """What page.js reads: arrays, values, steps, folded runs, questions."""
    steps = steps_of(trace)
    builder = _Builder(trace, steps, seed)
    singles = Folds(steps).open_all()
    shown = [builder.entry(singles, k) for k in range(len(steps))]
    runs = {}
    for group, ancestors in _groups(steps).items():
        folds = Folds(steps, ancestors)
        for k, item in enumerate(folds.items):
            if item.group == group:
                runs[f"{group}:{item.first}"] = builder.entry(folds, k)
    values = [{"id": v.id, "name": v.name, "kind": v.kind, "array": v.array, "op": v.op, "needs": v.needs,
               "inputs": [x for x in v.inputs if isinstance(x, str)], "operands": [x if isinstance(x, str) else None for x in v.inputs]} for v in trace.values]
    return {"title": trace.title, "values": values, "steps": shown, "runs": runs, "why": {op: WHY[op] for op in trace.ops if op in WHY},
            "ops": {name: {"inputs": op["inputs"], "symbol": op["symbol"]} for name, op in trace.ops.items()}, "arrays": _encoded(builder.arrays)}


def _groups(steps):
    """group -> the composites around it."""
    return {group: step.groups[:k] for step in steps for k, group in enumerate(step.groups)}


def _encoded(arrays):
    """Arrays for JSON; while they are too many numbers, the largest are left out."""
    order = sorted((a.size, k) for k, a in enumerate(arrays) if not isinstance(a, Omitted))
    total = sum(size for size, _ in order)
    left_out = set()
    while total > NUMBERS:
        size, k = order.pop()
        left_out.add(k)
        total -= size
    return [encode_array(omit(a, f"left out of this page for its {a.size:,} numbers; the trace has them") if k in left_out else a)
            for k, a in enumerate(arrays)]


class _Builder:
    """Turns items of a folded list into dictionaries, while there is time with checks and sums."""

    def __init__(self, trace, steps, seed):
        self.trace, self.steps, self.seed = trace, steps, seed
        self.arrays = list(trace.arrays)
        self.places = {id(a): k for k, a in enumerate(trace.arrays)}
        self.until = time.perf_counter() + SECONDS

    def place(self, array):
        """The place of an array on the page; a sum of several contributions is added to them."""
        if array is None:
            return None
        if id(array) not in self.places:
            self.places[id(array)] = len(self.arrays)
            self.arrays.append(array)
        return self.places[id(array)]

    def entry(self, folds, k):
        """One item as a dictionary."""
        item = folds.items[k]
        shown = show(self.trace, folds, k, sums=False)
        at = shown.default_index()
        facts = {key: text for key, text in shown.facts.items() if text and key not in ("why", "mistake")}
        first = folds.steps[item.first]
        value = self.trace[folds.steps[item.last].value if first.kind == "forward" else first.value]
        entry = {"first": item.first, "last": item.last, "kind": shown.kind, "phase": shown.phase, "value": value.id, "walk": first.walk,
                 "facts": facts, "array": self.place(shown.array), "called": shown.called, "at": None if at is None else list(at),
                 "groups": first.groups, "target": shown.target and shown.target.id, "position": first.position, "total": first.total}
        if shown.incoming is not None:
            entry.update(g=self.place(shown.incoming), incoming=shown.incoming_name)
        self._numbers(entry, shown, folds, k, at)
        if shown.kind == "rule":
            entry["reads"] = read_by(self.trace, value, rule_source(self.trace, first))
            entry["questions"] = [q for q in (self._question(item.first, kind) for kind in KINDS) if q]
        return entry

    def _numbers(self, entry, shown, folds, k, at):
        """Checks and sums of the entries that there is time for."""
        if at is None or shown.phase == "update" or self.trace.root is None or isinstance(shown.array, Omitted):
            return
        every = list(np.ndindex(shown.array.shape)) if shown.array.size <= ENTRIES and time.perf_counter() < self.until else [at]
        entry["checks"] = {_key(i): check(self.trace, shown, i) for i in every}
        if shown.kind == "rule":
            entry["sums"] = {_key(i): show(self.trace, folds, k, i).facts["sum"] for i in every}

    def _question(self, k, kind):
        question = question_for(self.trace, self.steps, k, kind, np.random.default_rng((self.seed, k, KINDS.index(kind))))
        if question is None or question.kind != kind:
            return None
        return {"kind": kind, "prompt": question.prompt, "answer": question.answer, "choices": question.choices, "index": question.index}


def _key(index):
    return ",".join(map(str, index))
