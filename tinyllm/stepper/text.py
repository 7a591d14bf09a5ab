"""A step as lines of text: what the terminal stepper shows and what `tr.text()` prints.

`Shown` gathers what there is to show of one item of the folded list: the texts of explain.py, the array that is looked at
and the one that came in. `render` lays it out for a width, with colour or without.
"""

import textwrap
from dataclasses import dataclass, field

import numpy as np

from . import replay
from .arrays import Omitted, entry, short
from .explain import explain, explain_group, outside, totals_of
from .pictures import one_line, painter, picture

LABEL = 11      # width of the column of labels


@dataclass
class Shown:
    """One item, ready to be laid out. `array` is what entries are selected in, `called` its name; `incoming` is g."""

    facts: dict
    kind: str
    phase: str
    steps: list
    array: object = None
    called: str = ""
    incoming: object = None
    incoming_name: str = ""
    target: object = None               # the Value whose gradient `array` is
    history: tuple = None               # (old, new, total) of an accumulation
    notes: list = field(default_factory=list)       # (label, text) lines put in by the viewer

    def hide(self):
        """Take away what would answer a question about the rule."""
        for key in ("rule", "named", "shapes", "saved", "sum", "accumulate", "unbroadcast", "why", "mistake"):
            self.facts.pop(key, None)
        if self.phase == "backward":
            self.array = self.history = None

    def default_index(self):
        """The entry to look at first: the largest in size."""
        if self.array is None or isinstance(self.array, Omitted) or not self.array.size:
            return None
        flat = np.abs(self.array.astype(np.float64)).ravel()
        flat = np.where(np.isfinite(flat), flat, -1)
        return tuple(int(i) for i in np.unravel_index(int(flat.argmax()), self.array.shape))


def show(trace, folds, place, index=None, sums=True):
    """The Shown of item number `place` of a folded list; `index`: the selected entry (None: the largest)."""
    item = folds.items[place]
    steps = folds.steps[item.first:item.last + 1]
    first, last = steps[0], steps[-1]
    shown = Shown({}, "group" if item.group else first.kind, first.phase, steps)
    value = trace[last.value if first.kind == "forward" else first.value]
    if first.kind == "forward":
        shown.array, shown.called, shown.target = trace.array(value), value.name, value
    elif first.kind == "rule":
        shown.incoming, shown.incoming_name = trace.arrays[first.g], f"dL/d{value.name}"
        if item.group:
            sent = outside(trace, steps)
            if sent:
                shown.target, _, shown.array = max(sent, key=lambda s: s[0].kind == "result")
                shown.called = f"dL/d{shown.target.name} from here"
        else:
            shown.array = trace.arrays[first.contribution]
            shown.target = trace[value.inputs[first.position]]
            shown.called = f"dL/d{shown.target.name}" + (" from here" if first.shares > 1 else "")
            if first.total is not None and first.share > 1:
                shown.history = _history(trace, first)
    elif first.kind == "update":
        stage = last.stage
        shown.array, shown.called = trace.arrays[stage[2]], f"{stage[0]} of {value.name}"
    index = shown.default_index() if index is None else index
    shown.facts = explain_group(trace, steps, item.group) if item.group else explain(trace, first, index, sums)
    return shown


def _history(trace, step):
    new, total = trace.arrays[step.contribution], trace.arrays[step.total]
    return None if isinstance(new, Omitted) or isinstance(total, Omitted) else (total - new, new, total)


def check(trace, shown, index):
    """The words of the finite-difference check of one entry of what is shown."""
    if shown.phase == "update" or not isinstance(shown.array, np.ndarray) or shown.array.dtype.kind != "f":
        return "nothing here is a derivative"
    later = ", which the walk has not computed yet" if shown.phase == "forward" else ""
    try:
        return checked(trace, shown, index).words(f"d{shown.target.name}{entry(index)}") + later
    except replay.CannotReplay as problem:
        return f"cannot be checked: {problem}"


def checked(trace, shown, index):
    """The Checked of an entry. On a forward step the whole gradient of the value is tried, which the walk finds later."""
    if shown.phase == "forward":
        place = totals_of(trace).get(shown.target.id)
        if place is None:
            raise replay.CannotReplay(f"the walk does not reach {shown.target.name}")
        return replay.compare(trace.arrays[place], index, replay.slope(trace, shown.target, index), replay.noise(trace, shown.target, index))
    rules = [s for s in shown.steps if s.target == shown.target.id]
    return replay.check_rules(trace, rules, shown.target, shown.array, index)


def render(shown, header, *, index=None, view="numbers", width=80, color=False, share=None):
    """Lines of text for a Shown. `header`: (number, count); `share`: how much of the way is done, for the progress bar."""
    paint = painter(color)
    facts, width = shown.facts, max(width, 40)
    number, count = header
    where = "  ".join(x for x in (facts["module"], facts["where"]) if x)
    lines = _wrap(f"step {number}/{count}  {shown.phase}  {facts['op']}  {where}", width, "", paint, shown.phase)
    lines += _wrap(facts["title"], width, "", paint, "title")
    if share is not None:
        done = round(share * (width - 2))
        lines.append(paint("█" * done + "░" * (width - 2 - done), "dim"))

    def say(label, text, style=None):
        if text:
            lines.extend(_wrap(text, width, label, paint, style))

    def draw(label, array, at=None):
        say(label, one_line(array))
        lines.extend(" " * 2 + line for line in picture(array, view, width - 2, paint, at))
    if facts.get("line"):
        say("source", facts["line"], "dim")
    say("graph", facts.get("graph"))
    say("frontier", facts.get("frontier"))
    say("inside", facts.get("inside"))
    say("computes", facts.get("formula"))
    if shown.incoming is not None:
        draw(f"g = {shown.incoming_name} ", shown.incoming)
    say("rule", facts.get("rule"), "bold")
    say(" ", facts.get("named"))
    say("shapes", facts.get("shapes"))
    say("saved", facts.get("saved"))
    say("broadcast", facts.get("unbroadcast"))
    if shown.array is not None:
        draw(f"{shown.called} ", shown.array, index)
    say("numbers", facts.get("sum"))
    say("add up", facts.get("accumulate"))
    if shown.history is not None and index is not None:
        old, new, total = (short(float(a[index])) for a in shown.history)
        say(" ", f"at {entry(index) or 'the scalar'}: {old} + {new} = {total}")
    for row in facts.get("table", ()):
        lines.extend(_wrap("{}  {}  |grad| {}  |weight| {}  ratio {}".format(*row[:2], *(("-" if x is None else short(x)) for x in row[2:])), width, "", paint, None))
    say("why", facts.get("why"))
    say("mistake", facts.get("mistake"))
    say("freed", facts.get("freed"), "dim")
    for label, text, style in shown.notes:
        say(label, text, style)
    return lines


def _wrap(text, width, label, paint, style=None):
    """A labelled paragraph, wrapped with a hanging indent; newlines in the text are kept."""
    if len(label) > width // 2:
        label, text = "", f"{label} {text}"
    head = f"{label}  " if len(label) >= LABEL else label.ljust(LABEL) if label else ""
    indent = " " * (LABEL if label else 0) if len(head) <= LABEL else "  "
    lines = []
    for k, part in enumerate(str(text).split("\n")):
        part_indent = len(part) - len(part.lstrip())
        room = textwrap.wrap(part, max(width, 20), initial_indent=head if k == 0 else indent + " " * part_indent,
                             subsequent_indent=indent + " " * part_indent, break_long_words=True) or [head.rstrip()]
        lines.extend(room)
    painted = []
    for k, line in enumerate(lines):
        cut = len(head) if k == 0 else 0
        painted.append((paint(line[:cut], "dim") if line[:cut].strip() else line[:cut]) + (paint(line[cut:], style) if style else line[cut:]))
    return painted


def full_text(trace, width=100):
    """Every step of a trace, as text."""
    from .steps import Folds, steps_of
    folds = Folds(steps_of(trace)).open_all()
    blocks = []
    for k in range(len(folds.items)):
        shown = show(trace, folds, k)
        blocks.append("\n".join(line.rstrip() for line in render(shown, (k + 1, len(folds.items)), index=shown.default_index(), width=width)))
    heading = f"{trace.title}: " if trace.title else ""
    return f"{heading}{len(trace.values)} values, {len(folds.items)} steps\n\n" + "\n\n".join(blocks) + "\n"
