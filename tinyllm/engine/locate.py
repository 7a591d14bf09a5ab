"""Which operation is to blame: record what a failing function computes, and check each operation on its own arrays."""

from dataclasses import dataclass

import numpy as np

from .anomaly import calling_line
from .differences import leaf_names, primitive_function
from .directional import check_directional
from .exact import check_exact
from .state import Watcher
from .tensor import Tensor

EXACT = 4096        # up to so many elements of the Jacobian it is compared in full


@dataclass
class Located:
    """The first operation whose own rule fails: in words, the text of its rule, and what is wrong with it."""

    words: str
    rule: str = ""
    diagnosis: str = ""


class _Recorder(Watcher):
    """Notes every recorded operation with the arrays it was given."""

    def __init__(self):
        self.calls = []

    def forward(self, node, primitive, inputs, attributes, output):
        if node is not None:
            arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
            names = [getattr(x, "name", None) for x in inputs]
            self.calls.append((primitive, arrays, dict(attributes), names, output.shape, calling_line()))


def locate(function, rng, settings):
    """Bisect a failing `Function`: `Located`, the first operation whose rule disagrees with its forward there."""
    recorder = _Recorder()
    with recorder:
        outputs = function.outputs()
    del outputs
    for number, (primitive, arrays, attributes, names, shape, line) in enumerate(recorder.calls):
        row = _check_call(primitive, arrays, attributes, rng, settings)
        if row is not None:
            shapes = ", ".join(f"{name or ''}{np.shape(a)}" for name, a in zip(names, arrays))
            at = f", called at {line}" if line else ""
            rule = primitive.rules.get(row.name.split("[")[0], "")
            return Located(f"first operation whose own rule fails: {primitive.name}({shapes}) -> {shape}, number {number + 1} of "
                           f"{len(recorder.calls)}{at}\n  d/d{row.name} = {rule}\n  {row.diagnosis}", rule, row.diagnosis)
    return Located(f"each of the {len(recorder.calls)} recorded operations agrees with its own rule: the gradient is lost between "
                   "them; look for .detach(), .numpy(), .data or no_grad on the way")


def _check_call(primitive, arrays, attributes, rng, settings):
    """The row that fails for one recorded operation, or None."""
    call = primitive_function(primitive, arrays, attributes, leaf_names(primitive, len(arrays)))
    inputs = sum(leaf.size for leaf in call.leaves.values())
    with np.errstate(all="ignore"):
        if inputs * call.here().size <= EXACT:
            rows = check_exact(call, rng=rng, floor=0, **settings)
        else:
            rows = check_directional(call, rng=rng, **settings)
    return next((row for row in rows if row.status == "wrong"), None)
