"""Arrays that backward will read are read-only until it has.

A rule such as `dL/da = g * b` reads `b` long after the forward pass. If somebody changed `b` in between, the
gradient would be wrong and nothing would say so. So a node locks what it saves (NumPy's own read-only flag);
a count for each array says how many nodes hold it, and the last of them unlocks. An array that was
read-only before is none of our business and stays so.

A view is locked together with the array whose memory it shows. What NumPy leaves open: another view, taken before,
keeps its own flag; and a view taken while its base is locked is read-only for good.
"""

import gc

from numpy import ndarray

counts = {}      # id(array) -> how many nodes hold it
followers = {}   # id(array) -> views of it that no node holds any more, but that cannot be unlocked before it is


def lock(saved):
    """Lock the arrays in `saved`, each base before its view.

    Between the look at an array and the note of it in `counts` nothing is called, so no other thread comes between.
    """
    for array in saved:
        if type(array) is ndarray:
            if array.base is not None:
                lock((array.base,))
            key = id(array)
            if array.flags.writeable:
                counts[key] = 1
                array.setflags(False)
            elif key in counts:
                counts[key] += 1
        elif type(array) is tuple:      # a variadic input
            lock(array)


def release(saved):
    """Undo one `lock`."""
    for array in saved:
        if type(array) is ndarray:
            if array.base is not None:
                release((array.base,))
            key = id(array)
            if key in counts:
                if counts[key] > 1:
                    counts[key] -= 1
                else:
                    del counts[key]
                    try:
                        array.setflags(True)
                    except ValueError:      # NumPy: a view is not writable while its base is not
                        _follow(array)
                    if followers:
                        _unlock_followers(key)
        elif type(array) is tuple:
            release(array)


def _follow(view):
    """Let `view` be unlocked together with its base."""
    if id(view.base) in counts:
        counts[id(view)] = 0
        followers.setdefault(id(view.base), []).append(view)


def _unlock_followers(key):
    for view in followers.pop(key, ()):
        if counts.get(id(view)) == 0:      # else another node has locked it meanwhile
            del counts[id(view)]
            view.setflags(True)


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
    return sorted({node.primitive.name for node in nodes if _holds(node.saved or (), array)})


def _holds(saved, array):
    return any(x is array or type(x) is ndarray and x.base is array or type(x) is tuple and _holds(x, array) for x in saved)
