"""Kernels: plain Python functions on arrays that are compiled when they are first called.

    @kernel("in2 out2")
    def double(x, y):
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                y[i, j] = x[i, j] + x[i, j]

The signature says what each argument is; there is one compiled version for float32 and one for float64:

    in1 in2 …       an array of the working precision with so many axes, in C order; it may be read-only
    out1 out2 …     the same, written to
    view4 / outview4    with any strides
    ids1 outids2    int64, in C order                   mask4    bool, any strides      byte2    int8, in C order
    number          a number of the working precision   int      a whole number, or a bool
    product         the compiled matrix product of ops/gemm_kernels.py

Importing a kernel costs nothing: numba is imported, and the function compiled or read from numba's cache on disk, at
the first call of each precision. `double.python` is the function itself. Kernels call one another, and the functions of
`vector_math.py`, by name.

What makes LLVM use vector instructions, each a factor of 2 to 5 where it is missed:

    error_model="numpy"         a division by zero gives Inf; as an exception it would be a branch in every loop
    loops that start at 0       over a slice (`row = x[i]`); an unknown start brings in negative indices
    `fastmath`                  a sum may be taken in any order ("reassoc"), a·b+c be one instruction ("contract"). Never the
                                flags that declare NaN or Inf impossible, or allow estimates ("arcp": 1/√Inf would be NaN)
    numbers of one precision    `x.dtype.type(0.5)`: a bare 0.5 is float64, and with it all that follows
"""

import functools
import os
import threading

import numpy as np

FASTMATH = {"reassoc", "contract", "nsz"}
_called = None                          # a list that takes note of calls; see `noting`
_ONE_AT_A_TIME = threading.RLock()      # two threads that need the same kernel: one compiles it, the other waits

PRECISIONS = {np.dtype(np.float32): "float32", np.dtype(np.float64): "float64"}


class Kernel:
    """A function and its compiled versions, by precision; calling it calls the version of the first array's precision."""

    def __init__(self, signature, function, fastmath):
        self.signature, self.python, self.fastmath = signature.split(), function, fastmath
        self.versions = {}
        functools.update_wrapper(self, function)

    def __call__(self, *arguments):
        dtype = arguments[0].dtype
        try:
            version = self.versions[dtype]
        except KeyError:
            version = self.compiled(dtype)
        return version(*arguments)

    def compiled(self, dtype):
        """The version for `dtype`, compiled now if it was not."""
        dtype = np.dtype(dtype)
        with _ONE_AT_A_TIME:
            if dtype not in self.versions:
                if dtype not in PRECISIONS:
                    raise TypeError(f"{self.__name__}: kernels compute in float32 and float64, not {dtype}")
                if _called is not None:
                    _called.append((self, dtype))
                    return lambda *arguments: None
                self.versions[dtype] = _compile(self, PRECISIONS[dtype])
            return self.versions[dtype]

    def cache_path(self):
        """The directory on disk that compiled versions are kept in; None where none can be written."""
        return _prepared(self).stats.cache_path

    def is_cached(self, dtype):
        """Whether the version for `dtype` is compiled, or can be read from disk."""
        if np.dtype(dtype) in self.versions:
            return True
        index = getattr(getattr(_prepared(self)._cache, "_cache_file", None), "_index_name", None)
        return index is not None and os.path.exists(os.path.join(self.cache_path(), index))

    @functools.cached_property
    def inner(self):
        """What other kernels call: numba compiles it into each of them."""
        from numba import njit
        return njit(nogil=True, error_model="numpy", fastmath=self.fastmath)(self.python)

    @property
    def _numba_type_(self):     # numba asks this of a global name that a kernel uses
        return self.inner._numba_type_

    def assembly(self, dtype=np.float32):
        """The machine code of one version, as text (compiled for the purpose: code from the cache cannot be read)."""
        return next(iter(_compile(self, PRECISIONS[np.dtype(dtype)], keep=False).inspect_asm().values()))


def kernel(signature, fastmath=FASTMATH):
    """Decorate a function that numba is to compile; see the module's text."""
    return lambda function: Kernel(signature, function, fastmath)


def product_type(number):
    """Numba's type of the compiled product of ops/gemm_kernels.py."""
    from numba import types
    matrix, result = types.Array(number, 4, "A", readonly=True), types.Array(number, 4, "A")
    return types.FunctionType(types.void(matrix, matrix, result, types.boolean))


def _type(code, number):
    from numba import types
    if code in ("number", "int"):
        return number if code == "number" else types.intp
    if code == "product":
        return product_type(number)
    kind, axes = code.rstrip("0123456789"), int(code.lstrip("abcdefghijklmnopqrstuvwxyz"))
    dtype = {"ids": types.int64, "mask": types.bool_, "byte": types.int8}.get(kind.removeprefix("out"), number)
    layout = "A" if kind in ("view", "outview", "mask") else "C"
    return types.Array(dtype, axes, layout, readonly=not kind.startswith("out"))


def _prepared(made, keep=True):
    """A kernel's function in numba's hands, with a place in the cache on disk if it is to be kept and there is one."""
    from numba import njit
    options = dict(nogil=True, error_model="numpy", fastmath=made.fastmath)
    try:
        return njit(cache=keep, **options)(made.python)
    except RuntimeError:                    # no directory to keep the cache in: compile in every process
        return njit(**options)(made.python)


def _compile(made, precision, keep=True):
    from numba import types
    from . import vector_math
    vector_math.register()
    signature = types.void(*(_type(code, getattr(types, precision)) for code in made.signature))
    version = _prepared(made, keep)
    version.compile(signature)
    version.disable_compile()               # other types are converted or refused, never compiled anew
    return version


class noting:
    """Inside, kernels that were not compiled yet do nothing, but are written down; gives the list of (kernel, dtype)."""

    def __enter__(self):
        global _called
        _called = []
        return _called

    def __exit__(self, *exception):
        global _called
        _called = None
