"""What to say when shapes do not fit: the operation, the operands with names and shapes, the likely mend."""

import numpy as np

from .tensor import Tensor


SHOWN = 60      # characters of a setting that fit into a message


class ShapeError(ValueError):
    """Operands whose shapes do not go together."""


def explain(primitive, inputs, arrays, attributes, error):
    """An exception of the kind of `error` that names the operation and its operands."""
    operands = [f"{_name(primitive, inputs, i)} {np.shape(a)}" for i, a in enumerate(arrays)]
    joint = f" {primitive.symbol} " if hasattr(primitive, "symbol") else ", "
    settings = "".join(f", {k}={v!r}" for k, v in attributes.items() if len(repr(v)) < SHOWN)
    reason = None
    if isinstance(error, ValueError):
        reason = primitive.mend(inputs, *[np.shape(a) for a in arrays])
        if reason is None and len(arrays) > 1 and "broadcast" in str(error):
            reason = broadcast_hint(primitive, inputs, [np.shape(a) for a in arrays])
    kind = ShapeError if isinstance(error, ValueError) else type(error)
    return kind(f"{primitive.name}: {joint.join(operands)}{settings}: {reason or error}")


def _name(primitive, inputs, i):
    x = inputs[i]
    if isinstance(x, Tensor) and x.name:
        return x.name
    names = primitive.inputs
    return names[i] if i < len(names) and names[i] != primitive.variadic else f"{names[-1]}[{i - len(names) + 1}]"


def broadcast_hint(primitive, inputs, shapes):
    """Which axis does not fit, and the reshape that would make it fit if there is one."""
    for i, one in enumerate(shapes):
        for j, two in enumerate(shapes[:i]):
            for back in range(1, min(len(one), len(two)) + 1):
                n, m = one[-back], two[-back]
                if n != m and 1 not in (n, m):
                    hint = f"axis {-back} is {m} against {n}"
                    for k, (small, large) in ((i, (one, two)), (j, (two, one))):
                        if len(small) == 1 and small[0] in large[:-1]:
                            tail = len(large) - 1 - large.index(small[0])
                            return f"{hint}; did you mean {_name(primitive, inputs, k)}.reshape({small[0]}{', 1' * tail})?"
                    return f"{hint}; lengths must be equal, or one of them 1"
    return None
