"""Where a training step's memory and time go: `tinyllm train --profile`.

Everything is measured on the run's own model, batch and optimizer, after a step or two:

    parameters      the one buffer that all weights are views of
    gradients       a buffer of the same size for each shard (shards.py)
    optimizer       the arrays it keeps for each parameter
    activations     what the graph holds, just before the backward pass begins to free it: every array that a node has saved for
                    its rule, counted once, under the first operation that holds it. Views count as the array they show; the weights,
                    which rules read as well, are counted above
    time            from one operation to the next, forward, and from one rule to the next, backward, on one thread

The two looks cost two extra passes over one batch. The random streams are put back afterwards, so a run has the same bits
with and without them. What the sums leave out shows in the process's peak: the gradients in flight in the backward pass,
temporary arrays, the text, and the libraries themselves.
"""

import contextlib
import resource
import sys
import time
from collections import defaultdict
from types import SimpleNamespace

import numpy as np

from ..atomic import write_json
from ..engine import Node, Tensor, threads
from ..engine.state import Watcher

SMALL = 0.01        # operations with less than this share of the memory and of the time are shown in one line


def profile(trainer):
    """The memory (bytes) and times (seconds) of a training step of `trainer`, as a dict that JSON can hold."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    flats = trainer.shards.flats
    held = [array for state in trainer.optimizer.state for array in state.values() if isinstance(array, np.ndarray)]
    graphs = []
    with trainer.rehearsal():
        trainer.shards.before_backward = lambda loss: graphs.append(activations(loss, flats[0].data))
        try:
            trainer.own_share()
        finally:
            trainer.shards.before_backward = None
    with trainer.rehearsal(), one_thread(), Stopwatch() as watch:
        trainer.own_share()
    at_once = min(threads.num_threads(), len(flats))
    largest = sorted(graphs, key=lambda ops: -sum(size for size, _ in ops.values()))[:at_once]     # graphs that can be alive together
    ops = {}
    for name in dict.fromkeys([*(name for graph in largest for name in graph), *watch.forward_seconds]):
        size, arrays = np.sum([graph.get(name, (0, 0)) for graph in largest], axis=0).tolist()
        ops[name] = {"bytes": size, "arrays": arrays, "forward": watch.forward_seconds[name], "backward": watch.backward_seconds[name]}
    memory = {"parameters": flats[0].data.nbytes, "gradients": sum(flat.grad.nbytes for flat in flats),
              "optimizer": sum(array.nbytes for array in held), "activations": sum(op["bytes"] for op in ops.values())}
    return {"step": trainer.step, "shards": len(flats), "at_once": at_once, "memory": memory, "peak": peak,
            "ops": dict(sorted(ops.items(), key=lambda item: -item[1]["bytes"]))}


def profile_run(trainer):
    """Write `profile(trainer)` into the run directory as profile.json; returns it as a table."""
    measured = profile(trainer)
    write_json(trainer.run.path / "profile.json", measured)
    return table(measured)


@contextlib.contextmanager
def one_thread():
    """All work on the caller's thread inside."""
    before = threads.num_threads()
    threads.set_num_threads(1)
    try:
        yield
    finally:
        threads.set_num_threads(before)


def activations(loss, weights=None):
    """name of an operation -> (bytes, arrays) that the graph of `loss` holds for it; memory inside `weights` does not count.

    >>> import tinyllm as tl
    >>> x = tl.Tensor(np.zeros((4, 256), np.float32), requires_grad=True)
    >>> activations((x.exp() * x.exp()).sum())      # each exp needs its output, of which the product needs both
    {'exp': (8192, 2)}
    """
    seen, found = set(), defaultdict(lambda: (0, 0))
    for node in _nodes(loss):
        for array in _arrays((node.saved, node.attributes)):
            while isinstance(array.base, np.ndarray):
                array = array.base
            place = array.ctypes.data
            if place not in seen and not (weights is not None and 0 <= place - weights.ctypes.data < weights.nbytes):
                seen.add(place)
                size, count = found[node.primitive.name]
                found[node.primitive.name] = size + array.nbytes, count + 1
    return dict(found)


def _nodes(loss):
    """All nodes below `loss`, in the order of their creation."""
    nodes = {id(loss.node): loss.node}
    waiting = [loss.node]
    while waiting:
        for parent in waiting.pop().parents:
            if type(parent) is Node and id(parent) not in nodes:
                nodes[id(parent)] = parent
                waiting.append(parent)
    return sorted(nodes.values(), key=lambda node: node.index)


def _arrays(value):
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Tensor):
        yield value.data
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _arrays(item)
    elif isinstance(value, SimpleNamespace):        # what a fused operation's forward has kept for its rules
        yield from _arrays(tuple(vars(value).values()))


class Stopwatch(Watcher):
    """Seconds from one operation to the next, and from one node's rules to the next, by the operation's name."""

    def __init__(self):
        self.forward_seconds, self.backward_seconds = defaultdict(float), defaultdict(float)

    def __enter__(self):
        self._last = time.perf_counter()
        return super().__enter__()

    def forward(self, node, primitive, inputs, attributes, output):
        self._add(self.forward_seconds, primitive)

    def accumulate(self, node, position, target, gradient, total):
        self._add(self.backward_seconds, node.primitive)

    def _add(self, seconds, primitive):
        now = time.perf_counter()
        seconds[primitive.name] += now - self._last
        self._last = now


def table(measured):
    """What `profile` measured, as lines for a terminal."""
    ops, memory = measured["ops"], measured["memory"]
    shards = "" if measured["shards"] == 1 else f", of {measured['at_once']} of {measured['shards']} shards at once"
    notes = {"gradients": "" if measured["shards"] == 1 else f"a buffer for each of {measured['shards']} shards",
             "activations": f"held by the graph before the backward pass{shards}"}
    lines = [f"memory of a training step, measured after step {measured['step']}:"]
    lines += [f"  {name:<12} {_mb(size)}  {notes.get(name, '')}".rstrip() for name, size in memory.items()]
    lines += [f"  {'in all':<12} {_mb(sum(memory.values()))}", f"  {'peak':<12} {_mb(measured['peak'])}  of the process, with all that is not of the step",
              f"  {'operation':<21} {'activations':>12} {'arrays':>7} {'forward':>11} {'backward':>11}"]
    whole = np.maximum(1e-12, [sum(op[kind] for op in ops.values()) for kind in ("bytes", "forward", "backward")])
    rest = defaultdict(float)
    for name, op in ops.items():
        if max(op["bytes"] / whole[0], (op["forward"] + op["backward"]) / whole[1:].sum()) >= SMALL:
            lines.append(_row(name, op))
        else:
            for kind, value in op.items():
                rest[kind] += value
    if rest:
        lines.append(_row("all others", rest))
    lines.append(_row("in all", {kind: sum(op[kind] for op in ops.values()) for kind in ("bytes", "arrays", "forward", "backward")}))
    return "\n".join(lines)


def _mb(size):
    return f"{size / 1e6:9,.2f} MB"


def _row(name, op):
    return f"  {name:<21} {_mb(op['bytes'])} {op['arrays']:7,.0f} {op['forward'] * 1e3:8,.2f} ms {op['backward'] * 1e3:8,.2f} ms"
