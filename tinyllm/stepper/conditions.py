"""What the stepper asks of single steps: does a breakpoint stop here, and how far is another trace from this one?"""

import numpy as np

from .arrays import entry, short
from .explain import totals_of


def breakpoint_of(trace, text):
    """A function step -> bool for a breakpoint in words: an operation, a tensor, `nan`, or `|g| > 0.1`."""
    words = text.replace(" ", "")
    if words.startswith("|g|>"):
        try:
            limit = float(words[4:])
        except ValueError:
            raise ValueError(f"{text!r}: a number is expected behind |g| >") from None
        return lambda step: getattr(step, "kind", "") == "rule" and _norm(trace.arrays[step.g]) > limit
    if words.lower() == "nan":
        return lambda step: any(p is not None and _bad(trace.arrays[p]) for p in _places(trace, step))
    value = trace.find(text)
    if value is not None:
        return lambda step: not isinstance(step, str) and value.id in (step.value, step.target)
    if text in trace.ops:
        return lambda step: step.rsplit("_", 1)[0] == text if isinstance(step, str) else trace[step.value].op == text and step.kind != "norms"
    raise ValueError(f"{text!r} is no operation and no tensor of this trace; or write nan, or |g| > 0.1")


def _places(trace, step):
    if isinstance(step, str):
        return ()
    return (step.g, step.gradient, trace[step.value].array if step.kind == "forward" else None)


def _norm(array):
    return array.stats.get("norm", 0.0) if hasattr(array, "stats") else float(np.linalg.norm(array.astype(np.float64)))


def _bad(array):
    stats = getattr(array, "stats", None)
    return bool(stats["nan"]) if stats else bool(np.isnan(array).any()) if array.dtype.kind == "f" else False


def difference(trace, other, shown):
    """The largest difference between what is shown and the value or gradient of the same name in another trace."""
    if shown.target is None:
        return "nothing here has a counterpart"
    twin = other.find(shown.target.name)
    if twin is None:
        return f"the other trace has no {shown.target.name}"
    if shown.phase == "forward":
        mine, theirs, name = trace.array(shown.target), other.array(twin), shown.target.name
    else:
        place, twin_place = totals_of(trace).get(shown.target.id), totals_of(other).get(twin.id)
        if place is None or twin_place is None:
            return f"dL/d{shown.target.name} is not in both traces"
        mine, theirs, name = trace.arrays[place], other.arrays[twin_place], f"dL/d{shown.target.name}"
    if not (isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray)):
        return f"{name} was not kept in both traces"
    if mine.shape != theirs.shape:
        return f"{name}: {mine.shape} here, {theirs.shape} in the other trace"
    gap = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))
    gap = np.where(mine == theirs, 0, gap)
    at = tuple(map(int, np.unravel_index(int(np.nan_to_num(gap, nan=np.inf).argmax()), gap.shape))) if gap.size else ()
    size = float(np.abs(mine).max(initial=0)) or 1.0
    return (f"{name}, complete: {mine.dtype} here, {theirs.dtype} in the other; largest difference {short(float(gap[at]) if gap.size else 0.0)} at "
            f"{entry(at) or 'the scalar'} ({short(float(gap.max(initial=0)) / size)} of the largest entry)")
