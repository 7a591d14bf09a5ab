"""Find the bug: a copy of a trace in which one rule, somewhere, was replaced by a wrong one.

The backward walk is run again on the recorded arrays, with the registered rules; at one place the result is spoiled, and
everything below it is computed from that. A check tries the loss itself, so every step below the bug fails as well: the
culprit is the first of them in the order of the walk.
"""

import copy

import numpy as np

from ..engine import unbroadcast
from ..engine.primitive import primitives
from . import replay
from .record import decode

SPOILED = {     # what happened to the rule's result: words -> function
    "the sign was flipped": lambda r: -r,
    "a factor of 2 crept in": lambda r: 2 * r,
    "it was divided by the number of its elements": lambda r: r / max(r.size, 2),
    "its last axis was reversed": lambda r: np.flip(r, -1).copy() if r.ndim else -r,
}


def seed_bug(trace, steps, rng):
    """(a Trace with one wrong rule, the value and position of that rule, what was done to it)."""
    candidates = [s for s in steps if s.kind == "rule" and s.target is not None and s.walk == 1 and _can_run(trace, s.value)
                  and np.abs(trace.arrays[s.gradient]).max(initial=0) > 0]
    if not candidates:
        raise replay.CannotReplay("this trace has no rules that can be run again")
    chosen = candidates[int(rng.integers(len(candidates)))]
    truth = trace.arrays[chosen.gradient]
    ways = [w for w, spoil in SPOILED.items() if not np.allclose(spoil(truth), truth)]
    words = ways[int(rng.integers(len(ways)))]
    return _walk_again(trace, (chosen.value, chosen.position), SPOILED[words]), (chosen.value, chosen.position), words


def _can_run(trace, id):
    primitive = primitives.get(trace[id].op)
    return primitive is not None and all("saved" not in rule.parameters for rule in primitive.rule_list)


def _walk_again(trace, place, spoil):
    """A copy of the trace whose backward events were computed anew, with `spoil` applied to the result at `place`."""
    wrong = copy.copy(trace)
    wrong.arrays = list(trace.arrays)
    wrong.events = [dict(e) for e in trace.events]
    arriving, results = {trace.root: np.ones_like(trace.array(trace.root))}, {}

    def keep(array):
        wrong.arrays.append(array)
        return len(wrong.arrays) - 1
    for event in wrong.events:
        id, position = event.get("value"), event.get("position")
        if event["kind"] == "rule":
            gradient = rule_result(trace, id, position, arriving[id])
            results[id, position] = gradient = spoil(gradient) if (id, position) == place else gradient
            event["g"], event["gradient"] = keep(arriving[id]), keep(gradient)
        elif event["kind"] == "unbroadcast":
            shape = trace.array(trace[id].inputs[position]).shape
            results[id, position] = summed = unbroadcast(results[id, position], shape) if results[id, position].shape != shape else results[id, position]
            event["after"] = keep(summed)
        elif event["kind"] == "accumulate":
            target, gradient = event["target"], results[id, position]
            arriving[target] = gradient if target not in arriving else arriving[target] + gradient
            event["total"] = keep(arriving[target])
    return wrong


def rule_result(trace, id, position, g):
    """What the registered rule returns for one operand, on the recorded arrays."""
    value = trace[id]
    primitive = primitives[value.op]
    arrays = [replay.precise(trace.array(x)) if isinstance(x, str) else decode(x, trace.arrays) for x in value.inputs]
    settings = {**primitive.defaults, **{k: decode(v, trace.arrays) for k, v in value.attributes.items()}}
    rule = next(r for r in primitive.rule_list if position in r.positions(len(arrays)))
    inputs = dict(zip(primitive.inputs, arrays))
    if primitive.variadic:
        inputs[primitive.variadic] = tuple(arrays[primitive.inputs.index(primitive.variadic):])
    known = {**settings, **inputs, "g": g, "y": replay.precise(trace.array(value)), "shapes": tuple(np.shape(a) for a in arrays)}
    result = rule.function(*[known[p] for p in rule.parameters])
    if rule.joint:
        result = result[position - primitive.inputs.index(primitive.variadic)]
    return np.asarray(result)
