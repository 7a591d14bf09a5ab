"""Both sides of a gradient check: derivatives by walking back, and derivatives by trying.

`Function` holds what is checked, some leaves and a call that computes tensors from them, and can be asked for

    analytic     J[k, j] = ∂y_k/∂x_j by the walk, one walk from each output element (a one-hot cotangent)
    numeric      J[k, j] = (y_k(x + h e_j) - y_k(x - h e_j)) / 2h, central differences

A cotangent of ones would only ever see Σ_k J[k, j], which is 0 for softmax whatever its rule says. The
truncation error of a central difference falls with h², its rounding error grows with 1/h: about 1e-5 is best in
float64 and leaves 1e-10.
"""

import contextlib
import inspect

import numpy as np

from .random import Generator, default_generator
from .state import no_grad
from .tensor import Tensor


class Function:
    """`call()` returns a tensor or several, computed from `leaves` (name -> Tensor that requires a gradient).

    `others`: name -> array, those that are not differentiated but must not change either. Every evaluation starts from
    the same state of the random generators, so that a dropout mask is the same each time.
    """

    def __init__(self, call, leaves, others=None, streams=()):
        self.call, self.leaves, self.others = call, leaves, others or {}
        self.streams = [(stream, stream.get_state()) for stream in streams]

    def outputs(self):
        """The floating-point tensors that the call returns, as a list."""
        for stream, state in self.streams:
            stream.set_state(state)
        result = self.call()
        results = result if isinstance(result, (tuple, list)) else [result]
        tensors = [y for y in results if isinstance(y, Tensor) and y.dtype.kind == "f"]
        if not tensors:
            kinds = ", ".join(type(y).__name__ for y in results) or "nothing"
            raise TypeError(f"gradcheck: the function returned {kinds}; expected a floating-point Tensor, or a tuple with one")
        return tensors

    def at(self, name, array):
        """All outputs as one flat float64 vector, with `array` in the place of leaf `name`."""
        leaf = self.leaves[name]
        before, leaf.data = leaf.data, array
        try:
            return self.here()
        finally:
            leaf.data = before

    def here(self):
        """All outputs as one flat float64 vector."""
        with no_grad(), np.errstate(all="ignore"):
            return flat([y.data for y in self.outputs()])

    def along(self, name, direction):
        """The function of one number d that `at` gives at x + d · direction."""
        x = self.leaves[name].data
        return lambda d: self.at(name, (x + d * direction).astype(x.dtype))

    def pull(self, outputs, cotangents):
        """name -> dL/d(leaf) for L = Σ cotangent · output; a leaf that nothing reaches gets zeros."""
        for leaf in self.leaves.values():
            leaf.grad = None
        with np.errstate(all="ignore"):
            for y, g in zip(outputs, cotangents):
                if y.requires_grad:
                    y.backward(g, retain_graph=True)
        return {n: np.zeros_like(x.data) if x.grad is None else x.grad for n, x in self.leaves.items()}

    def analytic(self):
        """name -> Jacobian (elements of all outputs, elements of the leaf), by one walk an output element."""
        outputs = self.outputs()
        rows = {name: [] for name in self.leaves}
        for y in outputs:
            for k in range(y.size):
                g = np.zeros_like(y.data, order="C")
                g.flat[k] = 1
                for name, gradient in self.pull([y], [g]).items():
                    rows[name].append(gradient.ravel())
        return {name: np.array(r).reshape(len(r), self.leaves[name].size) for name, r in rows.items()}

    def numeric(self, name, eps):
        """Jacobian of the outputs by the leaf, by central differences on copies of its array."""
        x = self.leaves[name].data
        columns = []
        for j in range(x.size):
            up, down = x.copy(), x.copy()
            h = step(x.flat[j], eps)
            up.flat[j] += h
            down.flat[j] -= h
            width = float(up.flat[j]) - float(down.flat[j])     # read again: what rounding made of 2h
            columns.append((self.at(name, up) - self.at(name, down)) / width)
        return np.array(columns).T if columns else np.zeros((self.here().size, 0))

    def kinks(self, name, j, eps):
        """Which output elements have no slope where leaf element j is: a flat array of bools."""
        x = self.leaves[name].data
        unit = np.zeros(x.shape)
        unit.flat[j] = 1
        return kinked(self.along(name, unit), step(x.flat[j], eps))


def leaf_names(primitive, count):
    """Names of `count` inputs: a variadic input's are numbered."""
    names = list(primitive.inputs)
    if primitive.variadic:
        rest = names.pop()
        names += [f"{rest}[{i}]" for i in range(count - len(names))]
    return names[:count]


def primitive_function(primitive, arrays, attributes, names):
    """The Function of one application of a primitive: its differentiable floating-point inputs are leaves."""
    places, leaves, others = [], {}, {}
    for name, x in zip(names, arrays):
        array = np.asarray(x)
        if name.split("[")[0] in primitive.differentiable and array.dtype.kind == "f":
            leaves[name] = Tensor(array, requires_grad=True, name=name)
            places.append(leaves[name])
        else:
            others[name] = array
            places.append(x)
    return Function(lambda: primitive.apply(*places, **attributes), leaves, others)


def flat(arrays):
    """Arrays of any shapes as one float64 vector."""
    return np.concatenate([np.ravel(a).astype(np.float64) for a in arrays])


def step(x, eps):
    """The step of a central difference at the number x."""
    return eps * max(1.0, abs(float(x)))


def kinked(f, h):
    """Which elements of f, an array-valued function of one number, have a kink, a jump or the edge of their domain within h of 0.

    The slopes to the right and to the left of a smooth function differ by f''·h, so half the step halves
    the difference and a quarter quarters it. Beside a kink one of the two is otherwise.
    """
    center = f(0.0)
    around = [(f(d), f(-d), d) for d in (h, h / 2, h / 4)]
    with np.errstate(all="ignore"):
        far, near, nearest = [np.abs((right - center) / d - (center - left) / d) for right, left, d in around]
        steepest = np.maximum(np.abs(around[0][0] - center), np.abs(around[0][1] - center)) / h
        noise = 1e-8 + 400 * np.finfo(np.float64).eps * np.abs(center) / h
        smooth = (np.abs(near / far - 0.5) < 0.1) & (np.abs(nearest / far - 0.25) < 0.1)
        bent = (far > 1e-3 * steepest + noise) & ~smooth
    finite = np.isfinite([center, *(y for right, left, _ in around for y in (right, left))])
    return np.where(finite.all(axis=0), bent, finite.any(axis=0))


def complex_step(forward, arrays, i, attributes, h=1e-30):
    """Jacobian by input i of an analytic forward: Im f(x + ih) / h, which subtracts nothing and so loses nothing."""
    columns = []
    for j in range(np.size(arrays[i])):
        x = np.array(arrays[i], dtype=np.complex128)
        x.flat[j] += 1j * h
        y = forward(*arrays[:i], x, *arrays[i + 1:], **attributes)
        columns.append(np.ravel(np.imag(y)) / h)
    return np.array(columns).T


def generators_of(fn):
    """The generators that fn may draw from: the default one, and those that it, its modules or its closure hold."""
    owner = getattr(fn, "__self__", fn)
    cells = []
    for cell in getattr(fn, "__closure__", None) or ():
        with contextlib.suppress(ValueError):       # a name that is not bound yet
            cells.append(cell.cell_contents)
    modules = list(owner.modules()) if hasattr(owner, "modules") else [owner]
    for cell in cells:
        modules += list(cell.modules()) if hasattr(cell, "modules") and not inspect.isclass(cell) else []
    held = [v for m in modules for v in getattr(m, "__dict__", {}).values()]
    found = {id(g): g for g in [default_generator(), *cells, *held] if isinstance(g, Generator)}
    return list(found.values())
