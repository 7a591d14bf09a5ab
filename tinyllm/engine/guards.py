"""Arrays that backward will read are read-only until it has.

A rule such as `dL/da = g * b` reads `b` long after the forward pass. If somebody changed `b` in between, the
gradient would be wrong and nothing would say so. So a node locks what it saves (NumPy's own read-only flag);
a count for each array says how many nodes hold it, and the last of them unlocks. An array that was
read-only before is none of our business and stays so.
"""

import gc

from numpy import ndarray

counts = {}      # id(array) -> how many nodes hold it


def lock(saved, held):
    """Lock the arrays in `saved`; append to `held` those that `release` must be given back."""
    for array in saved:
        if type(array) is ndarray:
            key = id(array)
            if key in counts:
                counts[key] += 1
            elif array.flags.writeable:
                array.setflags(False)
                counts[key] = 1
            else:
                continue
            held.append(array)
        elif type(array) is tuple:      # a variadic input
            lock(array, held)
    return held


def release(held):
    """Undo one `lock`."""
    for array in held:
        key = id(array)
        if counts[key] > 1:
            counts[key] -= 1
        else:
            del counts[key]
            array.setflags(True)


def writable(tensor, by):
    """The tensor's array, if it may be written by the operation named `by`; else an error that names both."""
    array = tensor.data
    if not array.flags.writeable:
        what = tensor.name or f"a tensor of shape {tensor.shape}"
        if id(array) not in counts:
            raise ValueError(f"{by} would change {what}, whose array is read-only: give it a copy")
        raise RuntimeError(f"{by} would change {what}, which {' and '.join(_holders(array))} saved for backward: "
                           "call backward() first, or work under tl.no_grad()")
    return array


def _holders(array):
    """Names of the operations whose nodes hold `array`: a search of the heap, for an error message only."""
    from .primitive import Node
    nodes = [x for x in gc.get_objects() if type(x) is Node]
    return sorted({node.primitive.name for node in nodes if any(a is array for a in node.held or ())})
