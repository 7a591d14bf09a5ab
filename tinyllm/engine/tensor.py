"""The tensor: a NumPy array that remembers how it was made.

A `Tensor` holds an array (`data`), maybe a gradient (`grad`), and, where it was computed from tensors
that want gradients, the `Node` of the graph that made it. The arithmetic itself lives in `tinyllm.ops`,
which hangs its functions on this class as operators and methods (`tinyllm/ops/methods.py`).

    >>> import tinyllm as tl
    >>> x = tl.Tensor([1.0, 2.0, 3.0], requires_grad=True, name="x")
    >>> loss = (x * x).sum()
    >>> loss.backward()
    >>> x.grad
    array([2., 4., 6.], dtype=float32)
"""

import weakref

import numpy as np

from .state import STATE

_OPERATORS = {    # the ufuncs behind `array <operator> tensor`, and the tensor method that answers each
    np.add: "__radd__", np.subtract: "__rsub__", np.multiply: "__rmul__", np.divide: "__rtruediv__",
    np.power: "__rpow__", np.matmul: "__rmatmul__", np.less: "__gt__", np.less_equal: "__ge__",
    np.greater: "__lt__", np.greater_equal: "__le__", np.equal: "__eq__", np.not_equal: "__ne__",
}


def as_array(data):
    """`data` as an ndarray: arrays keep their dtype, Python floats take the default one."""
    if isinstance(data, Tensor):
        return data.data
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
    else:
        items = data
        while isinstance(items, (list, tuple)) and items and isinstance(items[0], (list, tuple)):
            items = [x for row in items for x in row]
        if isinstance(items, (list, tuple)) and any(isinstance(x, Tensor) for x in items):
            raise TypeError("Tensor of a list of tensors: use tl.ops.stack(list) to join them in the graph")
        typed = isinstance(items, (list, tuple)) and any(isinstance(x, (np.ndarray, np.generic)) for x in items)
        array = np.asarray(data)
        if array.dtype == np.float64 and not typed:
            array = array.astype(STATE.dtype)
    if array.dtype.kind not in "fiubc":
        raise TypeError(f"Tensor of dtype {array.dtype}: numbers are expected (float, int or bool)")
    return array


class Tensor:
    """An array with an optional gradient.

    Parameters: `data`, an array (kept as it is, dtype and memory) or Python numbers (floats take
    `tl.default_dtype()`); `requires_grad`, whether `backward` should leave `.grad` here; `name`, what
    errors, traces and pictures call it. Integers carry no gradient (TypeError).
    """

    __slots__ = ("data", "grad", "requires_grad", "name", "node", "buffer", "__weakref__")
    __hash__ = object.__hash__      # `==` compares elements; a tensor is itself in sets and dicts

    def __init__(self, data, requires_grad=False, name=None):
        data = as_array(data)
        if requires_grad and data.dtype.kind != "f":
            raise TypeError(f"a tensor of dtype {data.dtype.name} cannot require a gradient: "
                            "only floating point can; write 3.0 for 3, or convert with .astype(np.float32)")
        self.data = data
        self.grad = None
        self.requires_grad = bool(requires_grad)
        self.name = name
        self.node = None        # the operation that made it; None for a leaf
        self.buffer = None      # where a leaf's gradient is to be written, e.g. a view of one flat array

    shape = property(lambda self: self.data.shape, doc="lengths of the axes")
    dtype = property(lambda self: self.data.dtype, doc="NumPy dtype of the elements")
    ndim = property(lambda self: self.data.ndim, doc="number of axes")
    size = property(lambda self: self.data.size, doc="number of elements")
    is_leaf = property(lambda self: self.node is None, doc="made by hand, not computed by recorded operations")

    def retain_grad(self):
        """Ask for `.grad` on a tensor that is not a leaf."""
        if not self.requires_grad:
            raise RuntimeError("retain_grad on a tensor that requires no gradient: nothing will arrive here; "
                               "make it from a tensor with requires_grad=True")
        if self.node is not None:
            self.node.retain = weakref.ref(self)
        return self

    def detach(self):
        """The same array, outside the graph."""
        return Tensor(self.data, name=self.name)

    def numpy(self):
        """The array itself (not a copy)."""
        return self.data

    def item(self):
        """The only element, as a Python number."""
        if self.data.size != 1:
            raise ValueError(f"item() needs one element; this tensor has shape {self.shape}: "
                             "index it first, or use .numpy()")
        return self.data.item()

    def copy_(self, values, by="copy_"):
        """Write `values` into this tensor's own memory; refused while a graph still needs the old ones."""
        from .guards import writable
        values = as_array(values)
        target = writable(self, by)
        try:
            target[...] = values
        except ValueError:
            raise ValueError(f"{by}: values of shape {values.shape} do not fit "
                             f"{self.name or 'a tensor'} {self.shape}") from None
        return self

    def __len__(self):
        if self.data.ndim == 0:
            raise TypeError("len() of a tensor without axes; its one value is .item()")
        return self.data.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        if self.data.size != 1:
            raise ValueError(f"the truth of a tensor of shape {self.shape} is ambiguous: "
                             "use .numpy().any() or .numpy().all()")
        return bool(self.data)

    __float__ = lambda self: float(self.item())
    __int__ = lambda self: int(self.item())

    def __index__(self):
        if self.data.dtype.kind not in "iu":
            raise TypeError(f"only an integer tensor can be an index; this one is {self.dtype.name}")
        return int(self.item())

    def __repr__(self):
        body = np.array2string(self.data, separator=", ", prefix="Tensor(", threshold=60, edgeitems=2)
        parts = [body, f"shape={self.shape}", f"dtype={self.dtype.name}"]
        if self.name:
            parts.append(f"name={self.name!r}")
        if self.node is not None:
            parts.append(f"from={self.node.primitive.name}")
        elif self.requires_grad:
            parts.append("requires_grad=True")
        return f"Tensor({', '.join(parts)})"

    def __deepcopy__(self, memo):
        if self.node is not None:
            raise RuntimeError("deepcopy of a tensor inside a graph: copy leaves, or .detach() it first")
        twin = Tensor(self.data.copy(), self.requires_grad, self.name)
        twin.grad = None if self.grad is None else self.grad.copy()
        memo[id(self)] = twin
        return twin

    # How NumPy meets a tensor: `array * tensor` is a Tensor, everything else explains itself.

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method == "__call__" and not kwargs and ufunc in _OPERATORS and not isinstance(inputs[0], Tensor):
            return getattr(inputs[1], _OPERATORS[ufunc])(inputs[0])
        if "out" in kwargs:
            raise TypeError(f"np.{ufunc.__name__} cannot write a tensor's result into an array: "
                            "write array = array + tensor, or use tensor.numpy()")
        raise TypeError(_explain(ufunc.__name__))

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(_explain(function.__name__))

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad:
            raise TypeError("NumPy would leave the graph with a tensor that requires a gradient: "
                            "call .numpy() (or .detach()) to do that on purpose")
        return np.array(self.data, dtype=dtype, copy=copy)


def _explain(name):
    from .primitive import primitives
    name = {"true_divide": "divide", "negative": "negate", "absolute": "abs", "amax": "max", "amin": "min",
            "float_power": "power", "fabs": "abs"}.get(name, name)
    if name in primitives:
        method = f" or tensor.{name}()" if hasattr(Tensor, name) else ""
        return f"np.{name} does not know the graph: call tl.ops.{name}(tensor){method}; np.{name}(tensor.numpy()) leaves the graph"
    return f"np.{name} does not know the graph, and tinyllm has no {name}: call np.{name}(tensor.numpy()) to leave the graph"
