"""Every fused operation, forward and backward: its kernels, its definition, and PyTorch's operation where that is installed.

Shapes are those of the models of `tinyllm bench step`. The three are timed in turn, each in a process of its own on one
thread; a figure is the processor time of a call, the median over the rounds.
"""

import importlib.util
import time

import numpy as np

from . import _contest

CONFIGS = {     # operation: shapes of what it is given
    "gelu": [(4096, 1536)],
    "gelu_tanh": [(4096, 1536)],
    "swiglu": [(4096, 1024), (4096, 1024)],
    "softmax": [(4096, 1024)],
    "cross_entropy": [(4096, 4096)],
    "layer_norm": [(4096, 384), (384,), (384,)],
    "rms_norm": [(4096, 384), (384,)],
    "rope": [(16, 6, 256, 64)],
    "attention": [(12, 4, 64, 32)] * 3,
    "attention_long": [(16, 6, 256, 64)] * 3,
    "linear": [(768, 128), (512, 128)],
    "embedding": [(4096, 384)],
}


def run(names=tuple(CONFIGS), rounds=7, torch=None):
    """Rows of {case, contender, ms, ratio, note}; `ratio` is how many times as long the contender takes as the kernels."""
    torch = importlib.util.find_spec("torch") is not None if torch is None else torch
    makers = {"kernels": ("timer", {"kernels": True}), "definition": ("timer", {"kernels": False})}
    makers |= {"torch": ("torch_timer", {})} if torch else {}
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    contenders = {who: _contest.Contender(__name__, function, one, names=list(names), **more) for who, (function, more) in makers.items()}
    turns, told = _contest.contest(contenders, rounds)
    return [{"case": name, "contender": who, "ms": 1e3 * _contest.median(results, name),
             "ratio": _contest.ratio(results, turns["kernels"], name), "note": _contest.note(told)}
            for name in names for who, results in turns.items()]


def table(rows):
    """The rows of `run` as text.

    >>> print(table([{"case": "gelu", "contender": "kernels", "ms": 9.5, "ratio": 1.0, "note": ""}]))
    fused            contender         ms  ratio
    gelu             kernels        9.500   1.00
    """
    lines = ["fused            contender         ms  ratio"]
    lines += [f"{row['case']:<16} {row['contender']:<11} {row['ms']:8.3f} {row['ratio']:6.2f}" for row in rows]
    return "\n".join([*lines, *dict.fromkeys(row["note"] for row in rows if row["note"])])


def _inputs(name):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in CONFIGS[name]]
    return arrays, rng.integers(0, CONFIGS[name][0][-1] if name == "cross_entropy" else 4096, 4096)


def _timed(call):
    """Processor seconds of one call, over as many calls as take 20 ms."""
    call()
    calls, began = 0, time.process_time()
    while (seconds := time.process_time() - began) < 0.02:
        call()
        calls += 1
    return seconds / calls


def timer(names, kernels):
    """A turn times every operation, forward and backward."""
    from ..engine import Tensor
    from ..engine.memory import keep_freed_memory
    from ..engine.state import fused
    from ..engine.threads import set_num_threads
    from ..nn import functional as F
    set_num_threads(1)
    keep_freed_memory()
    fused(kernels)

    def call(name):
        arrays, ids = _inputs(name)
        leaves = [Tensor(x, requires_grad=True) for x in arrays]
        operation = {"gelu_tanh": lambda x: F.gelu(x, "tanh"), "cross_entropy": lambda x: F.cross_entropy(x, ids),
                     "rope": lambda x: F.rope(x, *F.rope_tables(*x.shape[-2:])), "attention_long": F.attention,
                     "embedding": lambda x: F.embedding(ids, x)}.get(name) or getattr(F, name)
        g = np.ones(operation(*leaves).shape, np.float32)

        def once():
            for leaf in leaves:
                leaf.grad = None
            operation(*leaves).backward(g)
        return once

    calls = {name: call(name) for name in names}
    return lambda: {name: _timed(once) for name, once in calls.items()}


def torch_timer(names):
    """The same in PyTorch."""
    import torch
    from torch.nn import functional as F
    torch.set_num_threads(1)

    def rope(x):
        angles = torch.outer(torch.arange(x.shape[-2]), 10000.0 ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1]))
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), dim=-1)

    def call(name):
        arrays, ids = _inputs(name)
        leaves, ids = [torch.from_numpy(x).requires_grad_() for x in arrays], torch.from_numpy(ids)

        def attention(*qkv):
            return F.scaled_dot_product_attention(*qkv, is_causal=True)

        operation = {"gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "swiglu": lambda a, b: F.silu(a) * b,
                     "softmax": lambda x: x.softmax(-1), "cross_entropy": lambda x: F.cross_entropy(x, ids),
                     "layer_norm": lambda x, w, b: F.layer_norm(x, w.shape, w, b), "rms_norm": lambda x, w: F.rms_norm(x, w.shape, w, 1e-5),
                     "rope": rope, "attention": attention, "attention_long": attention, "linear": F.linear,
                     "embedding": lambda x: F.embedding(ids, x)}[name]
        g = torch.ones_like(operation(*leaves))

        def once():
            for leaf in leaves:
                leaf.grad = None
            operation(*leaves).backward(g)
        return once

    calls = {name: call(name) for name in names}
    return lambda: {name: _timed(once) for name, once in calls.items()}
