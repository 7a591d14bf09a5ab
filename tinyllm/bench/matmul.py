"""The matmul kernel against the BLAS that NumPy ships with, on one thread, and the lesson's steps against the peak.

`run` times both over the shapes of tiny-GPT training. Each contender has a process of its own, started in turn
(two thread pools in one process wait for each other and measure nothing); a figure is the median over the rounds, a
ratio the median of the rounds' ratios, so that a slow spell of the machine meets both. `ladder` times the steps of
`ops/gemm_kernels.py` on one square product.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ..engine.threads import set_num_threads
from ..ops import gemm

# (shape of a, shape of b, layout): N is an operand stored by rows, T one stored by columns
CASES = (
    ((768, 128), (128, 384), "NN"),             # 12 × 64 tokens of width 128: queries, keys and values
    ((768, 384), (384, 128), "NT"),             # its gradient by the input
    ((128, 768), (768, 384), "TN"),             # its gradient by the weight
    ((768, 128), (128, 512), "NN"),             # the MLP, in
    ((768, 512), (512, 128), "NN"),             # the MLP, out
    ((768, 128), (128, 65), "NN"),              # 65 characters
    ((4096, 384), (384, 1536), "NN"),           # 16 × 256 tokens of width 384
    ((4096, 768), (768, 3072), "NN"),           # width 768
    ((256, 768), (768, 50257), "NT"),           # GPT-2's vocabulary
    ((512, 512), (512, 512), "NN"),
    ((1024, 1024), (1024, 1024), "NN"),
    ((48, 64, 32), (48, 32, 64), "NT"),         # scores of 12 × 4 heads: queries @ keysᵀ
    ((48, 64, 32), (48, 32, 64), "NN"),
    ((48, 64, 64), (48, 64, 32), "NN"),         # weights @ values
    ((96, 256, 64), (96, 64, 256), "NT"),
    ((96, 256, 64), (96, 64, 256), "NN"),
    ((96, 256, 256), (96, 256, 64), "NN"),
)
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def run(cases=CASES, dtype="float32", rounds=5):
    """Rows of {a, b, layout, dtype, numba, blas, ratio, auto}: GFLOP/s of both, numba ÷ BLAS, and what "auto" takes."""
    seconds = {"numba": [], "blas": []}
    for _ in range(rounds):
        for contender, times in seconds.items():
            times.append(_alone("time_cases", contender=contender, cases=cases, dtype=dtype))
    rows = []
    for i, (a, b, layout) in enumerate(cases):
        numba, blas = ([times[i] for times in seconds[name]] for name in ("numba", "blas"))
        work = 2e-9 * np.prod(a[:-2], dtype=int) * a[-2] * a[-1] * b[-1]
        rows.append({"a": tuple(a), "b": tuple(b), "layout": layout, "dtype": dtype,
                     "numba": float(work / statistics.median(numba)), "blas": float(work / statistics.median(blas)),
                     "ratio": statistics.median(y / x for x, y in zip(numba, blas)),
                     "auto": "numba" if gemm.prefers_numba(a, b, threads=1) else "blas"})
    return rows


def table(rows):
    """The rows of `run` as text, with the rule of "auto" below.

    >>> print(table([{"a": (2, 3), "b": (3, 4), "layout": "NN", "dtype": "float32", "numba": 50.0, "blas": 100.0,
    ...               "ratio": 0.5, "auto": "blas"}]))
    GFLOP/s, one thread                  dtype    layout  numba  BLAS  ratio  auto
    (2, 3) @ (3, 4)                      float32  NN         50   100   0.50  blas
    auto: numba where M, K and N are at least 32 and the batch has at least 262144 multiply-adds;
    beside a BLAS of several threads, products of more than 262144 multiply-adds stay with BLAS
    """
    lines = [f"{'GFLOP/s, one thread':<36} {'dtype':<8} layout  numba  BLAS  ratio  auto"]
    for row in rows:
        shapes = f"{row['a']} @ {row['b']}"
        lines.append(f"{shapes:<36} {row['dtype']:<8} {row['layout']:<6} {row['numba']:6.0f} {row['blas']:5.0f} "
                     f"{row['ratio']:6.2f}  {row['auto']}")
    side, product = gemm.SMALLEST_SIDE, gemm.SMALLEST_PRODUCT
    lines.append(f"auto: numba where M, K and N are at least {side} and the batch has at least {product} multiply-adds;")
    lines.append(f"beside a BLAS of several threads, products of more than {product} multiply-adds stay with BLAS")
    return "\n".join(lines)


def ladder(size=512, dtype="float32", rounds=7, layout="NN"):
    """Rows of {step, gflops, share}: each step of the lesson on a square product, BLAS, and the peak; medians."""
    return _alone("time_ladder", size=size, dtype=dtype, rounds=rounds, layout=layout)


def ladder_table(rows):
    """The rows of `ladder` as text.

    >>> print(ladder_table([{"step": "naive", "gflops": 1.5, "share": 0.0062}]))
    step           GFLOP/s  share of the peak
    naive              1.5    0.6%
    """
    return "\n".join(["step           GFLOP/s  share of the peak",
                      *(f"{row['step']:<14} {row['gflops']:7.1f}  {100 * row['share']:5.1f}%" for row in rows)])


def compile_seconds(dtype="float32"):
    """Seconds to the kernel's first product in a new process: {"cold": compiled, "cached": read back from numba's cache}."""
    with tempfile.TemporaryDirectory() as place:
        return {name: _alone("time_first_product", NUMBA_CACHE_DIR=place, dtype=dtype) for name in ("cold", "cached")}


def _alone(function, NUMBA_CACHE_DIR=None, **arguments):
    """The result of one of the functions below, called in a process of its own with one BLAS thread."""
    program = ("import json, sys; from tinyllm.bench import matmul; "
               "print(json.dumps(getattr(matmul, sys.argv[1])(**json.loads(sys.argv[2]))))")
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    if NUMBA_CACHE_DIR:
        environment["NUMBA_CACHE_DIR"] = NUMBA_CACHE_DIR
    command = [sys.executable, "-c", program, function, json.dumps(arguments)]
    return json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)


def time_cases(contender, cases, dtype):
    """Median seconds of each case in this process, on one thread."""
    set_num_threads(1)
    rng = np.random.default_rng(0)
    product = gemm.matmul if contender == "numba" else np.matmul
    seconds = []
    for a, b, layout in cases:
        a, b = (_stored(rng.random(shape, dtype=np.dtype(dtype)), letter) for shape, letter in zip((a, b), layout))
        seconds.append(statistics.median(_repeat(lambda: product(a, b))))
    return seconds


def _stored(x, letter):
    return x if letter == "N" else np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


def _repeat(function, samples=9, budget=0.004):
    """Seconds a call, `samples` times, each over as many calls as fill the budget."""
    function()                                      # compiled, and its operands in the cache
    once = _seconds(function, 1)
    calls = max(1, int(budget / once))
    return [_seconds(function, calls) for _ in range(samples)]


def _seconds(function, calls):
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def time_ladder(size, dtype, rounds, layout):
    """The rows of `ladder`, timed in this process, the steps in turn."""
    from ..ops import gemm_kernels
    from ..ops.gemm_vectors import TILE
    set_num_threads(1)
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(0)
    a, b, c = (_stored(rng.random((size, size), dtype=dtype), letter) for letter in layout + "N")
    depth, width = gemm_kernels.BLOCK_DEPTH // dtype.itemsize, TILE.vectors * TILE.vector_bytes // dtype.itemsize
    tile_a = np.zeros(TILE.rows * depth, dtype)     # zeros: the sums must not overflow
    panel, start = gemm_kernels.aligned(width * depth, c)
    panel[:] = 0
    tile_c, tiles = np.zeros((TILE.rows, width), dtype), 2000
    steps = {
        "naive": (lambda: gemm_kernels.naive(a, b, c), size**3),
        "blocked": (lambda: gemm_kernels.blocked(a, b, c), size**3),
        "packed": (lambda: gemm_kernels.packed(a, b, c), size**3),
        "micro-kernel": (lambda: gemm.matmul(a, b, out=c), size**3),
        "BLAS": (lambda: np.matmul(a, b, out=c), size**3),
        "peak": (lambda: gemm_kernels.ceiling(tile_a, panel, start, tile_c, tiles), tiles * TILE.rows * width * depth),
    }
    seconds = {step: [] for step in steps}
    for function, _ in steps.values():
        function()                                  # compile
    for _ in range(rounds):
        for step, (function, _) in steps.items():
            seconds[step].append(_seconds(function, 1))
    gflops = {step: 2e-9 * work / statistics.median(seconds[step]) for step, (_, work) in steps.items()}
    return [{"step": step, "gflops": rate, "share": rate / gflops["peak"]} for step, rate in gflops.items()]


def time_first_product(dtype):
    """Seconds this process takes to import the kernels and multiply once."""
    x = np.ones((2, 2), dtype)
    return _seconds(lambda: gemm.matmul(x, x), 1)
