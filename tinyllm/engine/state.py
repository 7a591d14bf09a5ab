"""The engine's switches, one set per thread.

A thread that builds a graph has its own `no_grad`, its own default dtype, its own watchers and its own
creation counter, so that worker threads of a training step never disturb one another and every graph is
numbered from its own thread's count, in the order in which it was built.
"""

import contextlib
import itertools
import os
import threading

import numpy as np


class Switches:
    """One thread's switches."""

    __slots__ = ("grad", "fused", "dtype", "watchers", "next_index")

    def __init__(self):
        self.grad = True                        # record a graph
        self.fused = os.environ.get("TINYLLM_FUSED") != "0"     # fast kernels; False runs the definitions
        self.dtype = np.dtype(np.float32)       # what Python numbers become
        self.watchers = ()                      # see Watcher
        self.next_index = itertools.count().__next__


class State(threading.local):
    """`STATE.grad`, `STATE.fused`, ...: the switches of the thread that asks.

    A thread's first look makes it a set of its own. `Primitive.apply`, which asks for several at once, takes the
    whole set (`STATE.own`) in one look.
    """

    def __init__(self):
        self.own = Switches()


def _switch(name):
    return property(lambda self: getattr(self.own, name), lambda self, value: setattr(self.own, name, value))


for _name in Switches.__slots__:
    setattr(State, _name, _switch(_name))

STATE = State()


class switched:
    """Set one switch now; as a context manager, put the old value back on leaving."""

    def __init__(self, switch, value):
        self.switch, self.value = switch, value
        self.before = getattr(STATE, switch)
        setattr(STATE, switch, value)

    def __enter__(self):
        setattr(STATE, self.switch, self.value)
        return self

    def __exit__(self, *exception):
        setattr(STATE, self.switch, self.before)


class no_grad(contextlib.ContextDecorator):
    """Record no graph inside: `with tl.no_grad():` or `@tl.no_grad()`.

    >>> import tinyllm as tl
    >>> x = tl.Tensor([1.0, 2.0], requires_grad=True)
    >>> with tl.no_grad():
    ...     (x * x).requires_grad
    False
    """

    def _recreate_cm(self):
        return type(self)()         # a decorated function gets a fresh one for each call

    def __enter__(self):
        self.outer = (getattr(self, "outer", None), STATE.grad)    # a stack: one object may be entered twice
        STATE.grad = False
        return self

    def __exit__(self, *exception):
        self.outer, STATE.grad = self.outer


def default_dtype(dtype=None):
    """The dtype that Python numbers become: read it, set it, or set it for a `with` block.

    >>> import numpy as np, tinyllm as tl
    >>> tl.default_dtype().name
    'float32'
    >>> with tl.default_dtype(np.float64):
    ...     tl.Tensor([1.0, 2.0]).dtype.name
    'float64'
    """
    if dtype is None:
        return STATE.dtype
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        raise TypeError(f"default_dtype({dtype.name}): only floating point can be the default; "
                        "give np.float32 or np.float64")
    return switched("dtype", dtype)


def fused(on=True):
    """Choose kernels (`True`, the default) or the definitions they are held to (`False`).

    A setter and a context manager: `with tl.fused(False): ...` walks definitions.
    """
    return switched("fused", bool(on))


class Watcher:
    """Somebody who looks on while a graph is built and walked; the base class looks away.

    The anomaly check and the trace are watchers. Every argument is what the engine itself uses: look,
    do not change. A node is None where no graph is recorded.
    """

    def forward(self, node, primitive, inputs, attributes, output):
        """`output` (Tensor) = primitive(inputs), just computed."""

    def rule(self, node, position, g, gradient):
        """The rule of input `position` turned the incoming `g` into `gradient`."""

    def unbroadcast(self, node, position, before, after):
        """`before` was summed over broadcast axes (or cast) into `after`."""

    def accumulate(self, node, position, target, gradient, total):
        """`gradient` joined what had arrived at `target` (Node or leaf Tensor), giving `total`."""

    def free(self, node):
        """`node` will not be walked again; what it saved is let go."""

    def update(self, optimizer, name, parameter, stages):
        """An optimizer moved `parameter`; `stages` maps the names of its steps to arrays."""

    def __enter__(self):
        STATE.watchers = (*STATE.watchers, self)
        return self

    def __exit__(self, *exception):
        STATE.watchers = tuple(w for w in STATE.watchers if w is not self)
