"""One token at a time, one row: a model's step, compiled.

Drawing text multiplies matrices by single vectors. Each weight is read once for two operations, so the memory sets the speed, and
for small models everything around it: a block is some twenty operations of a microsecond each in Python. Here a model is written
down once as a `Program` (program.py), the same arithmetic as its layers step by step, and each token is one call of
fused/token_step.py.

`step_for(model, cache)` gives the function that does it, or None where something is asked for that no program is written for
(padding, several rows, adapted maps, float16, layers or models of your own): then the layers themselves serve. Weights of 8 bits stay what they are. Models of which
a token reads less than 5 MB are computed by one thread, for others the threads of `set_num_threads` share each operation; the numbers
are the same.
"""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache as cached

import numpy as np

from ..engine import STATE, Tensor, threads
from ..fused import token_step as ops
from .program import Unsuited, program_for

SHARED = 5e6        # bytes of weights from which several threads are faster than one
AGAIN = 64          # calls after which the slower of two ways is tried again
FEW = 4             # tokens of a large model in one call


class Step:
    """`step(id)`: logits (V,) after one more token; keys and values go into `cache`, which is one longer then."""

    def __init__(self, model, cache):
        program, logits = program_for(model, cache)
        self.cache, self.layers, self.arrays = cache, cache.layers, program.arrays
        self.rows, self.numbers = program.table()
        self.work = np.zeros(program.size, program.dtype)
        self.logits = self.work[logits:logits + model.config.vocab_size]
        self.place, self.vocab_size = logits, model.config.vocab_size
        self.alone = ops.counters()
        self.team = Team(self) if program.weights >= SHARED else None

    def __call__(self, token):
        """The logits, in an array that the next call writes again."""
        self._compute(ops.run, 1, token, self.cache.length)
        self.cache.advance(1)
        return self.logits

    def write(self, token, count, settings, seen, ends, source, room):
        """Up to `count` ids (n,) that follow `token`, drawn in one call; see `token_step.write` for what is given.

        The last may be one of `ends` (V,), or -1 where nothing can be drawn. `seen` (V,) is kept up to date; `room` is (WORKED + 1, V).
        """
        count = min(count, self.cache.capacity - self.cache.length, FEW if self.team else count)
        ids = np.zeros(count + 1, np.int64)
        addresses = [array.ctypes.data for array in (settings, seen, ends, room)]
        request = np.array([token, self.cache.length, count, self.place, self.vocab_size, *addresses, *source, ids.ctypes.data])
        self._compute(ops.write, count, request)
        self.cache.advance(int(ids[0]))
        return ids[1:ids[0] + 1]

    def _compute(self, kernel, count, *wanted):
        """Call a kernel, with helpers where they are worth it."""
        kernel = ops.compiled(kernel, self.work.dtype)
        if self.team is None or threads.num_threads() == 1:
            kernel(self.work, self.numbers, self.rows, self.alone[0], *wanted)
        else:
            self.team(kernel, count, *wanted)

    def help(self, counters):
        """Take part in tokens of other threads, for a while."""
        ops.compiled(ops.run, self.work.dtype)(self.work, self.numbers, self.rows, counters[0], -1, 0)


class Team:
    """A step by several threads, or by the caller alone where that has been the faster: on a busy machine helpers come late.

    Both ways are timed. The slower one is tried again every AGAIN calls.
    """

    def __init__(self, step):
        self.step, self.counters, self.helpers = step, ops.counters(), []
        self.seconds, self.calls = [math.inf, 0.0], 0           # of a token: alone, together; calls until the other way is tried

    def __call__(self, kernel, count, *wanted):
        together = self.seconds[1] < self.seconds[0]
        if self.calls == 0:
            together, self.calls = not together, AGAIN
        self.calls -= 1
        if together:
            self.call_helpers(threads.num_threads() - 1)
        counters, start = self.counters if together else self.step.alone, time.perf_counter()
        kernel(self.step.work, self.step.numbers, self.step.rows, counters[0], *wanted)
        passed, before = (time.perf_counter() - start) / count, self.seconds[together]
        self.seconds[together] = passed if before in (0.0, math.inf) else before + (passed - before) / 4

    def call_helpers(self, count):
        """See that so many threads are there; those of the last token are for a while."""
        self.helpers = [helper for helper in self.helpers if not helper.done()]
        for _ in range(count - len(self.helpers)):
            self.helpers.append(_helpers(count).submit(self.step.help, self.counters))


@cached
def _helpers(count):
    return ThreadPoolExecutor(count, thread_name_prefix="tinyllm-step")


def step_for(model, cache):
    """The compiled step of a model with this cache, made once for the cache; None where it does not apply."""
    if not STATE.fused or STATE.watchers or cache.batch != 1 or cache.pad is not None or cache.length >= cache.capacity:
        return None
    step = getattr(cache, "step", None)
    if step is None or step.layers is not cache.layers:
        try:
            step = Step(model, cache)
        except Unsuited:
            step = None
        cache.step = step
    return step


def one_token(model, ids, cache):
    """`model(ids, cache)` by the compiled step, a Tensor (1, 1, V), where it applies to these `ids` (B, T); else None."""
    if cache is None or ids.shape != (1, 1) or model.training or not 0 <= ids[0, 0] < model.config.vocab_size:
        return None
    step = model.step(cache)
    return None if step is None else Tensor(step(ids[0, 0])[None, None].copy())
