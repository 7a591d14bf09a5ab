"""Asking the trace itself: run its operations again with one number changed.

A trace has everything the forward pass used, so any derivative can be tried out: change one entry, run what depends on it
again in double precision, and see what the loss does.

    dL/dx[i]  ≈  (L(x + h e_i) - L(x - h e_i)) / 2h

Changing the entry only where one operation reads it gives that operation's contribution alone, which is what one rule
returns. And asking one operation for its own slopes writes a rule's sum out:  dx[i] = Σ_k g_k · ∂y_k/∂x_i.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..engine.primitive import primitives
from .arrays import Omitted, entry
from .record import decode

EPS = 1e-5          # the step of a central difference, as a share of the size of the numbers
MOST = 1 << 24      # products in one einsum of a file
WIDTH = 10          # so many times that for the difference of two widths, whose error is of order h⁴


class CannotReplay(Exception):
    """Why a trace cannot be run again, in words."""


def precise(array):
    """A recorded array for computing with: floating point in double precision."""
    if isinstance(array, Omitted):
        raise CannotReplay(f"an array was not kept ({array.why})")
    return array.astype(np.float64) if isinstance(array, np.ndarray) and array.dtype.kind == "f" else array


def run(trace, value, changed=(), operands=None):
    """The result of a value's operation on the recorded operands; `changed`: id -> array, `operands`: position -> array."""
    primitive = primitives.get(value.op)
    if primitive is None:
        raise CannotReplay(f"this process knows no operation {value.op!r}: import the module that defines it")
    arrays = []
    for position, x in enumerate(value.inputs):
        if operands and position in operands:
            arrays.append(operands[position])
        elif isinstance(x, str):
            arrays.append(changed[x] if x in changed else precise(trace.array(x)))
        else:
            arrays.append(decode(x, trace.arrays))
    settings = {k: decode(v, trace.arrays) for k, v in value.attributes.items()}
    for k, v in settings.items():
        if isinstance(v, Omitted):
            precise(v)
        if isinstance(v, np.dtype) and v.kind == "f":
            settings[k] = np.dtype(np.float64)
    shape = tuple(trace.array(value).shape)
    if trace.loaded:
        _check_room(primitive, arrays, settings, shape)
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(primitive.forward(*arrays, **settings))
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError, MemoryError) as error:
        raise CannotReplay(f"{value.op} cannot be computed of what was recorded ({type(error).__name__}: {error})") from None
    if result.shape != shape or result.dtype.kind not in "fiub":
        raise CannotReplay(f"{value.op} gives {result.dtype} {result.shape}; {shape} was recorded")
    return result


def _check_room(primitive, arrays, settings, shape):
    """CannotReplay unless an operation of a file, on the file's numbers, makes an array of the recorded shape and little else.

    Kernels trust their callers with shapes and ids, so they are left alone.
    """
    if not primitive.__module__.startswith("tinyllm.ops"):
        raise CannotReplay(f"{primitive.name} is a kernel, which is not run on the numbers of a file; trace with fused=False")
    try:
        shapes = [np.shape(a) for a in arrays]
        size = SIZES[primitive.name](shapes, settings) if primitive.name in SIZES else (
            math.prod(np.broadcast_shapes(*shapes)) if len(shapes) > 1 and primitive.variadic is None else 0)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise CannotReplay(f"{primitive.name} cannot be computed of what was recorded ({type(error).__name__}: {error})") from None
    if size > math.prod(shape):
        raise CannotReplay(f"{primitive.name} of {', '.join(map(str, shapes))} would not give {shape}")


def _matmul_size(shapes, settings):
    a, b = shapes
    return math.prod(np.broadcast_shapes(a[:-2], b[:-2])) * a[-2] * b[-1]


def _pad_size(shapes, settings):
    widths = np.broadcast_to(np.array(settings["width"], dtype=object), (len(shapes[0]), 2)).tolist()
    return math.prod(n + abs(before) + abs(after) for n, (before, after) in zip(shapes[0], widths))


def _getitem_size(shapes, settings):
    """The joint shape of the index arrays times what one place gives; 0 for what is no larger than the operand."""
    index = settings["index"] if isinstance(settings["index"], tuple) else (settings["index"],)
    many = [x for x in index if isinstance(x, (np.ndarray, list))]
    if not many:
        return 0            # a view
    one = tuple(np.asarray(x).reshape(-1)[:1].reshape((1,) * max(1, np.ndim(x))) if isinstance(x, (np.ndarray, list)) else x for x in index)
    if any(np.asarray(x).dtype == bool for x in many):
        return 0 if len(index) == 1 else math.inf       # a mask alone picks some of what is there
    return math.prod(np.broadcast_shapes(*map(np.shape, many))) * np.empty(shapes[0], bool)[one].size


def _take_size(shapes, settings):
    axis = settings.get("axis")
    return math.prod(shapes[1]) * (1 if axis is None else math.prod(shapes[0]) // max(1, shapes[0][axis]))


# How many numbers an operation would make; where there is no entry, as many as its operands broadcast to.
SIZES = {"matmul": _matmul_size, "pad": _pad_size, "getitem": _getitem_size, "take": _take_size,
         "broadcast_to": lambda shapes, settings: math.prod(map(abs, settings["shape"])),
         "take_along_axis": lambda shapes, settings: math.prod(shapes[1]), "scatter_add": lambda shapes, settings: math.prod(shapes[0]),
         "einsum": lambda shapes, settings: 0 if math.prod(map(math.prod, shapes)) <= MOST else math.inf}


def loss_with(trace, changed, first):
    """The root's value when the values in `changed` (id -> array) are replaced; `first`: number of the first value to run again."""
    changed = dict(changed)
    root = int(trace.root[1:])
    for value in trace.values[first:root + 1]:
        if value.op is not None and value.id not in changed and any(isinstance(x, str) and x in changed for x in value.inputs):
            changed[value.id] = run(trace, value, changed)
    result = changed[trace.root] if trace.root in changed else precise(trace.array(trace.root))
    if result.size != 1:
        raise CannotReplay("backward started from a tensor that is no scalar")
    return float(result.reshape(()))


def step(x, index):
    """How far an entry is moved: a share of what is large in this array, for a variance of 1e-4 cannot be moved by 1e-5."""
    finite = np.abs(x[np.isfinite(x)])
    return EPS * max(abs(float(x[index])) if np.isfinite(x[index]) else 0.0, min(1.0, float(finite.max(initial=0)) or 1.0))


def slope(trace, value, index, readers=None):
    """Central difference of the loss by entry `index` of a Value, of two widths: (4 D(h/2) - D(h)) / 3 has no error of order h².

    `readers`, id -> positions: the entry is changed only where these operations read it, which gives their contribution alone.
    """
    if trace.root is None:
        raise CannotReplay("no backward walk was recorded")
    x = precise(trace.array(value))
    if not np.isfinite(x[index]) or readers == {}:
        return 0.0              # a mask holds it at -inf, or nobody reads it: moving it changes nothing

    def loss_at(h):
        moved = x.copy()
        moved[index] += h
        changed = {value.id: moved} if readers is None else {
            reader: run(trace, trace[reader], operands=dict.fromkeys(positions, moved)) for reader, positions in readers.items()}
        return loss_with(trace, changed, min(int(v[1:]) for v in changed) + 1), float(moved[index])

    def difference(h):
        (above, up), (below, down) = loss_at(h), loss_at(-h)
        return (above - below) / (up - down)
    h = WIDTH * step(x, index)
    return (4 * difference(h / 2) - difference(h)) / 3


def noise(trace, value, index):
    """What rounding of the loss leaves in `slope`: the loss has 16 digits, of which a small step moves only the last."""
    loss = float(np.abs(precise(trace.array(trace.root))).reshape(-1)[0])
    return 4 * np.finfo(np.float64).eps * loss / (WIDTH * step(precise(trace.array(value)), index))


@dataclass
class Checked:
    """One derivative, both ways. `ok` within what the dtype of the trace allows."""

    rule: float
    numeric: float
    relative: float
    ok: bool

    def words(self, of):
        """`central difference at dx[2, 1]: 0.3412788, rule 0.3412788, rel 2e-09 ok`."""
        verdict = "ok" if self.ok else "WRONG"
        return f"central difference at {of}: {self.numeric:.7g}, rule {self.rule:.7g}, rel {self.relative:.0e} {verdict}"


def compare(gradient, index, numeric, rounding=0.0):
    """Checked, for entry `index` of a recorded gradient; `rounding`: what cannot be known of `numeric`."""
    rule = float(gradient[index])
    single = gradient.dtype != np.float64
    scale = max(abs(rule), abs(numeric))
    slack = float(np.abs(gradient).max(initial=0)) if np.isfinite(gradient).all() else 0.0
    error = abs(rule - numeric)
    ok = bool(error <= (1e-3 if single else 1e-6) * scale + (1e-5 * slack if single else 1e-8) + rounding)
    return Checked(rule, numeric, error / scale if scale else 0.0, ok)


def check_rules(trace, steps, target, gradient, index):
    """Checked: what the rules of `steps` contribute together at entry `index` of `target`; `gradient` is their sum."""
    if isinstance(gradient, Omitted):
        raise CannotReplay(gradient.why)
    readers = {}
    for rule in steps:
        readers.setdefault(rule.value, set()).add(rule.position)
    if len(readers) > 1:
        order = sorted(readers, key=lambda v: int(v[1:]))
        if any(x in readers for v in order for x in trace[v].inputs if isinstance(x, str)):
            raise CannotReplay("the operations that read it feed each other: step into the composite to check each rule")
    return compare(gradient, index, slope(trace, target, index, readers), noise(trace, target, index))


def terms(trace, rule, index):
    """[(index of y, g there, ∂y/∂x)] of the terms that make up one entry of a rule's result, those with a slope of 0 left out."""
    value = trace[rule.value]
    operand = trace[value.inputs[rule.position]]
    x, g = precise(trace.array(operand)), precise(trace.arrays[rule.g])
    h = step(x, index)
    up, down = x.copy(), x.copy()
    up[index] += h
    down[index] -= h
    above, below = (run(trace, value, operands={rule.position: moved}) for moved in (up, down))
    with np.errstate(invalid="ignore"):
        slopes = (above - below) / float(up[index] - down[index])
    slopes = np.where(np.abs(slopes) > 1e-9, slopes, 0)      # where a mask puts -inf both times, nothing moves
    return [(tuple(map(int, k)), float(g[tuple(k)]), float(slopes[tuple(k)])) for k in np.argwhere(slopes != 0)]


def label(trace, step, index):
    """`dx[2, 1]` for the operand of a rule step."""
    return f"d{trace[trace[step.value].inputs[step.position]].name}{entry(index)}"
