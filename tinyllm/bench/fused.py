"""Every fused operation, forward and backward: its kernels, its definition, and the same in PyTorch where that is installed.

Shapes are those of the models of `tinyllm bench step`, in float32; `attention_long` and `self_attention` are M's, `latent_absorbed`
has 8 new tokens behind 248 in a cache. `adamw` and `clip_grad_norm` move the 12 million parameters of M, which lie in one buffer;
PyTorch's are its fused AdamW and its own clipping. Dropout and clipping have no kernels: there the definition is all there is.

The contenders are timed in turn, each in a process of its own on one thread; ms is the processor time of a call, the median over
the rounds, MB the most memory that the process has had, with all it has imported. GFLOP/s counts the products of matrices; its share is
of the peak of the matmul micro-kernel. All keep the memory that they free, PyTorch too, so that operations are raced and not page faults.
"""

import importlib.util
import time

import numpy as np

from . import _contest, step
from ._operations import CONFIGS, UNCOMPILED, UPDATES, arithmetic, own

EVERYTHING = dict(compiled=True)        # what `tinyllm bench --all` measures
TURN = 0.1                              # seconds of work in a turn, at least


def run(names=tuple(CONFIGS), rounds=7, torch=None, compiled=False):
    """Rows of {case, contender, ms, gflops, peak_share, memory_mb, ratio, note}.

    `torch`: race against PyTorch (None: if it is installed), `compiled`: against torch.compile too. `ratio` is how many times as long
    the contender takes as the first one; gflops and peak_share are None where no matrices are multiplied.
    """
    torch = importlib.util.find_spec("torch") is not None if torch is None else torch
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    peak, rows = step.gemm_peak() if any(map(arithmetic, names)) else None, []
    for name in names:
        makers = {} if name in UNCOMPILED else {"kernels": ("timer", {"kernels": True})}
        makers["definition"] = "timer", {"kernels": False}
        makers |= {"torch eager": ("torch_timer", {"compiled": False})} if torch else {}
        makers |= {"torch compile": ("torch_timer", {"compiled": True})} if torch and compiled else {}
        turns, told = _contest.contest({who: _contest.Contender(__name__, function, one, name=name, **more)
                                        for who, (function, more) in makers.items()}, rounds)
        for who, results in turns.items():
            seconds = _contest.median(results, "call")
            rate = 1e-9 * arithmetic(name) / seconds or None
            rows.append({"case": name, "contender": who, "ms": 1e3 * seconds, "gflops": rate, "peak_share": rate and rate / peak,
                         "memory_mb": max(result["memory"] for result in results) / 2**20,
                         "ratio": _contest.ratio(results, next(iter(turns.values())), "call"), "note": _contest.note(told)})
    return rows


def table(rows):
    """The rows of `run` as text.

    >>> print(table([{"case": "linear", "contender": "kernels", "ms": 3.0, "gflops": 100.7, "peak_share": 0.9, "memory_mb": 120.0, "ratio": 1.0,
    ...               "note": ""}]))
    fused                contender            ms GFLOP/s   peak     MB  ratio
    linear               kernels           3.000     101  90.0%    120   1.00
    """
    lines = ["fused                contender            ms GFLOP/s   peak     MB  ratio"]
    for row in rows:
        work = f"{row['gflops']:7.0f} {row['peak_share']:6.1%}" if row["gflops"] else f"{'-':>7} {'-':>6}"
        lines.append(f"{row['case']:<20} {row['contender']:<13} {row['ms']:9.3f} {work} {row['memory_mb']:6.0f} {row['ratio']:6.2f}")
    return "\n".join([*lines, *dict.fromkeys(row["note"] for row in rows if row["note"])])


def timer(name, kernels):
    """A turn times the operation, forward and backward, by its kernels or by its definition."""
    from ..engine.memory import keep_freed_memory
    from ..engine.state import fused
    from ..engine.threads import set_num_threads
    set_num_threads(1)
    keep_freed_memory()
    fused(kernels)
    return _turns(name, *own(name), lambda y: np.ones(y.shape, np.float32))


def torch_timer(name, compiled):
    """The same in PyTorch."""
    import torch

    from ..engine.memory import keep_freed_memory
    from ._torch_operations import theirs
    torch.set_num_threads(1)
    keep_freed_memory()
    operation, leaves = theirs(name)
    return _turns(name, torch.compile(operation) if compiled else operation, leaves, torch.ones_like)


def _turns(name, operation, leaves, ones):
    """A turn calls the operation, and backward from `ones`, for `TURN` seconds; it reports the processor time of a call."""
    g = None if name in UPDATES else ones(operation(*leaves))

    def once():
        if name in UPDATES:
            return operation()
        for leaf in leaves:
            leaf.grad = None
        operation(*leaves).backward(g)

    def turn():
        calls, began = 0, time.process_time()
        while (seconds := time.process_time() - began) < TURN:
            once()
            calls += 1
        return {"call": seconds / calls}

    once()
    return turn
