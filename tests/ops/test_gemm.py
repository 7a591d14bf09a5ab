"""The matmul kernel: held to exact integers, to the textbook bound on rounding, and to np.matmul's semantics."""

import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tinyllm.engine import threads
from tinyllm.ops import gemm, gemm_kernels, gemm_vectors

DTYPES = [np.float32, np.float64]
LAYOUTS = ["NN", "NT", "TN", "TT"]


def laid_out(x, transposed):
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) if transposed == "T" else x


def assert_within_rounding(c, a, b):
    """|c - ab| <= γ |a||b| with γ = K u / (1 - K u): Higham, Accuracy and Stability (2002), equation 3.13.

    It holds for the sum in any order, fused multiply-adds or not. The reference is computed in higher precision.
    """
    wide = np.float64 if c.dtype == np.float32 else np.longdouble
    roundings = a.shape[-1] * np.finfo(c.dtype).eps / 2
    a, b = a.astype(wide), b.astype(wide)
    assert c.shape == (a @ b).shape
    assert np.all(np.abs(c - a @ b) <= roundings / (1 - roundings) * (np.abs(a) @ np.abs(b)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_integers_come_out_exact_at_every_size_near_the_tile(dtype, layout):
    rng = np.random.default_rng(0)
    for rows in (1, 2, 5, 7, 8, 9, 12, 13, 17):
        for columns in (1, 3, 4, 15, 16, 17, 31, 32, 33, 47, 65):
            for depth in (1, 2, 3, 4, 5, 11):
                a, b = rng.integers(-9, 10, (rows, depth)), rng.integers(-9, 10, (depth, columns))
                c = gemm.matmul(laid_out(a.astype(dtype), layout[0]), laid_out(b.astype(dtype), layout[1]))
                assert c.dtype == dtype and np.array_equal(c, a @ b), (rows, depth, columns)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_integers_come_out_exact_over_several_blocks(dtype, layout):
    rng = np.random.default_rng(1)
    a, b = rng.integers(-9, 10, (301, 1100)), rng.integers(-9, 10, (1100, 1037))
    c = gemm.matmul(laid_out(a.astype(dtype), layout[0]), laid_out(b.astype(dtype), layout[1]))
    exact = a.astype(np.float64) @ b.astype(np.float64)       # 1100 · 81 < 2^24: every partial sum is exact, also in float32
    assert np.array_equal(c, exact)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rounding_stays_within_the_bound_at_random_sizes(dtype, layout):
    rng = np.random.default_rng(2)
    for _ in range(25):
        rows, depth, columns = rng.integers(1, 160, 3)
        a = laid_out(rng.normal(size=(rows, depth)).astype(dtype), layout[0])
        b = laid_out(rng.normal(size=(depth, columns)).astype(dtype), layout[1])
        assert_within_rounding(gemm.matmul(a, b), a, b)


@pytest.mark.parametrize("a_batch, b_batch", [
    ((3,), (3,)), ((3,), ()), ((), (3,)), ((2, 1), (3,)), ((1, 3), (2, 1)), ((2, 3), (2, 3)),
    ((4, 1, 3), (2, 1)), ((2, 1, 2, 3), (3, 1, 1)), ((0,), (1,)), ((2, 0), ())])
def test_leading_axes_broadcast(a_batch, b_batch):
    rng = np.random.default_rng(3)
    a, b = rng.integers(-9, 10, (*a_batch, 5, 7)), rng.integers(-9, 10, (*b_batch, 7, 6))
    assert np.array_equal(gemm.matmul(a.astype(np.float32), b.astype(np.float32)), a @ b)


def test_a_batch_folded_into_the_rows_gives_the_slices():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(3, 4, 5, 6)), rng.normal(size=(6, 7))
    whole = gemm.matmul(a, b)
    assert all(np.array_equal(whole[i, j], gemm.matmul(a[i, j], b)) for i in range(3) for j in range(4))


def test_a_broadcast_view_is_read_in_place():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(4, 5, 6)), rng.normal(size=(6, 7))
    assert np.array_equal(gemm.matmul(a, np.broadcast_to(b, (4, 6, 7))), gemm.matmul(a, b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_views_of_any_strides(dtype):
    store = np.arange(40 * 60).reshape(40, 60) % 23 - 11
    x = store.astype(dtype)
    views = [np.s_[::2, ::3], np.s_[::-1], np.s_[:, ::-1], np.s_[::-2, ::-4], np.s_[5:21:3, 7:]]
    for s in views:
        for t in views:
            for flip in (False, True):
                a, exact = x[s], store[s]
                b, exact_b = (x[t], store[t]) if flip else (x[t].T, store[t].T)
                depth = min(a.shape[1], b.shape[0])
                assert np.array_equal(gemm.matmul(a[:, :depth], b[:depth]), exact[:, :depth] @ exact_b[:depth])


@pytest.mark.parametrize("dtype", DTYPES)
def test_strides_beyond_a_page_of_memory(dtype):
    store = np.arange(70 * 5000).reshape(70, 5000) % 19 - 9
    x = store.astype(dtype)
    assert np.array_equal(gemm.matmul(x[:, :90].T, x[:, 100:177]), store[:, :90].T @ store[:, 100:177])
    assert np.array_equal(gemm.matmul(x[:, 4000::9].T, x[:, 3:40]), store[:, 4000::9].T @ store[:, 3:40])


def test_fields_and_unaligned_arrays():
    records = np.zeros((6, 9), np.dtype([("tag", np.int8), ("x", np.float64)]))     # 9 bytes from number to number
    records["x"] = np.arange(54).reshape(6, 9)
    exact = np.arange(54).reshape(6, 9)
    assert not records["x"].flags.aligned
    assert np.array_equal(gemm.matmul(records["x"], records["x"].T), exact @ exact.T)
    padded = np.zeros((6, 9), np.dtype([("x", np.float32), ("tag", np.int16)], align=True))
    padded["x"] = exact
    assert np.array_equal(gemm.matmul(padded["x"], padded["x"].T), exact @ exact.T)


def test_read_only_operands_other_byte_orders_and_mixed_precisions():
    a = np.arange(6.0).reshape(2, 3)
    a.flags.writeable = False
    b = np.arange(12.0).reshape(3, 4)
    assert np.array_equal(gemm.matmul(a, b), a @ b)
    swapped = gemm.matmul(a.astype(a.dtype.newbyteorder()), b)
    assert np.array_equal(swapped, a @ b) and swapped.dtype.isnative
    assert gemm.matmul(a.astype(np.float32), b).dtype == np.float64


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("a, b", [((3, 0), (0, 4)), ((0, 3), (3, 4)), ((3, 4), (4, 0)), ((0, 0), (0, 0)), ((2, 3, 0), (0, 5))])
def test_empty_sizes(dtype, a, b):
    c = gemm.matmul(np.ones(a, dtype), np.ones(b, dtype))
    assert c.shape == np.matmul(np.ones(a), np.ones(b)).shape and c.dtype == dtype and not c.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [3, 40, 300])
def test_nan_and_infinity_reach_their_row_and_column_and_nothing_else(dtype, size):
    a, b = np.ones((size, size), dtype), np.ones((size, size), dtype)
    a[0, 1] = np.nan
    a[1, 2], b[2, 0] = np.inf, 0
    b[0, size - 1] = -np.inf
    c = gemm.matmul(a, b)
    expected = np.full((size, size), size, dtype)
    expected[:, 0] = size - 1
    expected[:, -1] = -np.inf
    expected[1] = np.inf
    expected[1, 0] = np.nan         # infinity times zero
    expected[1, -1] = np.nan        # infinity minus infinity
    expected[0] = np.nan
    assert np.array_equal(c, expected, equal_nan=True)


@pytest.mark.parametrize("depth", [4, 700])
def test_what_was_in_out_does_not_matter(depth):
    a, b = np.ones((9, depth), np.float32), np.ones((depth, 40), np.float32)
    out = np.full((9, 40), np.nan, np.float32)
    assert gemm.matmul(a, b, out=out) is out and np.all(out == depth)
    assert np.all(gemm.matmul(a[:, :0], b[:0], out=out) == 0)


def test_out_may_have_strides_or_overlap_an_operand():
    rng = np.random.default_rng(6)
    a, b = rng.integers(-9, 10, (8, 8)).astype(np.float64), rng.integers(-9, 10, (8, 8)).astype(np.float64)
    exact = a @ b
    rows, columns = np.zeros((16, 8))[::2], np.zeros((8, 16))[:, ::2]
    assert np.array_equal(gemm.matmul(a, b, out=rows), exact) and np.array_equal(gemm.matmul(a, b, out=columns), exact)
    assert np.array_equal(gemm.matmul(a, b, out=a), exact)


def test_out_of_another_shape_or_dtype_is_refused():
    a = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"float32 \(2, 2\).*float64 \(2, 2\)"):
        gemm.matmul(a, a.T, out=np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"\(1, 2, 2\)"):
        gemm.matmul(a, a.T, out=np.ones((1, 2, 2)))


def test_operands_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3\) @ \(2, 3\)"):
        gemm.matmul(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        gemm.matmul(np.ones(3), np.ones((3, 3)))
    with pytest.raises(ValueError, match="broadcast"):
        gemm.matmul(np.ones((2, 3, 3)), np.ones((4, 3, 3)))
    for dtype in (np.int64, np.float16, np.complex128):
        with pytest.raises(TypeError, match=np.dtype(dtype).name):
            gemm.matmul(np.ones((2, 2), dtype), np.ones((2, 2)))


def test_the_backend_is_set_by_a_call_and_restored_by_with():
    before = gemm.backend()
    try:
        gemm.matmul_backend("numba")
        assert gemm.backend() == "numba"
        with gemm.matmul_backend("blas"):
            assert gemm.backend() == "blas"
        assert gemm.backend() == "numba"
    finally:
        gemm.set_backend(before)
    with pytest.raises(ValueError, match="'mkl'.*numba, blas, auto"):
        gemm.set_backend("mkl")
    assert gemm.backend() == before


@pytest.mark.parametrize("name", gemm.BACKENDS)
def test_every_backend_multiplies_every_kind_of_operand(name):
    x = np.arange(12).reshape(3, 4)
    with gemm.matmul_backend(name):
        for dtype in (np.int64, np.bool_, np.float16, np.float32, np.float64, np.complex128):
            a = x.astype(dtype)
            for left, right in ((a, a.T), (a[0], a[1]), (a, a[0]), (a[:, 0], a), (a[None], a.T)):
                product = gemm.dispatch(left, right)
                assert np.array_equal(product, np.matmul(left, right)) and product.dtype == dtype
        with pytest.raises(ValueError):
            gemm.dispatch(x.astype(np.float64), x.astype(np.float64))


def test_auto_takes_the_kernel_exactly_where_the_rule_says(monkeypatch):
    taken = []
    monkeypatch.setattr(gemm, "matmul", lambda a, b, out, add: taken.append(a.shape))
    monkeypatch.setattr(gemm, "blas_threads", 1)
    small, large = np.ones((4, 4), np.float32), np.ones((128, 128), np.float32)
    with gemm.matmul_backend("auto"):
        gemm.dispatch(small, small), gemm.dispatch(large[0], large), gemm.dispatch(large, large)
        monkeypatch.setattr(gemm, "blas_threads", 2)
        gemm.dispatch(large, large)
    assert taken == [(128, 128)]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_product_is_added_to_what_is_there(layout, count):
    """Exact integers, over several blocks of each size, where threads share the work too."""
    rng = np.random.default_rng(9)
    a, b, c = (rng.integers(-9, 10, shape).astype(np.float32) for shape in ((300, 513), (513, 601), (300, 601)))
    a, b = laid_out(a, layout[0]), laid_out(b, layout[1])
    before = threads.num_threads()
    threads.set_num_threads(count)
    try:
        out = c.copy()
        assert gemm.matmul(a, b, out=out, add=True) is out
    finally:
        threads.set_num_threads(before)
    assert np.array_equal(out, c + a @ b)


def test_a_product_is_added_to_memory_that_the_kernel_cannot_write():
    a, c = np.arange(9.0).reshape(3, 3), np.ones((3, 3))
    gemm.matmul(a, np.eye(3), out=c.T, add=True)
    assert np.array_equal(c, 1 + a.T)
    both = a.copy()
    gemm.matmul(both, both, out=both, add=True)
    assert np.array_equal(both, a + a @ a)
    gemm.matmul(np.ones((3, 0)), np.ones((0, 3)), out=both, add=True)
    assert np.array_equal(both, a + a @ a)


@pytest.mark.parametrize("backend", gemm.BACKENDS)
def test_every_backend_writes_and_adds(backend):
    a, out = np.arange(6.0).reshape(2, 3), np.full((2, 2), 7.0)
    with gemm.matmul_backend(backend):
        gemm.dispatch(a, a.T, out)
        assert np.array_equal(out, [[5, 14], [14, 50]])
        gemm.dispatch(a, a.T, out, True)
    assert np.array_equal(out, [[10, 28], [28, 100]])


def test_threads_that_multiply_at_once_get_the_same_bits():
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(65, 700)).astype(np.float32), rng.normal(size=(700, 530)).astype(np.float32)
    alone = gemm.matmul(a, b)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(c, alone) for c in pool.map(lambda _: gemm.matmul(a, b), range(24)))


def run(program, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_numba_is_imported_by_the_first_product_that_needs_it():
    out = run("import sys, numpy as np; from tinyllm.ops import gemm; gemm.blas_threads = 1\n"
              "x = np.ones((8, 8), np.float32); gemm.dispatch(x, x); print('numba' in sys.modules)\n"
              "x = np.ones((128, 128), np.float32); gemm.dispatch(x, x); print('numba' in sys.modules)")
    assert out.split() == ["False", "True"]


EXACT = """
import numpy as np
from tinyllm.ops import gemm, gemm_vectors
for dtype in (np.float32, np.float64):
    for rows, depth, columns in ((1, 1, 1), (6, 5, 16), (7, 300, 33), (29, 17, 70), (16, 260, 64)):
        a, b = np.arange(rows * depth).reshape(rows, depth) % 7 - 3, np.arange(depth * columns).reshape(depth, columns) % 5 - 2
        for x in (a.astype(dtype), np.asfortranarray(a.astype(dtype))):
            for y in (b.astype(dtype), np.asfortranarray(b.astype(dtype))):
                assert np.array_equal(gemm.matmul(x, y), a @ b), (dtype, rows, depth, columns)
print(gemm_vectors.TILE.vector_bytes)
"""
TARGETS = {"no vector unit named": ("generic", "", "16"), "AVX2": ("znver3", "+avx,+avx2,+fma,+sse4.2", "32")}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="these are x86 feature names")
def test_the_tiles_of_other_processors_compute_the_same(target, tmp_path):
    name, features, vector_bytes = TARGETS[target]
    if target == "AVX2" and "avx2" not in gemm_vectors.host_features():
        pytest.skip("this CPU has no AVX2")
    out = run(EXACT, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features, NUMBA_CACHE_DIR=str(tmp_path))
    assert out.split() == [vector_bytes]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly")
@pytest.mark.parametrize("name, suffix", [("float32", "ps"), ("float64", "pd")])
def test_the_inner_loop_is_packed_multiply_adds_on_registers(name, suffix, tmp_path):
    """The tile's multiply-adds (once, or unrolled) fill the loop over k, and no accumulator is spilled to the stack."""
    if "fma" not in gemm_vectors.host_features():
        pytest.skip("this CPU has no fused multiply-add")
    register = {64: "zmm", 32: "ymm"}[gemm_vectors.TILE.vector_bytes]
    program = f"from tinyllm.ops.gemm_kernels import kernel; f = kernel({name!r}); print(f.inspect_asm(f.signatures[0]))"
    loops = re.split(r"^\.\w+:", run(program, NUMBA_CACHE_DIR=str(tmp_path)), flags=re.M)
    inner = [body for body in loops if re.search(rf"vfmadd\w+{suffix}\s.*%{register}", body)]
    assert inner
    for body in inner:
        multiply_adds = len(re.findall(rf"vfmadd\w+{suffix}\s.*%{register}", body))
        assert multiply_adds % (gemm_vectors.TILE.rows * gemm_vectors.TILE.vectors) == 0
        assert not re.search(rf"vmov\w+\s+%{register}\d+, .*\(%rsp\)", body)


@pytest.mark.parametrize("step", ["naive", "blocked", "packed"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_step_of_the_lesson_multiplies(step, dtype):
    rng = np.random.default_rng(7)
    for rows, depth, columns in ((1, 1, 1), (5, 6, 7), (33, 270, 65), (10, 300, 530)):
        a, b = rng.integers(-9, 10, (rows, depth)), rng.integers(-9, 10, (depth, columns))
        c = np.empty((rows, columns), dtype)
        getattr(gemm_kernels, step)(a.astype(dtype), b.astype(dtype), c)
        assert np.array_equal(c, a @ b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows, depth, columns", [(300, 400, 301), (1, 700, 65537), (65537, 700, 1), (130, 260100, 1)])
def test_threads_share_a_product_and_change_no_bit(dtype, layout, rows, depth, columns):
    rng = np.random.default_rng(6)
    a = laid_out(rng.random((rows, depth), dtype=dtype), layout[0])
    b = laid_out(rng.random((depth, columns), dtype=dtype), layout[1])
    assert rows * depth * columns >= gemm.SHARED_PRODUCT
    before, results = threads.num_threads(), []
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            results.append(gemm.matmul(a, b))
    finally:
        threads.set_num_threads(before)
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
