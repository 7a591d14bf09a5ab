"""Compile the kernels of a training step before the first one, and say so: `compiling kernels (once), 3/14`.

Kernels are compiled when they are first called and then kept on disk. Which ones a model calls is found by making one step with a
model of its kind, of no more layers than it takes to have one of each, while kernels only write down that they were called.
"""

import dataclasses
import os
import sys
import warnings

import numpy as np

from ..engine.random import Generator, default_generator
from ..fused.kernels import noting
from ..nn import init
from ..optim import AdamW
from .shards import Shards


def step_kernels(model, shards=1):
    """[(kernel, dtype), …] that a training step of `model` in so many shards calls and that this process has not compiled.

    >>> from tinyllm.models import GPT, GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=9, n_layer=3, n_head=2, n_embd=4, block_size=4))
    >>> {kernel.__name__ for kernel, dtype in step_kernels(model)} <= {kernel.__name__ for kernel, dtype in step_kernels(model, shards=2)}
    True
    """
    config = model.config
    layers = max(2, getattr(config, "first_k_dense", 0) + 1)        # GPT-3's two kinds of layers; DeepSeek's dense ones and one mixture
    with init.empty():
        twin = type(model)(dataclasses.replace(config, n_layer=min(config.n_layer, layers)), generator=Generator(0))
    stream = default_generator().get_state()        # shards that drop numbers out draw their seeds from it
    ids = np.zeros((shards, min(config.block_size, 64)), np.int64)
    with noting() as called, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)         # of the numbers that kernels leave as they were: anything
        step = Shards(twin, shards)
        step.begin()
        step.gradients(ids, ids)
        step.finish()
        AdamW(twin.parameters()).step()
    default_generator().set_state(stream)
    return list(dict.fromkeys(called))


def compile_kernels(model, shards=1, out=None):
    """Compile what a step of `model` needs and the cache on disk does not have; `out` (standard error) is told which of how many.

    A cache that had to go to another directory than the package's own, because that one cannot be written, is named.
    """
    out = out or sys.stderr
    missing = [(kernel, dtype) for kernel, dtype in step_kernels(model, shards) if not kernel.is_cached(dtype)]
    if missing and not out.isatty():
        print(f"compiling kernels (once), {len(missing)} of them", file=out, flush=True)
    for k, (kernel, dtype) in enumerate(missing):
        if out.isatty():
            print(f"\rcompiling kernels (once), {k + 1}/{len(missing)}", end="", file=out, flush=True)
        kernel.compiled(dtype)
    if missing:
        print(("\r\x1b[K" if out.isatty() else "") + _elsewhere(missing[0][0]), end="", file=out, flush=True)


def _elsewhere(kernel):
    """A line that says where the cache is, if it is not within the package."""
    place, own = kernel.cache_path(), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if place is None:
        return "compiled kernels cannot be kept: no directory to write to; NUMBA_CACHE_DIR names one\n"
    return "" if os.path.commonpath([own, place]) == own else f"compiled kernels are kept in {os.path.dirname(place)}\n"
