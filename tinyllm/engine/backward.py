"""The backward walk: from one tensor to the leaves it was computed from.

Every node has a creation index larger than those of the nodes it was made from, so walking the reachable nodes
from the highest index to the lowest meets each node after everything that used it. No recursion: a chain
of 100,000 operations is a list of 100,000 nodes. At each node

    1. each needed rule turns the incoming g = dL/dy into dL/d(input);
    2. the walk sums it over the axes along which the input was broadcast, and casts it to the input's dtype;
    3. it is added to what has already arrived at that input: y = f(x) + h(x)  ⇒  dx = f'ᵀg + h'ᵀg;
    4. the node lets go of what it saved, so memory falls while the walk proceeds.

Leaves accumulate into `.grad` across calls, as in PyTorch. A rule may return a `Deferred` gradient, which is then computed
straight into the place of a leaf's.
"""

import operator
import sys

import numpy as np
from numpy import ndarray

from .deferred import Deferred
from .primitive import Node
from .state import STATE
from .tensor import Tensor, as_array


_creation = operator.attrgetter("index")
_EXPECTED = object()      # `g` of a node that the walk will reach and where nothing has arrived yet


def unbroadcast(gradient, shape):
    """Sum `gradient` over the axes along which an input of `shape` was broadcast.

    >>> unbroadcast(np.ones((2, 3)), (3,))
    array([2., 2., 2.])
    """
    lead = gradient.ndim - len(shape)
    axes = (*range(lead), *(lead + i for i, n in enumerate(shape) if n == 1 and gradient.shape[lead + i] != 1))
    return gradient.sum(axis=axes).reshape(shape)


def _stretches(small, large):
    """Whether an array of shape `small` is broadcast to exactly `large`."""
    lead = len(large) - len(small)
    return lead >= 0 and all(n in (1, m) for n, m in zip(small, large[lead:]))


def backward(root, grad=None, retain_graph=False):
    """Walk the graph of `root` and leave d(root)/d(leaf) in `.grad` of every leaf that requires it.

    `root`: a Tensor that requires a gradient (as a method, the tensor itself); `grad`: the incoming cotangent dL/d(root),
    of root's shape, which may be left out if root has one element; `retain_graph`: keep the graph for another call.
    Raises ValueError for a missing or misshapen `grad`, RuntimeError if the graph is gone.
    """
    if not root.requires_grad:
        raise RuntimeError(f"backward() on {_called(root)}, which requires no gradient: none of the tensors it was computed "
                           "from has requires_grad=True, or it was computed under no_grad()")
    if grad is None:
        if root.data.size != 1:
            raise ValueError(f"backward() on {_called(root)}: only a scalar has an obvious gradient of 1; "
                             "reduce it first (loss.mean()), or give backward(grad) an array of this shape")
        g = np.ones_like(root.data)
    else:
        g = grad if type(grad) is ndarray else as_array(grad)
        if g.shape != root.data.shape:
            raise ValueError(f"backward(grad): grad has shape {g.shape}, {_called(root)} was expected")
        if g.dtype is not root.data.dtype:
            g = g.astype(root.data.dtype, copy=False)
    if root.node is None:
        _leave(root, g, None)
        return
    watchers = STATE.own.watchers
    nodes = [root.node]
    try:
        _reach(nodes)
        root.node.g = g
        while nodes:
            node = nodes.pop()
            _visit(node, watchers)
            if not retain_graph:
                node.release()
                for watcher in watchers:
                    watcher.free(node)
    finally:
        for node in nodes:      # only after an error: nothing half done is left in the graph
            node.g = None


def _reach(nodes):
    """Complete `nodes`, the root, by all nodes below it, in the order of their creation."""
    nodes[0].g = _EXPECTED
    for node in nodes:      # grows while it is walked
        if node.parents is None:
            raise RuntimeError("backward() through a graph that an earlier backward() has freed: run the forward pass "
                               "again, or call backward(retain_graph=True) the first time")
        for parent in node.parents:
            if type(parent) is Node and parent.g is None:
                parent.g = _EXPECTED
                nodes.append(parent)
    if len(nodes) > 1:
        nodes.sort(key=_creation)


def _visit(node, watchers):
    """Call the node's rules; bring each result into its input's shape and dtype and add it to what arrived before."""
    g, node.g = node.g, None
    if node.retain is not None:
        tensor = node.retain()
        if tensor is not None:
            tensor.grad = g.copy() if tensor.grad is None else tensor.grad + g
    plan = node.plan
    for position, parent, gradient in zip(plan.positions, node.parents, plan.pull(g, node.saved, node.attributes)):
        if type(gradient) is not ndarray:
            if type(gradient) is Deferred and not watchers and _fill(parent, gradient):
                continue
            gradient = np.asarray(gradient)
        if watchers:
            for watcher in watchers:
                watcher.rule(node, position, g, gradient)
        inner = type(parent) is Node
        target = parent if inner else parent.data
        if gradient.shape != target.shape or gradient.dtype is not target.dtype and gradient.dtype != target.dtype:
            before, gradient = gradient, _fit(node, position, gradient, target)
            for watcher in watchers:
                watcher.unbroadcast(node, position, before, gradient)
        if not inner:
            total = _leave(parent, gradient, g)
        elif parent.g is _EXPECTED:
            total = parent.g = gradient
        else:
            total = _add(parent, gradient)
        if watchers:
            for watcher in watchers:
                watcher.accumulate(node, position, parent, gradient, total)


def _fit(node, position, gradient, target):
    if gradient.shape != target.shape:
        if _stretches(target.shape, gradient.shape):
            gradient = unbroadcast(gradient, target.shape)
        else:
            inputs = node.primitive.inputs
            name = inputs[min(position, len(inputs) - 1)]
            raise ValueError(f"{node.primitive.name}.grad_{name} returned shape {gradient.shape} for an input of shape {target.shape}: "
                             "a rule returns dL/d(input), in the input's shape or in the shape it was broadcast to")
    return gradient.astype(target.dtype, copy=False)


def _add(node, gradient):
    """node.g + gradient, in place where the walk alone knows node.g.

    One gradient may be on its way to several inputs (`y = a + b` gives both the same), and a watcher or the caller may
    hold it: so it is overwritten only if nothing but the node refers to it (the second reference is getrefcount's own).
    """
    if sys.getrefcount(node.g) == 2 and node.g.base is None and node.g.flags.writeable:
        node.g += gradient
    else:
        node.g = node.g + gradient
    return node.g


def _fill(leaf, deferred):
    """Have a gradient computed into the buffer of a leaf that has one; whether that was possible."""
    if type(leaf) is Node or leaf.buffer is None or leaf.grad is not None and leaf.grad is not leaf.buffer or \
            deferred.shape != leaf.shape or deferred.dtype != leaf.dtype:
        return False
    deferred.fill(leaf.buffer, leaf.grad is not None)
    leaf.grad = leaf.buffer
    return True


def _leave(leaf, gradient, g):
    """Add to a leaf's `.grad`, in memory that belongs to the leaf alone."""
    if leaf.grad is not None:
        leaf.grad += gradient
    elif leaf.buffer is not None:
        np.copyto(leaf.buffer, gradient)
        leaf.grad = leaf.buffer
    elif gradient is g or g is None or gradient.base is not None or not gradient.flags.writeable:
        leaf.grad = gradient.copy()
    else:
        leaf.grad = gradient
    return leaf.grad


def _called(tensor):
    name = f"{tensor.name} " if tensor.name else ""
    made = f" (from {tensor.node.primitive.name})" if tensor.node is not None else ""
    return f"{name}a tensor of shape {tensor.shape}{made}" if not name else f"{name}{tensor.shape}{made}"


Tensor.backward = backward
