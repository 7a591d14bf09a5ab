"""The compiled loop of a token: the draw is vectorised, what is not Python does what its Python says, threads wait for each other."""

import platform
import threading

import numpy as np
import pytest

from tinyllm.fused import choosing, eight_rows, memory
from tinyllm.fused.kernels import kernel
from tinyllm.fused.memory import array_at, bytes_at, fetch_add, nap, peek, put

x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for the instructions of x86")


@x86
def test_the_draw_is_vectorised():
    code = choosing.choose.assembly(np.float64)
    assert "divpd" in code and "maxpd" in code and ("fmadd213pd" in code or "mulpd" in code)


@kernel("in1 in1 int out1")
def dots(query, rows, step, out):
    eight_rows.eight_dots(query, rows, step, out)


@kernel("in1 in1 int out1")
def sums(shares, rows, step, y):
    eight_rows.add_eights(shares, rows, step, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [8, 24, 64])
def test_eight_rows_are_a_product_of_matrices(dtype, size):
    eight_rows.register()
    rng = np.random.default_rng(0)
    rows, query, shares = (rng.normal(size=n).astype(dtype) for n in ((17, size + 3), size, 17))
    scores, total = np.zeros(8, dtype), np.ones(size, dtype)
    dots(query, rows.reshape(-1), size + 3, scores)
    sums(shares, rows.reshape(-1), size + 3, total)
    tolerance = 50 * np.finfo(dtype).eps
    np.testing.assert_allclose(scores, rows[:8, :size] @ query, atol=tolerance)
    np.testing.assert_allclose(total, 1 + shares[:16] @ rows[:16, :size], atol=tolerance)
    dots.python(query, rows.reshape(-1), size + 3, scores)
    np.testing.assert_allclose(scores, rows[:8, :size] @ query, atol=tolerance)


@kernel("out1 int int")
def copied(out, numbers, bytes):
    x, small = array_at(numbers, out.size, out), bytes_at(bytes, out.size)
    for i in range(out.size):
        out[i] = x[i] * out.dtype.type(small[i])


@kernel("out1 int int")
def counting(out, address, times):
    for _ in range(times):
        fetch_add(address, 1)
    out[0] = peek(address)


def test_arrays_at_addresses():
    memory.register()
    x, small, out = np.array([1.5, 2.5]), np.array([-1, 3], np.int8), np.zeros(2)
    for function in (copied, copied.python):
        out[:] = 0
        function(out, x.ctypes.data, small.ctypes.data)
        assert out.tolist() == [-1.5, 7.5]


def test_counters_lose_nothing_between_threads():
    memory.register()
    cell, out = np.zeros(1, np.int64), np.zeros(1)
    counting(out, cell.ctypes.data, 0)
    several = [threading.Thread(target=counting, args=(np.zeros(1), cell.ctypes.data, 200_000)) for _ in range(3)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert cell[0] == 600_000


def test_in_python_they_are_what_they_say():
    cell = np.array([5], np.int64)
    assert fetch_add(cell.ctypes.data, 2) == 5 and peek(cell.ctypes.data) == 7
    put(cell.ctypes.data, 1)
    nap()
    assert cell[0] == 1
