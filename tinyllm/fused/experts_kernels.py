"""The experts' products in compiled code: one call for all experts, however many there are.

The matrices of the experts lie wherever the model keeps them, so a kernel gets their addresses. The product is that of
ops/gemm_kernels.py, and its address is handed over too: called by name it would be compiled once more into each kernel. A
few rows alone (a token being drawn) are multiplied row by row, for which nothing is packed.
"""

from functools import cache

import numpy as np

from ..ops import gemm_kernels
from . import memory
from .kernels import kernel
from .memory import array_at, product_at
from .vector_math import exp

FEW = 4         # rows that are multiplied one by one

memory.register()


@cache
def product_address(dtype):
    """Where the compiled product of this precision begins."""
    compiled = gemm_kernels.kernel(dtype.name)
    result = compiled.get_compile_result(compiled.nopython_signatures[0])
    return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)


@kernel("product view2 view2 outview2 int", fastmath=set())
def multiply(product, a, b, y, add):
    """y = a @ b, or with `add` y += a @ b."""
    product(a[None, None], b[None, None], y[None, None], add)


@kernel("product in2 in2 out2")
def map_rows(product, x, weight, y):
    """y = x Wᵀ"""
    if x.shape[0] > FEW:
        multiply(product, x, weight.T, y, False)
        return
    for r in range(x.shape[0]):
        row, out = x[r], y[r]
        for f in range(weight.shape[0]):
            line, total = weight[f], x.dtype.type(0)
            for c in range(line.size):
                total += line[c] * row[c]
            out[f] = total


@kernel("in2 ids1 int out2")
def gather(x, order, k, rows):
    """rows_r = x at row ⌊order_r / k⌋"""
    for r in range(order.size):
        row, out = x[order[r] // k], rows[r]
        for c in range(row.size):
            out[c] = row[c]


@kernel("in2 ids1 int out2")
def collect(rows, order, k, total):
    """total at row ⌊order_r / k⌋ += rows_r"""
    for r in range(order.size):
        row, out = rows[r], total[order[r] // k]
        for c in range(row.size):
            out[c] += row[c]


@kernel("in2 in2 ids1 ids1 ids2 int out2 out2 out2 int int")
def forward(x, gates, order, ends, addresses, product, gate, up, down, first, last):
    """Experts first to last: gate x and up x of their rows, and down of what these make, times the gate of the choice."""
    k, C, F = gates.shape[1], x.shape[1], gate.shape[1]
    one, product = x.dtype.type(1), product_at(product, x)
    for e in range(first, last):
        low, high = ends[e], ends[e + 1]
        places, a, b = order[low:high], gate[low:high], up[low:high]
        rows, hidden = np.empty((high - low, C), x.dtype), np.empty((high - low, F), x.dtype)
        gather(x, places, k, rows)
        map_rows(product, rows, array_at(addresses[e, 0], F * C, x).reshape((F, C)), a)
        map_rows(product, rows, array_at(addresses[e, 1], F * C, x).reshape((F, C)), b)
        for r in range(high - low):
            weight, a_row, b_row, out = gates[places[r] // k, places[r] % k], a[r], b[r], hidden[r]
            for f in range(F):
                out[f] = a_row[f] / (one + exp(-a_row[f])) * b_row[f] * weight
        map_rows(product, hidden, array_at(addresses[e, 2], F * C, x).reshape((C, F)), down[low:high])


@kernel("in2 in2 in2 ids1 ids1 ids2 int in2 in2 out2 out2 out3 int int")
def backward(g, x, gates, order, ends, addresses, product, gate, up, drows, dgates, dweights, first, last):
    """Experts first to last: the gradients of their rows (one for each choice), of their gates and of their matrices."""
    k, C, F = gates.shape[1], x.shape[1], gate.shape[1]
    one, product = x.dtype.type(1), product_at(product, x)
    for e in range(first, last):
        low, high = ends[e], ends[e + 1]
        n, places = high - low, order[low:high]
        rows, g_rows = np.empty((n, C), x.dtype), np.empty((n, C), x.dtype)
        da, db, hidden = np.empty((n, F), x.dtype), np.empty((n, F), x.dtype), np.empty((n, F), x.dtype)
        gather(x, places, k, rows)
        gather(g, places, k, g_rows)
        multiply(product, g_rows, array_at(addresses[e, 2], F * C, x).reshape((C, F)), hidden, False)
        for r in range(n):
            i, j = places[r] // k, places[r] % k
            weight, along, a_row, b_row, da_row, db_row, t = gates[i, j], one - one, gate[low + r], up[low + r], da[r], db[r], hidden[r]
            for f in range(F):
                a, b, dh = a_row[f], b_row[f], t[f]
                s = one / (one + exp(-a))
                silu = a * s
                along += dh * silu * b
                da_row[f] = dh * weight * b * s * (one + a * (one - s))
                db_row[f] = dh * weight * silu
                t[f] = silu * b * weight
            dgates[i, j] = along
        multiply(product, g_rows.T, hidden, dweights[e, 2].reshape((C, F)), False)
        multiply(product, da.T, rows, dweights[e, 0].reshape((F, C)), False)
        multiply(product, db.T, rows, dweights[e, 1].reshape((F, C)), False)
        multiply(product, da, array_at(addresses[e, 0], F * C, x).reshape((F, C)), drows[low:high], False)
        multiply(product, db, array_at(addresses[e, 1], F * C, x).reshape((F, C)), drows[low:high], True)
