"""The arithmetic and the layout of `tinyllm bench matmul`; its timings are not tested."""

import numpy as np
import pytest

from tinyllm.bench import matmul
from tinyllm.engine import threads
from tinyllm.ops import gemm


def test_a_rate_counts_two_operations_a_multiply_add_and_a_ratio_is_the_median_of_the_rounds(monkeypatch):
    rounds = iter([[2.0], [4.0], [1.0], [8.0], [1.0], [3.0]])          # numba, blas, numba, blas, ...
    monkeypatch.setattr(matmul, "_alone", lambda *_, **__: next(rounds))
    row, = matmul.run([((10, 100, 20), (10, 20, 500), "NN")], rounds=3)
    assert row["numba"] == pytest.approx(2 * 10 * 100 * 20 * 500 / 1.0 / 1e9) and row["blas"] == pytest.approx(0.02 / 4.0)
    assert row["ratio"] == 3.0


def test_both_contenders_run_in_processes_of_their_own():
    rows = matmul.run([((40, 33), (33, 65), "TT"), ((2, 3, 4), (2, 4, 5), "NT")], dtype="float64", rounds=1)
    assert [row["auto"] for row in rows] == ["blas", "blas"]
    assert all(row["ratio"] == pytest.approx(row["numba"] / row["blas"]) for row in rows)
    assert len(matmul.table(rows).splitlines()) == 1 + 2 + 2


@pytest.mark.parametrize("letter, stride", [("N", 5 * 8), ("T", 8)])
def test_a_layout_changes_the_strides_and_nothing_else(letter, stride):
    x = np.arange(30.0).reshape(2, 3, 5)
    y = matmul._stored(x, letter)
    assert np.array_equal(x, y) and y.strides[1] == stride


def test_auto_takes_the_kernel_for_the_products_of_training():
    """One BLAS thread: all of them; two: those whose slices are too small for BLAS to share."""
    assert all(gemm.prefers_numba(a, b, threads=1) for a, b, _ in matmul.CASES)
    assert [a for a, b, _ in matmul.CASES if gemm.prefers_numba(a, b, threads=2)] == [(48, 64, 32), (48, 64, 32), (48, 64, 64)]


def test_the_ladder_has_the_steps_of_the_lesson_and_shares_of_one_peak():
    rows = matmul.ladder(size=64, rounds=1)
    assert [row["step"] for row in rows] == ["naive", "blocked", "packed", "micro-kernel", "BLAS", "peak"]
    assert rows[-1]["share"] == 1 and all(row["share"] == pytest.approx(row["gflops"] / rows[-1]["gflops"]) for row in rows)
    assert len(matmul.ladder_table(rows).splitlines()) == 7


@pytest.mark.parametrize("measure", [lambda: matmul.time_cases("numba", [((512, 512), (512, 512), "NN")], "float32"),
                                     lambda: matmul.time_ladder(512, "float32", 1, "NN")])
def test_what_is_called_one_thread_is_one(monkeypatch, measure):
    before, shared = threads.num_threads(), []
    monkeypatch.setattr(gemm, "_share", lambda *arguments: shared.append(arguments))
    threads.set_num_threads(2)
    try:
        measure()
    finally:
        threads.set_num_threads(before)
    assert not shared
