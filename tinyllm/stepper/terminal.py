"""The stepper in a terminal: one key, one screen. Going back is free, for the trace never changes.

    n space →step    p back      arrows select an entry     s into a composite   o out of it
    b / B break on … / back      f finish the phase         g go to step         / find a tensor
    v numbers, heatmap, …        c check the entry          C check the tensor   w watch the tensor
    d difference to the other trace   e exercise   E find the bug               ? help   q quit

`Stepper` holds the state and knows nothing of terminals: `press(key)` changes it, `screen(width)` is a list of lines. `play`
presses a string of keys and returns what a person would have seen, as text; tty.py connects it to a real terminal.
"""

import textwrap

import numpy as np

from . import replay
from .arrays import entry, short
from .conditions import breakpoint_of, difference
from .hunt import seed_bug
from .pictures import VIEWS
from .steps import Folds, steps_of
from .text import check, checked, render, show

HELP = """n space  next step              p        back
arrows   select an entry        v        view: numbers, heatmap, histogram, stats
s        into a composite       o        out of it
f        to the next phase      g        go to a step: g 12 Enter
b        forward to a break     B        back to it: an operation, a tensor, nan, or |g| > 0.1
/        find a tensor          w        watch the tensor shown, or no longer
c        check this entry       C        check the whole tensor
e        exercise (1-4 choose, = types an answer)
E        find the bug: a rule is wrong somewhere; = names the step
d        difference to the other trace
PgUp Dn  scroll                 ?        this help              q  quit"""

PROMPTS = {"b": "break on (operation, tensor, nan, |g| > t): ", "B": "back to (operation, tensor, nan, |g| > t): ", "g": "go to step: ",
           "/": "find tensor: ", "=": "answer: "}
ENTRIES = 64        # C tries so many entries of a large tensor


class Stepper:
    """The state of a session over a Trace. `other`: a second trace to compare with; `quiz`: a predict.Quiz."""

    def __init__(self, trace, other=None, quiz=None):
        self.trace, self.other, self.quiz = trace, other, quiz
        self.folds = Folds(steps_of(trace))
        self.place, self.index, self.view, self.scroll = 0, None, 0, 0
        self.watched, self.notes, self.message = [], [], ""
        self.prompt, self.typed, self.condition = None, "", ""
        self.question, self.helping, self.done = None, False, False
        self.drill = False          # a deck: every step forward asks
        self.hunted = None          # (value, position, what was done to its rule) while a bug is hunted

    # ---- what is shown

    @property
    def item(self):
        """The item the session stands at."""
        return self.folds.items[self.place]

    def shown(self):
        """The Shown of this item, and the selected entry."""
        shown = show(self.trace, self.folds, self.place, self.index)
        return shown, self.index if self.index is not None else shown.default_index()

    def screen(self, width=80, color=False):
        """The lines of the screen."""
        if self.helping:
            return HELP.splitlines()
        shown, index = self.shown()
        shown.notes = [*self.notes, *(("watch", self._watch(name), None) for name in self.watched)]
        if self.question is not None:
            shown.hide()
            shown.notes.append(("exercise", self.question.text(), "bold"))
        elif self.hunted is not None:
            shown.notes.append(("exercise", "one rule is wrong: c checks, = Enter accuses this step", "bold"))
        count = len(self.folds.items)
        lines = render(shown, (self.place + 1, count), index=index, view=VIEWS[self.view], width=width, color=color,
                       share=(self.place + 1) / count)
        if self.prompt:
            lines += textwrap.wrap(PROMPTS[self.prompt] + self.typed, width)
        elif self.message:
            lines += textwrap.wrap(self.message, width)
        return lines

    def _watch(self, name):
        """The watched tensor's gradient, as far as the walk has come."""
        value, place = self.trace.find(name), None
        for step in self.folds.steps[:self.item.last + 1]:
            if step.kind == "rule" and step.target == value.id:
                place = step.total
        if place is None:
            return f"dL/d{name}: not computed yet" if value.needs else f"{name} carries no gradient"
        array = self.trace.arrays[place]
        norm = array.stats.get("norm") if hasattr(array, "stats") else float(np.linalg.norm(array))
        return f"dL/d{name} so far: norm {short(norm)}" + (f" = {short(float(array))}" if array.ndim == 0 else "")

    # ---- keys

    def press(self, key):
        """One key: a character, or "up", "down", "left", "right", "pageup", "pagedown", "enter", "backspace", "escape"."""
        self.message = ""
        if self.prompt:
            return self._type(key)
        if self.helping:
            self.helping = False
            return None
        if key in PROMPTS and (key != "=" or self.question is not None or self.hunted is not None):
            self.prompt, self.typed = key, ""
        elif key in "1234" and self.question is not None:
            self._answer(key)
        else:
            action = KEYS.get(key)
            if action is None:
                self.message = f"{key!r} is no key here; ? for help"
            else:
                action(self)
        return None

    def _type(self, key):
        if key == "enter":
            prompt, self.prompt = self.prompt, None
            {"g": self._goto, "/": self._find, "=": self._answer, "b": self._break, "B": self._break_back}[prompt](self.typed.strip())
        elif key == "escape":
            self.prompt = None
        elif key == "backspace":
            self.typed = self.typed[:-1]
        elif len(key) == 1:
            self.typed += key

    def go(self, place):
        """Stand at item `place`."""
        self.place = min(max(place, 0), len(self.folds.items) - 1)
        self.index, self.notes, self.question, self.scroll = None, [], None, 0

    def _next(self):
        if self.place + 1 == len(self.folds.items):
            self.message = "this is the last step"
        else:
            self.go(self.place + 1)
            if self.drill:
                self._exercise()

    def _back(self):
        if self.place == 0:
            self.message = "this is the first step"
        else:
            self.go(self.place - 1)

    def _into(self):
        if self.item.group is None:
            self.message = "this is a single operation; s steps into a composite"
            return
        first = self.item.first
        self.folds.open(self.item.group)
        self.go(self.folds.at(first))

    def _out(self):
        step = self.folds.steps[self.item.first]
        opened = [g for g in step.groups if g in self.folds.opened]
        if not opened:
            self.message = "this step is in no opened composite"
            return
        first = self.item.first
        self.folds.close(opened[-1])
        self.go(self.folds.at(first))

    def _finish(self):
        here = self.folds.steps[self.item.first].phase
        later = [k for k, item in enumerate(self.folds.items) if k > self.place and self.folds.steps[item.first].phase != here]
        self.go(later[0] if later else len(self.folds.items) - 1)
        self.message = f"{self.folds.steps[self.item.first].phase} begins" if later else f"{here} is the last phase"

    def _goto(self, text):
        if not text.isdigit() or not 1 <= int(text) <= len(self.folds.items):
            self.message = f"{text!r} is no step; they are numbered 1 to {len(self.folds.items)}"
        else:
            self.go(int(text) - 1)

    def _find(self, text):
        value = self.trace.find(text) or next((v for v in self.trace.values if text and text in v.name), None)
        if value is None:
            self.message = f"no tensor is called {text!r}"
            return
        hits = [k for k, item in enumerate(self.folds.items) if self._concerns(item, value.id)]
        if not hits:
            self.message = f"{value.name} is in no step"
            return
        self.go(next((k for k in hits if k > self.place), hits[0]))

    def _concerns(self, item, id):
        steps = self.folds.steps[item.first:item.last + 1]
        return any(id in (s.value, s.target) or id in self.trace[s.value].inputs for s in steps)

    def _break(self, text, way=1):
        self.condition = text or self.condition
        try:
            holds = breakpoint_of(self.trace, self.condition)
        except ValueError as problem:
            self.message = str(problem)
            return
        places = range(self.place + 1, len(self.folds.items)) if way > 0 else range(self.place - 1, -1, -1)
        for k in places:
            item = self.folds.items[k]
            if any(holds(step) for step in self.folds.steps[item.first:item.last + 1]) or item.group and holds(item.group):
                self.go(k)
                self.message = f"stopped at {self.condition}"
                return
        self.message = f"no {'later' if way > 0 else 'earlier'} step meets {self.condition!r}"

    def _break_back(self, text):
        self._break(text, -1)

    def _select(self, row, column):
        shown, index = self.shown()
        if shown.array is None or index is None or not shown.array.ndim:
            self.message = "there is no entry to select"
            return
        shape = shown.array.shape
        if len(shape) == 1 or column:
            self.index = (*index[:-1], (index[-1] + (column or row)) % shape[-1])
        else:
            at = (int(np.ravel_multi_index(index[:-1], shape[:-1])) + row) % int(np.prod(shape[:-1]))
            self.index = (*map(int, np.unravel_index(at, shape[:-1])), index[-1])
        self.notes = []

    def _check(self):
        shown, index = self.shown()
        if shown.array is None or index is None:
            self.message = "there is no entry to check"
            return
        words = check(self.trace, shown, index)
        self.notes = [("check", words, "bad" if "WRONG" in words else "good")]

    def _check_all(self):
        shown, index = self.shown()
        if index is None or shown.array is None or shown.phase == "update":
            self.message = "there is no gradient to check"
            return
        places = list(np.ndindex(shown.array.shape))
        if len(places) > ENTRIES:
            places = [places[k] for k in np.random.default_rng(0).choice(len(places), ENTRIES, replace=False)]
        try:
            results = [(checked(self.trace, shown, at), at) for at in places]
        except replay.CannotReplay as problem:
            self.notes = [("check", f"cannot be checked: {problem}", None)]
            return
        wrong = [(c, at) for c, at in results if not c.ok]
        worst, at = max(wrong or results, key=lambda r: r[0].relative)
        words = f"{len(results) - len(wrong)} of {len(results)} entries agree" + (f" (of {shown.array.size:,})" if len(places) < shown.array.size else "")
        self.notes = [("check", f"{words}; worst: {worst.words(f'd{shown.target.name}{entry(at)}')}", "bad" if wrong else "good")]

    def _watch_this(self):
        shown, _ = self.shown()
        if shown.target is None:
            self.message = "there is no tensor to watch"
        elif shown.target.name in self.watched:
            self.watched.remove(shown.target.name)
        else:
            self.watched.append(shown.target.name)

    def _difference(self):
        if self.other is None:
            self.message = "there is no second trace: start with --against fused, float32, or a saved trace"
            return
        shown, _ = self.shown()
        self.notes = [("difference", difference(self.trace, self.other, shown), None)]

    def _exercise(self):
        if self.quiz is None:
            self.message = "no exercises here"
            return
        self.question = self.quiz.ask(self.trace, self.folds.steps, self.item.first, self.item.last)
        if self.question is None:
            self.message = "no rule runs here; step to a forward operation or a rule"

    def _hunt(self):
        if self.quiz is None:
            self.message = "no exercises here"
            return
        try:
            trace, place, words = seed_bug(self.trace, self.folds.steps, np.random.default_rng((self.quiz.seed, 1000 + self.quiz.asked)))
        except replay.CannotReplay as problem:
            self.message = str(problem)
            return
        self.quiz.asked += 1
        self.trace, self.hunted = trace, (*place, words)
        self.folds = Folds(steps_of(trace)).open_all()
        self.go(next(k for k, step in enumerate(self.folds.steps) if step.kind == "rule"))
        self.message = "one rule is wrong: check steps with c, and at the culprit press = Enter"

    def _accuse(self, text):
        if text.isdigit() and 1 <= int(text) <= len(self.folds.items):
            self.go(int(text) - 1)
        value, position, words = self.hunted
        step = self.folds.steps[self.item.first]
        right = (step.value, step.position) == (value, position)
        number = next(k for k, s in enumerate(self.folds.steps) if (s.kind, s.value, s.position) == ("rule", value, position))
        result = self.quiz.count(right, f"{words} in step {number + 1}" if right else "the first step of the walk that fails its check is the culprit")
        self.notes = [("answer", result, "good" if right else "bad")]
        if right:
            self.hunted = None

    def _answer(self, text):
        if self.question is None:
            self._accuse(text)
            return
        words, right = self.quiz.grade(self.question, text)
        self.notes = [("answer", words, "good" if right else "bad")]
        if right:
            self.question = None
            self.message = "n: the next rule" if self.drill else ""

    def _view(self):
        self.view = (self.view + 1) % len(VIEWS)

    def _help(self):
        self.helping = True

    def _quit(self):
        self.done = True


KEYS = {"n": Stepper._next, " ": Stepper._next, "p": Stepper._back, "s": Stepper._into, "o": Stepper._out, "f": Stepper._finish,
        "up": lambda s: s._select(-1, 0), "down": lambda s: s._select(1, 0), "left": lambda s: s._select(0, -1),
        "right": lambda s: s._select(0, 1), "v": Stepper._view, "c": Stepper._check, "C": Stepper._check_all, "w": Stepper._watch_this,
        "d": Stepper._difference, "e": Stepper._exercise, "E": Stepper._hunt, "?": Stepper._help, "q": Stepper._quit,
        "pageup": lambda s: setattr(s, "scroll", max(0, s.scroll - 10)), "pagedown": lambda s: setattr(s, "scroll", s.scroll + 10),
        "enter": Stepper._next, "escape": lambda s: setattr(s, "question", None)}


def play(stepper, keys, width=80):
    """Press `keys` one after another; what a person would have seen, as text. `\\n` is Enter."""
    blocks = ["\n".join(stepper.screen(width))]
    for key in keys:
        stepper.press({"\n": "enter", "\x7f": "backspace", "\x1b": "escape"}.get(key, key))
        if stepper.done:
            break
        if not stepper.prompt:
            blocks.append(f"── {'Enter' if key == chr(10) else key} " + "─" * (width - 4 - len(key)) + "\n" + "\n".join(stepper.screen(width)))
    return "\n".join(line.rstrip() for line in "\n".join(blocks).splitlines()) + "\n"
