"""The exact check: every derivative of every output by every input, and the manners of the walk.

    full Jacobian     |A - N| ≤ atol + rtol · max(|A|, |N|) for every element; NaN and Inf fail
    linearity         rule(α g + β h) = α rule(g) + β rule(h), and rule(0) is exactly 0
    manners           the gradient has the input's shape and dtype and memory of its own; neither inputs nor
                      cotangent change; two runs agree bit for bit
"""

import math

import numpy as np

from .differences import complex_step
from .diagnose import diagnose
from .gradcheck_report import Row, compare, place
from .state import Watcher

LINEARITY = 1e-12       # relative to the largest element involved, or to 1
LARGEST = 10**7         # elements of the Jacobian that are compared in full


def check_exact(function, *, eps, rtol, atol, rng, floor):
    """Rows of the exact check of a `Function`. `floor`: a sample whose largest |J| is below it tells nothing."""
    complaint, shapes = _manners(function, rng)
    if complaint:
        return [_complaint(function, *complaint)]
    entries = sum(math.prod(s) for s in shapes) * sum(leaf.size for leaf in function.leaves.values())
    if entries > LARGEST:
        raise ValueError(f'gradcheck: the full Jacobian has {entries:.1e} elements, more than {LARGEST:.0e}: use mode="directional", '
                         "or smaller inputs")
    analytic = function.analytic()
    truths = {name: function.numeric(name, eps) for name in function.leaves}
    rows = []
    for name, leaf in function.leaves.items():
        row = Row(name, leaf.shape)
        bad = compare(row, analytic[name], truths[name], rtol, atol, shapes)
        if bad.any():
            _judge(function, row, bad, analytic, truths, shapes, eps)
        rows.append(row)
    largest = max((np.abs(t).max(initial=0) for t in truths.values()), default=0)
    if all(row.ok for row in rows) and floor and any(t.size for t in truths.values()) and largest < floor:
        row = max(rows, key=lambda r: truths[r.name].size)
        row.status = "uninformative"
        row.diagnosis = (f"the largest |dy/dx| is {largest:.2g}, below {floor:g}, so that a wrong rule could pass; check at other "
                         "inputs, or another function of them (a weighted sum of the outputs, say)")
    return rows


def _judge(function, row, bad, analytic, truths, shapes, eps):
    """Wrong, or only asked at a kink? Points the row at the worst element that is truly wrong."""
    a, n = analytic[row.name], truths[row.name]
    with np.errstate(all="ignore"):
        absolute = np.abs(a - n)
        relative = absolute / np.maximum(np.abs(a), np.abs(n))
    order = sorted(map(tuple, np.argwhere(bad)), key=lambda at: -np.nan_to_num(absolute[at], nan=np.inf))
    row.status, worst, kinks = "kink", order[0], {}
    for k, j in order:
        if j not in kinks:
            kinks[j] = function.kinks(row.name, j, eps)
        if not (kinks[j][k] or kinks[j].any() and not np.isfinite(a[k, j])):    # 0 · ∞ at another output's kink
            row.status, worst = "wrong", (k, j)
            break
    place(row, worst, a, n, absolute, relative, shapes)
    if row.status == "wrong":
        others = {name: t for name, t in truths.items() if name != row.name}
        row.diagnosis = diagnose(a, n, row.shape, shapes, others)


def _complaint(function, name, words):
    name = name or next(iter(function.leaves))
    return Row(name, function.leaves[name].shape, status="wrong", diagnosis=words, relative=float("nan"))


def _manners(function, rng):
    """((leaf name or None, what is wrong) or None, shapes of the outputs)."""
    arrays = {**{name: leaf.data for name, leaf in function.leaves.items()}, **function.others}
    before = {name: array.copy() for name, array in arrays.items()}
    outputs = function.outputs()
    shapes = [y.shape for y in outputs]
    g, h = ([rng.normal(size=y.shape).astype(y.dtype) for y in outputs] for _ in range(2))
    kept = [c.copy() for c in g]
    shapely = _Shapes()
    try:
        with shapely:
            first = function.pull(outputs, g)
        complaint = shapely.complaint or _memory(function, first, g, kept) or _linearity(function, outputs, first, g, h)
        if complaint:
            return complaint, shapes
    except (ValueError, TypeError, IndexError, KeyError, ArithmeticError, RuntimeError, NameError, AttributeError) as error:
        return (None, f"the rule raised {type(error).__name__}: {error}"), shapes
    for name, array in arrays.items():
        if array.tobytes() != before[name].tobytes():
            return (name if name in function.leaves else None, f"the input {name} was changed: forward and rules must leave inputs alone"), shapes
    again = function.outputs()
    second = function.pull(again, g)
    if any(one.data.tobytes() != two.data.tobytes() for one, two in zip(outputs, again)):
        return (None, "two runs of the forward differ: it draws from a generator that is not tinyllm's, or keeps state"), shapes
    for name in first:
        if first[name].tobytes() != second[name].tobytes():
            return (name, "two runs of the rule differ bit for bit on the same cotangent"), shapes
    return None, shapes


class _Shapes(Watcher):
    """A rule returns the shape of its input, or one that the input can be broadcast to."""

    complaint = None

    def unbroadcast(self, node, position, before, after):
        lead = before.ndim - after.ndim
        if lead < 0 or any(n != m and n != 1 for n, m in zip(after.shape, before.shape[lead:])):
            name = node.primitive.inputs[min(position, len(node.primitive.inputs) - 1)]
            self.complaint = (None, f"missing unbroadcast: {node.primitive.name}.grad_{name} returned shape {before.shape} for an input of "
                                    f"shape {after.shape}; expected that shape, or one the input was broadcast to")


def _memory(function, gradients, cotangents, kept):
    for c, copy in zip(cotangents, kept):
        if c.tobytes() != copy.tobytes():
            return None, "the rule changed the incoming cotangent g: it may be needed elsewhere, write a new array"
    for name, gradient in gradients.items():
        leaf = function.leaves[name]
        if gradient.shape != leaf.shape or gradient.dtype != leaf.dtype:
            return name, f"the gradient is {gradient.dtype} {gradient.shape}, the input {leaf.dtype} {leaf.shape}"
        if any(np.shares_memory(gradient, c) for c in cotangents):
            return name, "the gradient is the cotangent's own memory: writing to one would change the other"
        if np.shares_memory(gradient, leaf.data):
            return name, "the gradient is the input's own memory: writing to one would change the other"
    return None


def _linearity(function, outputs, of_g, g, h):
    of_h = function.pull(outputs, h)
    mixed = function.pull(outputs, [(0.7 * a - 1.3 * b).astype(a.dtype) for a, b in zip(g, h)])
    nothing = function.pull(outputs, [np.zeros_like(a) for a in g])
    for name in of_g:
        expected = 0.7 * of_g[name] - 1.3 * of_h[name]
        finite = np.isfinite(expected)      # what is not finite fails against the central difference
        size = max(1.0, *(float(np.abs(a[finite]).max(initial=0)) for a in (of_g[name], of_h[name])))   # what cancels to 0 leaves rounding
        limit = LINEARITY * size if mixed[name].dtype == np.float64 else 1e-5 * size
        if not (np.abs(mixed[name] - expected)[finite] <= limit).all():
            return name, "the rule is not linear in g: rule(0.7 g - 1.3 h) differs from 0.7 rule(g) - 1.3 rule(h)"
        if (nothing[name][finite] != 0).any():
            return name, "the rule of a zero cotangent is not exactly 0: something is added that g does not multiply"
    return None


def check_complex(primitive, arrays, attributes, names, function):
    """Rows that hold the rules of an analytic primitive to the complex step, which is exact to rounding."""
    analytic, rows = function.analytic(), []
    shapes = [y.shape for y in function.outputs()]
    for i, name in enumerate(names):
        if name in function.leaves and np.size(arrays[i]):
            row = Row(name, function.leaves[name].shape)
            truth = complex_step(primitive.forward, arrays, i, attributes).reshape(analytic[name].shape)
            if compare(row, analytic[name], truth, 1e-10, 1e-14, shapes).any():
                row.status = "wrong"
                row.diagnosis = diagnose(analytic[name], truth, row.shape, shapes, {}) or "differs from the complex step"
            row.test = "complex step"
            rows.append(row)
    return rows
