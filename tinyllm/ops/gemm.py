"""Which code multiplies matrices: the kernel of `gemm_kernels.py`, or the BLAS that NumPy ships with.

    matmul_backend("numba")     float32 and float64 by this package's own kernel
    matmul_backend("blas")      np.matmul for everything
    matmul_backend("auto")      by shape (the default): `prefers_numba` is the rule, `tinyllm bench matmul` its figures

The kernel is compiled when it is first needed (one or two seconds a precision, afterwards read from a cache),
so this file imports neither numba nor the kernel: a program whose products all go to BLAS never pays for them.
Integers, complex numbers and every precision but those two always go to np.matmul.
"""

import os
from functools import cache, partial
from math import prod

import numpy as np

from ..engine import Deferred, threads

BACKENDS = ("numba", "blas", "auto")
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

SMALLEST_SIDE, SMALLEST_PRODUCT = 32, 2**18         # see `prefers_numba`
SHARED_PRODUCT = 2**25      # multiply-adds from which a product is shared among threads: some 0.3 ms, where waking one takes 0.05
PIECE = 64                  # rows or columns that a thread's share is a multiple of: whole tiles

blas_threads = int(os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
_chosen = "auto"


def backend():
    """The backend in force: "numba", "blas" or "auto".

    >>> with matmul_backend("blas"):
    ...     backend()
    'blas'
    """
    return _chosen


def set_backend(name):
    """Choose the backend by name for every product from now on, in all threads; ValueError for another name."""
    global _chosen
    if name not in BACKENDS:
        raise ValueError(f"no matmul backend is called {name!r}: choose one of {', '.join(BACKENDS)}")
    _chosen = name


class matmul_backend:
    """Choose the backend at once; as a context manager, put the former one back on leaving.

    >>> before = backend()
    >>> with matmul_backend("numba"):
    ...     backend()
    'numba'
    >>> backend() == before
    True
    """

    def __init__(self, name):
        self.former = backend()
        set_backend(name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        set_backend(self.former)


def matmul(a, b, out=None, add=False):
    """np.matmul by the kernel of this package, for operands of two axes or more.

    (..., M, K) @ (..., K, N) -> (..., M, N) in float32 or float64 (float64 if either is). Leading axes broadcast;
    operands may have any strides and are not copied. `out` receives the result and may overlap the operands; with `add`
    the product is added to what is there. Raises ValueError for shapes that do not fit and TypeError for any other dtype.

    >>> matmul(np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[1., 2.],
           [3., 4.]])
    """
    a, b = np.asarray(a), np.asarray(b)
    dtype = np.promote_types(a.dtype, b.dtype)
    if not (_is_float(a.dtype) and _is_float(b.dtype)):
        raise TypeError(f"matmul multiplies float32 and float64, not {a.dtype} by {b.dtype}: "
                        "convert with .astype, or use np.matmul")
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul takes (..., M, K) @ (..., K, N), not {a.shape} @ {b.shape}")
    batch = a.shape[:-2] if a.shape[:-2] == b.shape[:-2] else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*batch, a.shape[-2], b.shape[-1])
    if out is not None and (out.shape != shape or out.dtype != dtype):
        raise ValueError(f"out holds {out.dtype} {out.shape}; this product is {dtype} {shape}")
    direct = out is not None and _kernel_can_write(out) and not (np.may_share_memory(out, a) or np.may_share_memory(out, b))
    result, further = (out, add) if direct else (np.empty(shape, dtype), False)
    if a.shape[-1] == 0:
        if not further:
            result.fill(0)                          # a sum of nothing
    elif result.size:
        _multiply(_readable(a, dtype), _readable(b, dtype), result, further)
    if out is None or direct:
        return result
    if add:
        out += result
    else:
        out[...] = result
    return out


def _is_float(dtype):
    return dtype in FLOATS or dtype.newbyteorder("=") in FLOATS


def _multiply(a, b, out, add):
    """Give the kernel four axes: fold the batch into the rows where one matrix b serves them all, loop beyond four."""
    if b.ndim == 2 < a.ndim and a.flags.c_contiguous and out.flags.c_contiguous:
        a, out = a.reshape(-1, a.shape[-1]), out.reshape(-1, out.shape[-1])
    kernel = _kernel(out.dtype)
    if out.ndim == 2 and threads.num_threads() > 1 and out.size * a.shape[1] >= SHARED_PRODUCT:
        return _share(kernel, a, b, out, add)
    if out.ndim <= 4:
        return kernel(_four_axes(a), _four_axes(b), _four_axes(out), add)
    a, b = (np.broadcast_to(x, out.shape[:-2] + x.shape[-2:]) for x in (a, b))
    for i in np.ndindex(out.shape[:-4]):
        kernel(a[i], b[i], out[i], add)


def _share(kernel, a, b, out, add):
    """Cut the longer side of the product into a piece for each thread: every number is still the same sum in the same order."""
    count, across = threads.num_threads(), out.shape[1] >= out.shape[0]
    size = out.shape[across]
    bounds = [size * k // count // PIECE * PIECE for k in range(count)] + [size]

    def piece(low, high):
        left, right, part = (a, b[:, low:high], out[:, low:high]) if across else (a[low:high], b, out[low:high])
        kernel(_four_axes(left), _four_axes(right), _four_axes(part), add)

    threads.run([partial(piece, low, high) for low, high in zip(bounds, bounds[1:]) if low < high])


@cache
def _kernel(dtype):
    from .gemm_kernels import kernel                # numba's half second of import, paid at the first product
    return kernel(dtype.name)


def _kernel_can_write(x):
    return x.flags.aligned and x.strides[-1] == x.itemsize and x.flags.writeable


def _readable(x, dtype):
    return x.astype(dtype, copy=False) if x.flags.aligned else np.array(x, dtype)


def _four_axes(x):
    return x if x.ndim == 4 else x.reshape((1,) * (4 - x.ndim) + x.shape)


def dispatch(a, b, out=None, add=False):
    """a @ b with np.matmul's semantics (any dtype, 1-D operands too), by the backend in force.

    `out` receives the result; with `add` the product is added to what is there.

    >>> dispatch(np.array([1, 2]), np.array([3, 4]))
    np.int64(11)
    """
    if _chosen != "blas" and a.ndim >= 2 and b.ndim >= 2 and (_chosen == "numba" or prefers_numba(a.shape, b.shape)) and \
            a.dtype in FLOATS and b.dtype in FLOATS:
        return matmul(a, b, out, add)
    return np.add(out, np.matmul(a, b), out=out) if add else np.matmul(a, b, out=out)


def deferred(a, b):
    """a @ b for two matrices, computed where it is wanted: a `Deferred` gradient."""
    return Deferred((a.shape[0], b.shape[1]), a.dtype, partial(dispatch, a, b))


def prefers_numba(a_shape, b_shape, threads=None):
    """The rule of "auto": is the kernel the faster one for (..., M, K) @ (..., K, N)?

    Measured on Zen 5 (AVX-512), float32, BLAS on one thread: the kernel is slower below 32 in any of M, K, N
    (ratio 0.1 to 1.0: its tile is 8 × 32, and the rest of a tile is wasted work) and below some 2^18 multiply-adds in
    the whole batch (0.3 to 1.0: a call costs 3 µs more); above both it is 1.1 to 2.1 times as fast. A BLAS with several
    threads (`threads`; None means `blas_threads`) shares a product of more than 2^18 multiply-adds among them and
    keeps those; the slices of a batch that are smaller it computes on one.

    >>> prefers_numba((48, 64, 32), (48, 32, 64), threads=2), prefers_numba((512, 512), (512, 512), threads=1)
    (True, True)
    >>> prefers_numba((512, 512), (512, 512), threads=2), prefers_numba((1, 512), (512, 512), threads=1)
    (False, False)
    """
    rows, depth, columns = a_shape[-2], a_shape[-1], b_shape[-1]
    if depth < SMALLEST_SIDE or columns < SMALLEST_SIDE:
        return False                                # at once: most small products end here
    slices = max(prod(a_shape[:-2]), prod(b_shape[:-2]))
    if len(b_shape) == 2:
        rows, slices = rows * slices, 1             # `_multiply` folds the batch into the rows
    product = rows * depth * columns
    if rows < SMALLEST_SIDE or slices * product < SMALLEST_PRODUCT:
        return False
    return (blas_threads if threads is None else threads) == 1 or product <= SMALLEST_PRODUCT
