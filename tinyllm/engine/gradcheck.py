"""Gradient checking: is every rule the derivative of its forward?

    tl.gradcheck("matmul")                      a primitive by its name, on all its samples
    tl.gradcheck(f, [x, w])                     any function of tensors, every element of every derivative
    tl.gradcheck(model, [ids, targets])         a module: each parameter along random directions and at single entries
    tl.gradcheck(model.loss, [ids, targets])    a method of one

A report is returned; `print(report)` is a table, worst first. A failure raises `GradcheckError`, which names the
element, both numbers, the rule's own text, the likely mistake and the operation that is to blame.

What is not compared here is a forward with the mathematics it stands for: that is what tests are for.
"""

import inspect
import time

import numpy as np

from .differences import Function, generators_of, leaf_names, primitive_function
from .directional import check_directional
from .exact import check_complex, check_exact
from .gradcheck_report import GradcheckError, GradcheckReport, RegistryReport, Row
from .locate import locate
from .primitive import primitives
from .state import default_dtype
from .tensor import Tensor

INFORMATIVE = 1e-2      # the largest |J| of a primitive's sample must reach this
SENSITIVE = 1e-4        # and that of a user's function this: beside atol=1e-8 a wrong element is still seen


def gradcheck(fn, inputs=None, *, eps=1e-5, rtol=1e-6, atol=1e-8, mode=None, seed=0, raise_on_failure=True, force=False, names=None):
    """Compare the gradients of `fn` with central differences.

    `fn`: a function of tensors that returns a tensor or a tuple of them; a module (anything with `named_parameters()`)
    or a method of one; or the name of a primitive. `inputs`: a list of arrays or tensors (one alone need not be
    wrapped), of which the floating-point ones are differentiated; for a primitive it may be left out (all its samples)
    or be one sample, a last dict being attributes. A module with several inputs and a `loss` is checked through its loss.

    `mode`: "exact" compares the full Jacobian; "directional", the default for a module, compares 8 random directions, 20
    random entries and the 5 largest of each parameter, with rtol at least 1e-5; a primitive is always checked exactly.
    Float64 is required: float32 raises TypeError unless `force=True`, which allows for the 1e-4 that is the best float32
    can do. `names`: what to call the inputs.

    Returns a GradcheckReport (`ok`, `rows`); raises GradcheckError, which holds it as `.report`, unless `raise_on_failure=False`.

    >>> import numpy as np, tinyllm as tl
    >>> tl.gradcheck(lambda x: (x * x).sum(), np.array([1.0, 2.0])).ok
    True
    """
    if mode not in (None, "exact", "directional"):
        raise ValueError(f'gradcheck(mode={mode!r}): expected "exact" or "directional"')
    start, settings = time.perf_counter(), {"eps": eps, "rtol": rtol, "atol": atol}
    if isinstance(fn, str) or inspect.isclass(fn) and hasattr(fn, "rule_list"):
        name = fn if isinstance(fn, str) else fn.name
        if name not in primitives:
            raise KeyError(f"gradcheck({name!r}): no primitive of that name; there are {', '.join(sorted(primitives))}")
        samples = None if inputs is None else [tuple(x.data if isinstance(x, Tensor) else x for x in _listed(inputs))]
        notes = _check_dtypes(_leaves_of(primitives[name], samples[0]), force, False, settings) if samples else []
        report = check_primitive(primitives[name], samples, seed=seed, **settings)
        report.notes = notes
    else:
        with default_dtype(np.float64):
            report = _check_function(fn, inputs, mode, seed, force, names, settings)
    report.seconds = time.perf_counter() - start
    if raise_on_failure:
        report.raise_on_failure()
    return report


def gradcheck_registry(names=None, *, seed=0, raise_on_failure=True):
    """Check every primitive (or those in `names`) on its samples; returns a RegistryReport, a table with the worst first."""
    reports = {name: gradcheck(name, seed=seed, raise_on_failure=False) for name in names or sorted(primitives)}
    report = RegistryReport(reports)
    if raise_on_failure:
        report.raise_on_failure()
    return report


# ---- a primitive on its samples

def check_primitive(primitive, samples=None, *, seed=0, eps=1e-5, rtol=1e-6, atol=1e-8):
    """GradcheckReport of one Primitive class on `samples`, or on all it offers itself."""
    report = GradcheckReport(primitive.name)
    report.rows.extend(primitive_rows(primitive, samples, seed=seed, eps=eps, rtol=rtol, atol=atol))
    return report


def primitive_rows(primitive, samples=None, *, seed=0, eps=1e-5, rtol=1e-6, atol=1e-8):
    """Yield the rows of all checks of a primitive, sample by sample."""
    given = samples is not None
    if not given and not hasattr(primitive, "samples"):
        yield Row(primitive.name, (), status="uninformative", diagnosis="the primitive has no samples(rng): yield tuples of inputs to check it on")
        return
    informed = set()
    for number, sample in enumerate(samples if given else primitive.samples(np.random.default_rng(seed))):
        call = f"list(tl.primitives[{primitive.name!r}].samples(np.random.default_rng({seed})))[{number}]"
        rng = np.random.default_rng((seed, number))
        for row in _sample_rows(primitive, sample, eps, rtol, atol, rng):
            row.sample = row.sample or _describe(primitive, sample, None if given else number)
            row.rule = "" if row.ok else _rule(primitive, row.name)
            row.reproduce = "" if row.ok or given else f"tl.gradcheck({primitive.name!r}, {call})"
            if row.status == "ok" and row.entries:
                informed.add(row.name.split("[")[0])
            yield row
    for name in primitive.differentiable:
        if not given and name not in informed:
            yield Row(name, (), status="uninformative", diagnosis=f"no sample has a gradient by {name} that is not 0")


def _sample_rows(primitive, sample, eps, rtol, atol, rng):
    arrays, attributes = (sample[:-1], sample[-1]) if isinstance(sample[-1], dict) else (sample, {})
    names = leaf_names(primitive, len(arrays))
    function = primitive_function(primitive, arrays, attributes, names)
    with np.errstate(all="ignore"):
        rows = check_exact(function, eps=eps, rtol=rtol, atol=atol, rng=rng, floor=0)
        if primitive.analytic and all(row.ok for row in rows) and all(x.dtype == np.float64 for x in function.leaves.values()):
            rows += check_complex(primitive, arrays, attributes, names, function)
        for row in rows:
            if row.ok and row.entries and not row.test:
                _informative(row, function, eps)
        tied = _tied(primitive, arrays, attributes, names)
        if tied is not None and all(row.ok for row in rows):
            for row in check_exact(tied, eps=eps, rtol=rtol, atol=atol, rng=rng, floor=0):
                row.test = "f(x, x)"
                rows.append(row)
    return rows


def _informative(row, function, eps):
    largest = abs(row.numeric) if abs(row.numeric) >= INFORMATIVE else np.abs(function.numeric(row.name, eps)).max(initial=0)
    if largest == 0:
        row.status = "flat"
    elif largest < INFORMATIVE:
        row.status = "uninformative"
        row.diagnosis = f"the largest |dy/d{row.name}| is {largest:.2g}, below {INFORMATIVE:g}: a wrong rule could pass; use other values"


def _leaves_of(primitive, sample):
    arrays = [x for x in sample if not isinstance(x, dict)]
    return primitive_function(primitive, arrays, {}, leaf_names(primitive, len(arrays))).leaves


def _tied(primitive, arrays, attributes, names):
    """f(x, x), where an operation on two or more operands of one shape takes x for all of them."""
    if len(arrays) < 2 or any(name.split("[")[0] not in primitive.differentiable for name in names):
        return None
    first = np.asarray(arrays[0])
    if any(np.shape(a) != first.shape for a in arrays) or not first.size:
        return None
    x = Tensor(first, requires_grad=True, name="x")
    return Function(lambda: primitive.apply(*[x] * len(arrays), **attributes), {"x": x})


def _rule(primitive, name):
    if not primitive.rule_list:
        return "(none)"
    stem = name.split("[")[0]
    return primitive.rules[stem] if stem in primitive.rules else "; ".join(primitive.rules.values())


def _describe(primitive, sample, number):
    values = [f"{k}={v!r}" for k, v in sample[-1].items()] if isinstance(sample[-1], dict) else []
    shapes = [str(np.shape(x)) for x in sample if not isinstance(x, dict)]
    return ("" if number is None else f"sample {number}: ") + f"{primitive.name}({', '.join([*shapes, *values])})"


# ---- a function, a module, a method of a module

def _check_function(fn, inputs, mode, seed, force, names, settings):
    rng = np.random.default_rng(seed)
    module = next((m for m in (fn, getattr(fn, "__self__", None)) if hasattr(m, "named_parameters")), None)
    inputs = [] if inputs is None else _listed(inputs)
    call = fn.loss if module is fn and len(inputs) > 1 and hasattr(fn, "loss") else fn
    title = getattr(fn, "__qualname__", None) or type(fn).__name__
    arguments, leaves, others = _leaves(call, inputs, names)
    parameters = {n: p for n, p in module.named_parameters() if p.requires_grad} if module is not None else {}
    keep = [(p, p.grad, p.buffer) for p in parameters.values()]
    leaves = {**parameters, **leaves}
    notes = _check_dtypes(leaves, force, module is not None, settings)
    if not leaves:
        raise TypeError(f"gradcheck({title}): nothing to differentiate: give at least one floating-point array or a module with parameters")
    streams = generators_of(fn)
    mode = mode or ("exact" if module is None else "directional")
    function = Function(lambda: call(*arguments), leaves, others, streams)
    try:
        if not force and any(y.dtype != np.float64 for y in function.outputs()):
            raise TypeError(f"gradcheck({title}): all inputs are float64, and the output is not: something on the way casts to "
                            "single precision (.astype, a buffer); let it keep the dtype, or pass force=True")
        for p, _, _ in keep:
            p.grad = p.buffer = None    # the check's gradients go nowhere near an optimizer's
        if mode == "exact":
            with np.errstate(all="ignore"):
                rows = check_exact(function, rng=rng, floor=SENSITIVE, **settings)
        else:
            rows = check_directional(function, rng=rng, **settings)
        report = GradcheckReport(f"{title} ({mode})", rows, notes)
        if any(row.status == "wrong" for row in rows):
            located = locate(function, rng, settings)
            report.located = located.words
            for row in report.failures:
                row.rule = row.rule or located.rule
                row.diagnosis = located.diagnosis or row.diagnosis
        for row in report.failures:
            row.reproduce = _reproduce(title, inputs, seed, mode, row, settings["eps"])
        return report
    finally:
        for p, grad, buffer in keep:
            p.grad, p.buffer = grad, buffer
        for stream, state in function.streams:
            stream.set_state(state)


def _listed(inputs):
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]


def _leaves(call, inputs, names):
    """(arguments for the call, leaves among them, arrays among them that are not differentiated)."""
    arguments, leaves, others = [], {}, {}
    names = list(names) if names else _parameter_names(call, len(inputs))
    if len(names) != len(inputs):
        raise ValueError(f"gradcheck(names={names}): {len(names)} names for {len(inputs)} inputs")
    for name, x in zip(names, inputs):
        array = x.data if isinstance(x, Tensor) else np.asarray(x)
        if array.dtype.kind == "f":
            name = isinstance(x, Tensor) and x.name or name
            leaves[name] = Tensor(array, requires_grad=True, name=name)
            arguments.append(leaves[name])
        else:
            if isinstance(x, (np.ndarray, Tensor)):
                others[name] = array
            arguments.append(x)
    return arguments, leaves, others


def _parameter_names(call, count):
    try:
        parameters = inspect.signature(getattr(call, "forward", call)).parameters.values()
        found = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):
        found = []
    return found[:count] if len(found) >= count else [f"x{i}" for i in range(count)]


def _check_dtypes(leaves, force, is_module, settings):
    """Refuse single precision; with `force`, widen the settings to what it can do and say so."""
    short = [name for name, leaf in leaves.items() if leaf.dtype != np.float64]
    if not short:
        return []
    if not force:
        mend = ("build the model under `with tl.default_dtype(np.float64):`" if is_module else f"give {short[0]}.astype(np.float64)")
        raise TypeError(f"gradcheck: {short[0]} is {leaves[short[0]].dtype}, in which central differences are good to 1e-4 at best: "
                        f"{mend}, or pass force=True to check that loosely")
    settings.update(eps=max(settings["eps"], 1e-2), rtol=max(settings["rtol"], 1e-3), atol=max(settings["atol"], 2e-4))
    return [f"single precision in {', '.join(short[:3])}{', ...' if len(short) > 3 else ''}: accurate to 1e-4 at best, so eps was widened "
            f"to {settings['eps']:g}, rtol to {settings['rtol']:g} and atol to {settings['atol']:g}; float64 would tell 1e-6"]


def _reproduce(title, inputs, seed, mode, row, eps):
    """A line to run again, with the inputs spelled out where they are short."""
    arrays = [np.asarray(x.data if isinstance(x, Tensor) else x) for x in inputs]
    spelled = "[" + ", ".join(f"np.array({a.tolist()})" for a in arrays) + "]" if sum(a.size for a in arrays) <= 8 else "inputs"
    place = "" if row.index is None else f"   # {row.place}: (f(x + h) - f(x - h)) / 2h with h = {eps:g}"
    title = "fn" if "<" in title else title
    return f'tl.gradcheck({title}, {spelled}, mode="{mode}", seed={seed}){place}'
