"""Predict mode: before a rule runs, say what it will do; be graded, and told which mistake it was.

    choice   which of four rules is it? Three are mutants: a transpose missing, operands exchanged, the sign, a factor, 1/N
    value    one entry of the result, within 1 %; an expression is welcome
    shape    the shape of dL/dx
    rule     the whole rule in NumPy, over g, y and the inputs; graded element by element, and diagnosed as gradcheck does
    bug      one rule of the trace was replaced by a wrong one (hunt.py): find it with checks

The same seed asks the same questions. What is typed is never run as Python: see safe.py.
"""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..atomic import write_bytes
from ..engine.diagnose import diagnose
from . import replay
from .arrays import Omitted, entry, short
from .explain import in_names, parameter_name
from .record import decode
from .safe import Refused, evaluate

KINDS = ("choice", "value", "shape", "rule")
SMALL = 64          # so many elements of y, at most, for a diagnosis of a typed rule


@dataclass
class Question:
    """One question about a rule step; `answer` is in words, `choices` are (text, what is wrong with it or "")."""

    kind: str
    prompt: str
    answer: str
    step: object = None
    trace: object = None
    index: tuple = None
    choices: list = field(default_factory=list)

    def text(self):
        """What a terminal shows."""
        lines = [self.prompt, *(f"  {k + 1}  {text}" for k, (text, _) in enumerate(self.choices))]
        return "\n".join([*lines, "press 1 to 4" if self.choices else "= types the answer, Enter gives it"])


class Quiz:
    """A seeded run of questions with a score; `scores` (a Scores) keeps it, under the name of `deck`."""

    def __init__(self, seed=0, scores=None, deck="free"):
        self.seed, self.scores, self.deck = seed, scores, deck
        self.asked = self.right = self.graded = 0

    def ask(self, trace, steps, k, last=None):
        """The next Question about the operation of step k (to `last`, of a composite); None if no rule runs for it."""
        kind = KINDS[self.asked % len(KINDS)]
        question = question_for(trace, steps, k, kind, np.random.default_rng((self.seed, self.asked)), last)
        self.asked += question is not None
        return question

    def grade(self, question, text):
        """(words, whether it was right) for an answer; the score is kept. What cannot be read costs nothing."""
        try:
            right, words = grade(question, text)
        except Refused as problem:
            return f"not evaluated: {problem}", False
        return self.count(right, words), right

    def count(self, right, words):
        """Keep the score of one answer; `words` with it."""
        self.graded += 1
        self.right += right
        if self.scores is not None:
            self.scores.add(self.deck, right)
        return f"{'right' if right else 'not right'}: {words}  (score {self.right} of {self.graded})"


class Scores:
    """Scores in a small JSON file, deck -> [right, asked]."""

    def __init__(self, path=None):
        base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
        self.path = Path(path or os.path.join(base, "tinyllm", "predict.json"))

    def read(self):
        """The scores so far; none if there is no file, or one that is not ours."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            return {deck: [int(a), int(b)] for deck, (a, b) in found["decks"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def add(self, deck, right):
        """Count one answer."""
        decks = self.read()
        won, asked = decks.get(deck, [0, 0])
        decks[deck] = [won + bool(right), asked + 1]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path, json.dumps({"version": 1, "decks": decks}, indent=1).encode())


# ---- questions

def question_for(trace, steps, k, kind, rng, last=None):
    """A Question of `kind` about the rules of step k's operation, or of those to `last`; another kind where that one cannot be asked."""
    asked = steps[k:(k if last is None else last) + 1]
    values = {s.value for s in asked if s.kind == "forward"}
    rules = [s for s in (steps if values else asked) if s.kind == "rule" and s.target is not None and (not values or s.value in values)]
    rules = [s for s in rules if not re.search(r"np\.|\n", rule_source(trace, s))] or rules      # a product before a rearrangement
    if not rules:
        return None
    step = rules[int(rng.integers(len(rules)))]
    if isinstance(trace.arrays[step.contribution], Omitted):
        return None
    source = rule_source(trace, step)
    choices = mutants(source) if "\n" not in source else []
    if kind == "choice" and len(choices) < 3 or kind == "rule" and "\n" in source:
        kind = "value"
    return _MAKERS[kind](trace, step, source, choices, rng)


def rule_source(trace, step):
    """The text of the rule a step runs."""
    value = trace[step.value]
    return trace.ops[value.op]["rules"][parameter_name(trace, value, step.position).split("[")[0]]


def _names(trace, step):
    value = trace[step.value]
    operand = trace[value.inputs[step.position]].name
    return value, operand, f"{trace.expression(value)}, g = dL/d{value.name}"


def _choice(trace, step, source, choices, rng):
    value, operand, given = _names(trace, step)
    picked = [choices[i] for i in rng.permutation(len(choices))[:3]]
    options = [(source, ""), *picked]
    options = [(in_names(trace, value, text), wrong) for text, wrong in (options[i] for i in rng.permutation(4))]
    answer = next(str(k + 1) for k, (_, wrong) in enumerate(options) if not wrong)
    return Question("choice", f"{given}. Which rule gives dL/d{operand}?", answer, step, trace, choices=options)


def _value(trace, step, source, choices, rng):
    value, operand, given = _names(trace, step)
    array = trace.arrays[step.contribution]
    nonzero = np.argwhere(array != 0) if array.size else []
    at = tuple(int(i) for i in nonzero[int(rng.integers(len(nonzero)))]) if len(nonzero) else (0,) * array.ndim
    part = "the contribution from here to " if step.shares > 1 else ""
    return Question("value", f"{given}. What is {part}dL/d{operand}{entry(at)}? (1 %, expressions allowed)", repr(float(array[at])), step, trace, at)


def _shape(trace, step, source, choices, rng):
    value, operand, given = _names(trace, step)
    shape = tuple(trace.arrays[step.contribution].shape)
    return Question("shape", f"{given}, of shape {tuple(trace.arrays[step.g].shape)}. What is the shape of dL/d{operand}?", str(shape), step, trace)


def _rule(trace, step, source, choices, rng):
    value, operand, given = _names(trace, step)
    names = ", ".join(n for n in variables(trace, step) if n != "np")
    return Question("rule", f"{given}. Write the rule for dL/d{operand} in NumPy, over {names}.", source, step, trace)


_MAKERS = {"choice": _choice, "value": _value, "shape": _shape, "rule": _rule}


def mutants(source):
    """[(wrong rule, what is wrong with it)]: what people write by mistake, each once and none equal to the rule.

    >>> [text for text, _ in mutants("g * b")]
    ['-(g * b)', 'g * a', 'g / b', '2 * (g * b)', '(g * b) / N', 'g']
    """
    swapped = re.sub(r"\b([ab])\b(?!\()", lambda m: {"a": "b", "b": "a"}[m.group(1)], source)
    turned = re.sub(r"product\(([^(),]+), ([^(),]+)\)", r"product(\2, \1)", source)
    found = [
        (source[1:] if source.startswith("-") else f"-({source})" if " " in source else f"-{source}", "the sign is flipped"),
        (source.replace(".mT", "", 1), "the transpose is missing"),
        (swapped, "it reads the other operand"),
        (turned, "the operands of the product are exchanged"),
        (source.replace(" * ", " / ", 1) if " * " in source else source.replace(" / ", " * ", 1), "multiplication and division are exchanged"),
        (source.replace("1 - y", "1 + y") if "1 - y" in source else source.replace("y", "a") if re.search(r"\by\b", source) else source,
         "it is made of the wrong numbers"),
        (f"2 * ({source})" if " " in source else f"2 * {source}", "a factor of 2 too much"),
        (f"({source}) / N" if " " in source else f"{source} / N", "divided by the number of elements: there is no mean here"),
        ("g" if source.startswith("g ") else f"{source} * y", "a factor is missing" if source.startswith("g ") else "a factor too much"),
    ]
    return [(text, why) for text, why in dict(found).items() if text != source]


# ---- grading

def grade(question, text):
    """(right, words). Refused if the text cannot be read as an answer."""
    text = text.strip()
    if not text:
        raise Refused("nothing was typed")
    return _GRADERS[question.kind](question, text)


def _grade_choice(question, text):
    if text not in ("1", "2", "3", "4"):
        raise Refused("answer with 1, 2, 3 or 4")
    chosen, wrong = question.choices[int(text) - 1]
    return (not wrong, f"{wrong}; it is {question.choices[int(question.answer) - 1][0]}" if wrong else f"it is {chosen}")


def _grade_value(question, text):
    names = {k: v for k, v in variables(question.trace, question.step).items()}
    given = np.asarray(evaluate(text, names))
    if given.size != 1 or given.dtype.kind not in "fiub":
        raise Refused(f"one number is expected, not {given.shape}")
    given, truth = float(given.reshape(())), float(question.answer)
    right = bool(abs(given - truth) <= 0.01 * abs(truth) or given == truth)
    hint = ""
    if not right and truth:
        hint = "the sign is flipped; " if np.isclose(given, -truth, rtol=0.01) else f"yours is {short(given / truth)} times it; "
    return right, f"{hint}it is {short(truth)}"


def _grade_shape(question, text):
    numbers = re.findall(r"\d+", text)
    if not numbers and text not in ("()", "scalar"):
        raise Refused("a shape is expected, as (8, 16)")
    given = tuple(map(int, numbers))
    truth = tuple(question.trace.arrays[question.step.contribution].shape)
    turned = "; the axes are exchanged" if given != truth and given == truth[::-1] else ""
    return given == truth, f"it is {truth}, the shape of the operand{turned}"


def _grade_rule(question, text):
    trace, step = question.trace, question.step
    given = np.asarray(evaluate(text, variables(trace, step)))
    if given.dtype.kind not in "fiub":
        raise Refused("the result is no array of numbers")
    truth, whole = trace.arrays[step.contribution], trace.arrays[step.gradient]
    if given.shape not in (truth.shape, whole.shape):
        turned = ": it is the transpose of that" if given.shape == truth.shape[::-1] and given.ndim > 1 else ""
        return False, f"yours has shape {given.shape}, expected {truth.shape}{turned}"
    wanted = truth if given.shape == truth.shape else whole
    gap = float(np.abs(given - wanted).max(initial=0))
    size = float(np.abs(wanted).max(initial=0)) or 1.0
    if gap <= 1e-12 * size:
        return True, f"exact; as it runs here: {question.answer}"
    if gap <= 1e-5 * size:
        return True, f"close, largest difference {short(gap)}; as it runs here: {question.answer}"
    return False, f"largest difference {short(gap)}; {diagnosis(trace, step, text) or 'none of the usual mistakes'}"


_GRADERS = {"choice": _grade_choice, "value": _grade_value, "shape": _grade_shape, "rule": _grade_rule}


def variables(trace, step, g=None):
    """What an answer may mention: g, y, the rule's own parameter names, and the traced names that are plain words."""
    value = trace[step.value]
    arrays = {"g": trace.arrays[step.g] if g is None else g, "y": trace.array(value)}
    for k, x in enumerate(value.inputs):
        array = trace.array(x) if isinstance(x, str) else x
        arrays[parameter_name(trace, value, k)] = array
        if isinstance(x, str) and trace[x].name.isidentifier():
            arrays.setdefault(trace[x].name, array)
    if value.name.isidentifier():
        arrays.setdefault(value.name, trace.array(value))
    for name, setting in value.attributes.items():
        setting = decode(setting, trace.arrays)
        if isinstance(setting, (int, float, tuple)):
            arrays.setdefault(name, setting)
    return {name: array for name, array in arrays.items() if not isinstance(array, (Omitted, dict)) and name.isidentifier()}


def diagnosis(trace, step, text):
    """The mistake behind a typed rule, from the catalogue of the gradient check: its Jacobian against the true one."""
    value, y = trace[step.value], trace.array(step.value)
    if y.size > SMALL or trace.array(value.inputs[step.position]).size > SMALL:
        return ""
    shape = trace.array(value.inputs[step.position]).shape
    rows = []
    for k in range(y.size):
        g = np.zeros(y.shape)
        g.flat[k] = 1
        try:
            row = np.asarray(evaluate(text, variables(trace, step, g)), np.float64)
        except Refused:
            return ""
        rows.append(row.ravel() if row.shape == shape else None)
    if any(row is None for row in rows):
        return "the result of the rule is not summed to the shape of the operand"
    truths = {}
    for position, x in enumerate(value.inputs):
        if isinstance(x, str) and trace.array(x).dtype.kind == "f" and trace.array(x).size <= SMALL:
            truths[position] = _jacobian(trace, value, position)
    truth = truths.pop(step.position)
    others = {trace[value.inputs[p]].name: t for p, t in truths.items()}
    return diagnose(np.array(rows), truth, shape, [y.shape], others)


def _jacobian(trace, value, position):
    """∂y/∂x by central differences on the recorded operands: (elements of y, elements of x)."""
    x = replay.precise(trace.array(value.inputs[position]))
    columns = []
    for j in range(x.size):
        up, down = x.copy(), x.copy()
        up.flat[j] += replay.EPS
        down.flat[j] -= replay.EPS
        columns.append((replay.run(trace, value, operands={position: up}) - replay.run(trace, value, operands={position: down})).ravel() / (2 * replay.EPS))
    return np.array(columns).T
