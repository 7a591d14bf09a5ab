"""One step in words and small texts: what every view says about it, so that they all say the same.

`explain(trace, step, index)` returns a dictionary of texts; a view lays them out. The numbers of one entry of a rule's
result are written out as a sum, `dx[2, 1] = 0.31·0.5 + (-0.2)·1.1`, whose terms come from the trace itself (replay.py).
"""

import re

import numpy as np

from . import replay
from .arrays import Omitted, shape_words, short
from .why import WHY

TERMS = 6       # so many terms of a sum are written out, the largest first


def explain(trace, step, index=None, sums=True):
    """The texts of a step: title, place, graph, and for a rule its text, shapes, sum and history."""
    value = trace[step.value]
    if step.kind == "norms":
        return {"title": "gradient norms against weight norms", "op": "norms", "module": "", "where": "", "groups": [], "table": norms(trace, step)}
    facts = {"title": trace.expression(value), "op": value.op or step.kind, "module": value.module, "where": value.where,
             "line": value.line, "groups": step.groups}
    if step.kind == "forward":
        facts.update(graph=graph_line(trace, value), formula=trace.ops[value.op]["doc"], shapes=forward_shapes(trace, value))
    elif step.kind == "rule":
        facts.update(_rule(trace, step, value, index, sums))
    else:
        facts.update(title=f"{step.groups[0]}: {step.stage[0]}", op=step.stage[0], formula=step.stage[1])
    if value.op in WHY and step.kind in ("forward", "rule"):
        facts["why"], facts["mistake"] = WHY[value.op]
    return facts


def _operand(trace, x):
    return trace[x].name if isinstance(x, str) else short(x) if not isinstance(x, dict) else "array"


def graph_line(trace, value, mark=None):
    """`x (4×3), W1 (3×2) → matmul → h (4×2)`, the operand at position `mark` in brackets."""
    names = []
    for k, x in enumerate(value.inputs):
        text = f"{trace[x].name} {shape_words(trace.array(x).shape)}" if isinstance(x, str) else _operand(trace, x)
        names.append(f"[{text}]" if k == mark else text)
    return f"{', '.join(names)} → {value.op} → {value.name} {shape_words(trace.array(value).shape)}"


def frontier(trace, step, value):
    """How far the walk is around this operation: `dL/dh arrived → dL/dx computed here, dL/dW1 not computed yet`."""
    states = {}
    for k, x in enumerate(value.inputs):
        if isinstance(x, str) and trace[x].needs:
            states[f"dL/d{trace[x].name}"] = "computed here" if k == step.position else "computed" if k < step.position else "not computed yet"
    return f"dL/d{value.name} arrived → " + ", ".join(f"{name} {state}" for name, state in states.items())


def forward_shapes(trace, value):
    """`(4, 3) @ (3, 2) → (4, 2)`."""
    symbol = trace.ops[value.op].get("symbol")
    shapes = [_shape(trace.array(x)) if isinstance(x, str) else "scalar" for x in value.inputs]
    return f"{(f' {symbol} ' if symbol else ', ').join(shapes)} → {_shape(trace.array(value))}"


def _shape(array):
    return str(tuple(array.shape)).replace(",)", ")") if array.shape else "scalar"


def parameter_name(trace, value, position):
    """The name a rule knows operand `position` by: `a`, or `arrays[1]` of a variadic one."""
    described = trace.ops[value.op]
    names = described["inputs"]
    if described.get("variadic") and position >= len(names) - 1:
        return f"{names[-1]}[{position - len(names) + 1}]"
    return names[position]


def _rule(trace, step, value, index, sums):
    stem = parameter_name(trace, value, step.position)
    operand = trace[value.inputs[step.position]]
    source = trace.ops[value.op]["rules"].get(stem.split("[")[0], "")
    facts = {"title": f"dL/d{operand.name}, through {trace.expression(value)}", "graph": graph_line(trace, value, step.position),
             "frontier": frontier(trace, step, value), "rule": f"dL/d{stem} = {source}" if "\n" not in source else f"dL/d{stem}:\n    {source}",
             "shapes": rule_shapes(trace, step, source)}
    if "\n" not in source:
        facts["named"] = f"dL/d{operand.name} = {in_names(trace, value, source)}"
    facts["saved"] = saved(trace, value, source)
    facts["freed"] = f"{value.name} has been walked: what it saved is released" if step.freed else ""
    if step.summed is not None:
        facts["unbroadcast"] = unbroadcast(trace, step, operand)
    facts["accumulate"] = accumulation(trace, step)
    if index is not None and sums:
        try:
            facts["sum"] = written_out(trace, step, index)
        except replay.CannotReplay as problem:
            facts["sum"] = f"{replay.label(trace, step, index)}: cannot be written out, {problem}"
    return facts


def in_names(trace, value, source):
    """The rule with the operands' names for its parameters and @ for product(p, q)."""
    text = re.sub(r"product\(([^(),]+), ([^(),]+)\)", r"\1 @ \2", source)
    names = {"y": value.name, "g": f"dL/d{value.name}"}
    for k, x in enumerate(value.inputs):
        stem = parameter_name(trace, value, k)
        names[stem] = _operand(trace, x)
    return re.sub(r"(?<![\w.])[A-Za-z_]\w*(?!\s*[=(])", lambda m: names.get(m.group(), m.group()), text)


def rule_shapes(trace, step, source):
    """`(8, 4) @ (4, 16) → (8, 16)` where the rule is a product, else the shapes of what it reads."""
    value = trace[step.value]
    shapes = {"g": _shape(trace.arrays[step.g]), "y": _shape(trace.array(value))}
    for k, x in enumerate(value.inputs):
        if isinstance(x, str):
            shapes[parameter_name(trace, value, k)] = _shape(trace.array(x))
    result = _shape(trace.arrays[step.gradient])
    product, names = re.fullmatch(r"product\(([^(),]+), ([^(),]+)\)", source), trace.ops[value.op]["inputs"]
    if product and all(side.removesuffix(".mT") in ("g", *names) for side in product.groups()):
        sides = []
        for side in product.groups():
            stem = side.removesuffix(".mT")
            array = trace.arrays[step.g] if stem == "g" else trace.array(value.inputs[names.index(stem)])
            shape = tuple(array.shape)
            sides.append(str(shape[:-2] + shape[:-3:-1] if side.endswith(".mT") else shape))
        return f"{sides[0]} @ {sides[1]} → {result}"
    read = [f"{name} {shapes[name]}" for name in shapes if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", source)]
    return f"{', '.join(read) or 'g ' + shapes['g']} → {result}"


def read_by(trace, value, source):
    """Positions of the operands that a rule reads as numbers, not only for their shape."""
    return [k for k, x in enumerate(value.inputs) if isinstance(x, str) and _mentions(source, parameter_name(trace, value, k).split("[")[0])]


def _mentions(source, name):
    return re.search(rf"(?<![\w.]){name}(?!\w)(?!\.(?:shape|ndim|size|dtype))", source)


def saved(trace, value, source):
    """What the rule reads besides g, with shapes: these were kept since the forward pass."""
    kept = []
    for k in read_by(trace, value, source):
        operand = trace[value.inputs[k]]
        kept.append(f"{parameter_name(trace, value, k)} = {operand.name} {shape_words(trace.array(operand).shape)}")
    if _mentions(source, "y"):
        kept.append(f"y = {value.name} {shape_words(trace.array(value).shape)}")
    return ", ".join(kept) or "nothing"


def unbroadcast(trace, step, operand):
    """`sum over axis 0: b is (16,), the rule's result is (8, 16)`."""
    before, after = trace.arrays[step.gradient].shape, trace.arrays[step.summed].shape
    if before == after:
        return f"cast to {trace.array(operand).dtype}, the dtype of {operand.name}"
    lead = len(before) - len(after)
    axes = [*range(lead), *(lead + i for i, n in enumerate(after) if n == 1 and before[lead + i] != 1)]
    return (f"sum over ax{'is' if len(axes) == 1 else 'es'} {', '.join(map(str, axes))}: {operand.name} is {after or 'a scalar'}, "
            f"the rule's result is {before}: it was stretched forward, so it collects backward")


def accumulation(trace, step):
    """`dx: old + new = total; contribution 2 of 3, from n5 and n9`."""
    if step.target is None:
        return ""
    name = trace[step.target].name
    if step.shares == 1:
        return f"d{name}: the only contribution"
    sources = [trace[s] for s in step.sources]
    named = " and ".join(f"{s.id} ({s.op})" for s in sources)
    if step.share == 1:
        return f"d{name}: contribution 1 of {step.shares}, from {named}; the others are not computed yet"
    return f"d{name}: old + new = total; contribution {step.share} of {step.shares}, from {named}"


def written_out(trace, step, index):
    """`dx[2, 1] = 0.31·0.5 + (-0.2)·1.1 + … = 0.341`: Σ_k g_k · ∂y_k/∂x, largest terms first."""
    parts = replay.terms(trace, step, index)
    total = float(trace.arrays[step.contribution][index])
    of = replay.label(trace, step, index)
    if not parts:
        return f"{of} = {short(total)}: nothing of y moves with this entry"
    parts.sort(key=lambda p: -abs(p[1] * p[2]))

    def factor(x):
        return f"({short(x)})" if x < 0 else short(x)
    shown = " + ".join(f"{factor(g)}·{factor(d)}" for _, g, d in parts[:TERMS])
    rest = f" + … ({len(parts) - TERMS} more)" if len(parts) > TERMS else ""
    return f"{of} = Σ g·∂{trace[step.value].name}/∂{trace[trace[step.value].inputs[step.position]].name} = {shown}{rest} = {short(total)}"


def norms(trace, step):
    """Rows (name, shape, |gradient|, |weight|, ratio) of the parameters, after a walk."""
    totals = totals_of(trace)
    rows = []
    for value in trace.values:
        if value.kind == "parameter" and value.id in totals:
            gradient, weight = trace.arrays[totals[value.id]], trace.array(value)
            if isinstance(gradient, Omitted) or isinstance(weight, Omitted):
                g, w = gradient_norm(gradient), gradient_norm(weight)
            else:
                g, w = np.linalg.norm(gradient.astype(np.float64)), np.linalg.norm(weight.astype(np.float64))
            rows.append((value.name, shape_words(weight.shape), float(g), float(w), float(g / w) if w else None))
    return rows


def gradient_norm(array):
    """L2 norm, from the statistics where the array was not kept."""
    return array.stats.get("norm", float("nan")) if isinstance(array, Omitted) else float(np.linalg.norm(array.astype(np.float64)))


def totals_of(trace, before=None):
    """id -> place of the gradient that had arrived in the end, or before event number `before`."""
    totals = {}
    for event in trace.events[:before]:
        if event["kind"] == "accumulate":
            totals[event["target"]] = event["total"]
        elif event["kind"] == "rule" and event["value"] not in totals:
            totals[event["value"]] = event["g"]
    return totals


# ---- a composite folded into one step

def outside(trace, steps):
    """[(target Value, steps that contribute to it, their sum)] for what a folded composite sends out of itself."""
    inside = {s.value for s in steps}
    found = {}
    for step in steps:
        if step.target is not None and step.target not in inside:
            found.setdefault(step.target, []).append(step)
    return [(trace[t], rules, total(trace, [s.contribution for s in rules])) for t, rules in found.items()]


def total(trace, places):
    """The sum of recorded arrays; an Omitted if one of them is."""
    arrays = [trace.arrays[p] for p in places]
    missing = [a for a in arrays if isinstance(a, Omitted)]
    return missing[0] if missing else sum(arrays[1:], arrays[0])


def _unnamed(value):
    return value.kind == "constant" and value.name.startswith("constant_")


def explain_group(trace, steps, group):
    """The texts of the steps of a composite that are folded into one."""
    op = group.rsplit("_", 1)[0]
    first, last = trace[steps[0].value], trace[steps[-1].value]
    facts = {"op": op, "module": first.module, "where": first.where, "line": first.line, "groups": [group]}
    if steps[0].kind == "update":
        facts.update(title=f"{group}: {len(steps)} stages", op=group.split()[0], formula=" → ".join(s.stage[0] for s in steps))
        return facts
    inner = ", ".join(dict.fromkeys(trace[s.value].op for s in steps))
    facts["inside"] = f"{len(steps)} steps ({inner}); s steps into them"
    facts["formula"] = trace.ops[op]["doc"]
    if steps[0].kind == "forward":
        made = {s.value for s in steps}
        read = dict.fromkeys(x for s in steps for x in trace[s.value].inputs if isinstance(x, str) and x not in made and not _unnamed(trace[x]))
        read = sorted(read, key=lambda x: trace[x].kind == "parameter")      # what flows through, then what is learned
        facts["title"] = f"{last.name} = {op}({', '.join(trace[x].name for x in read)})"
        facts["graph"] = f"{', '.join(f'{trace[x].name} {shape_words(trace.array(x).shape)}' for x in read)} → {op} → {last.name} {shape_words(trace.array(last).shape)}"
    else:
        sent = outside(trace, steps)
        facts["title"] = f"{', '.join(f'dL/d{target.name}' for target, _, _ in sent)}, through {first.name} = {op}(…)"
        facts["graph"] = f"dL/d{first.name} {shape_words(trace.array(first).shape)} → {op} → " + ", ".join(
            f"dL/d{target.name} {shape_words(target_shape)}" for target, target_shape in ((t, trace.array(t).shape) for t, _, _ in sent))
    if op in WHY:
        facts["why"], facts["mistake"] = WHY[op]
    return facts
