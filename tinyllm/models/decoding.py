"""One token at a time, one row: a model's step as a list of operations for a compiled loop.

Drawing text multiplies matrices by single vectors. Each weight is read once for two operations, so the memory sets the speed, and
for small models everything around it: a block is some twenty operations of a microsecond each in Python. Here a model is written
down once as a `Program`, the same arithmetic as its layers step by step, and each token is one call of fused/token_step.py:

    h = norm1(x);  q, k, v = qkv h;  q and k turned;  k, v go into the cache
    x += proj · attention(q, all keys, all values)
    h = norm2(x);  x += mlp(h)

`step_for(model, cache)` gives the function that does it, or None where something is asked for that no program is written for
(padding, several rows, adapted maps, float16): then the layers themselves serve. Weights of 8 bits stay what they are. Models of less
than 5 MB are computed by one thread, for others the threads of `set_num_threads` share each operation; the numbers are the same.
"""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache as cached

import numpy as np

from ..engine import STATE, Tensor, threads
from ..fused import token_step as ops
from ..fused.kernels import PRECISIONS
from ..nn import Attention, LayerNorm, Linear, RMSNorm, SwiGLU

SHARED = 5e6        # bytes of weights from which several threads are faster than one
PIECE = 64e3        # bytes of weights that are worth a piece, unless a matrix has so many that MANY are enough
MANY = 256
AGAIN = 64          # calls after which the slower of two ways is tried again
FEW = 4             # tokens of a large model in one call
COLUMNS = {name.lower(): getattr(ops, name) for name in
           "X Y SIZE WEIGHT BIAS SCALES GROUP ADD INDEX PAIRS SLOTS STEP VALUES VALUE_SIZE VALUE_STEP SHARING SCRATCH".split()}
LINE = 16           # vectors begin at a multiple of so many numbers


class Unsuited(Exception):
    """A part of a model for which no operation is written."""


class Program:
    """Operations for `token_step.run`, as they are added; vectors are their places in one array."""

    def __init__(self, dtype):
        self.dtype, self.rows, self.numbers, self.arrays = dtype, [], [], []
        self.top = self.size = self.end = self.weights = 0      # numbers now and at most, pieces of all operations, bytes of weights

    def vector(self, n):
        """Room for `n` numbers."""
        place, self.top = self.top, self.top + -(-n // LINE) * LINE
        self.size = max(self.size, self.top)
        return place

    def add(self, op, *, units=1, bytes=0, number=0.0, beside=False, **columns):
        """An operation of so many rows or heads; `beside`: it needs nothing that the one before it makes."""
        row, pieces = [0] * ops.COLUMNS, max(1, min(units, MANY, int(bytes / PIECE)))
        first = self.end
        row[ops.OP], row[ops.UNITS], row[ops.CHUNK], row[ops.FIRST] = op, units, -(-units // pieces), first
        row[ops.NEEDS] = self.rows[-1][ops.NEEDS] if beside else first
        self.end += -(-units // row[ops.CHUNK])
        for name, value in columns.items():
            row[COLUMNS[name]] = value
        self.rows.append(row)
        self.numbers.append(number)
        self.weights += bytes

    def address(self, array):
        """Where an array of the program's precision begins, which is kept alive; 0 for None."""
        if array is None:
            return 0
        if array.dtype != self.dtype or not array.flags.c_contiguous:
            raise Unsuited
        self.arrays.append(array)
        return array.ctypes.data

    def row(self, embedding, y, *, position=False, add=False):
        """y = the row of a table of the token, or of its position."""
        self.add(ops.ROW, y=y, size=embedding.weight.shape[1], weight=self.address(embedding.weight.data), index=position, add=add)

    def norm(self, layer, x, y, units=1):
        """y = norm(x), of each of `units` vectors one behind the other."""
        op = {RMSNorm: ops.RMS_NORM, LayerNorm: ops.LAYER_NORM}.get(type(layer))
        if op is None:
            raise Unsuited
        bias = getattr(layer, "bias", None)
        self.add(op, units=units, number=layer.eps, x=x, y=y, size=layer.weight.size, weight=self.address(layer.weight.data),
                 bias=self.address(None if bias is None else bias.data))

    def linear(self, layer, x, y=None, **columns):
        """y = layer(x), or y += layer(x) with `add`, in whatever precision its matrix is; returns y, room that is made for None."""
        columns.update(x=x, bias=self.address(None if layer.bias is None else layer.bias.data))
        q = getattr(layer, "quantized", None)
        if q is None:
            return self.matrix(_weight(layer), y, **columns)
        self.arrays.append(q)
        y = self.vector(len(q)) if y is None else y
        self.add(ops.LINEAR_INT8, units=len(q), bytes=q.nbytes + layer.scales.nbytes, y=y, size=q.shape[1], weight=q.ctypes.data,
                 scales=self.address(layer.scales), group=q.shape[1] // layer.scales.shape[1], **columns)
        return y

    def matrix(self, weight, y=None, **columns):
        """`linear` for a matrix as it stands."""
        y = self.vector(len(weight)) if y is None else y
        self.add(ops.LINEAR, units=len(weight), bytes=weight.nbytes, y=y, size=weight.shape[1], weight=self.address(weight), **columns)
        return y

    def attention(self, layer, x, y, rotation, kept):
        """y += layer(x): `kept` are the cache's arrays of keys and values, (1, K, S, D)."""
        if type(layer) is not Attention or layer.read_out is not None:
            raise Unsuited
        H, K, D = layer.n_head, layer.n_kv_head, layer.head_size
        (keys, values), slots = map(self.address, kept), kept[0].shape[2]
        packed, mixed, scratch = self.linear(layer.qkv, x), self.vector(H * D), self.vector(H * slots)
        key, value = packed + H * D, packed + (H + K) * D
        if layer.q_norm is not None:
            self.norm(layer.q_norm, packed, packed, units=H)
            self.norm(layer.k_norm, key, key, units=K)
        self.rotate(rotation, packed, H + K, D, D)
        self.remember(keys, slots, key, K, D)
        self.remember(values, slots, value, K, D, beside=True)
        self.add(ops.ATTEND, units=H, bytes=H * PIECE, number=1 / math.sqrt(D), x=packed, y=mixed, size=D, weight=keys, values=values,
                 slots=slots, step=D, value_step=D, value_size=D, sharing=H // K, scratch=scratch)
        self.weights -= H * PIECE
        self.linear(layer.proj, mixed, y, add=True)

    def rotate(self, rotation, x, heads, size, step):
        """Turn the first `size` numbers of each head, in place; heads begin `step` apart."""
        if rotation is not None:
            cos, sin = self.address(rotation.cos), self.address(rotation.sin)
            self.add(ops.ROTATE, units=heads, x=x, size=size, step=step, weight=cos, bias=sin, pairs=rotation.interleaved)

    def remember(self, kept, slots, x, heads, size, beside=False):
        """Put a vector for each head into the cache."""
        self.add(ops.REMEMBER, units=heads, x=x, size=size, step=size, weight=kept, slots=slots, beside=beside)

    def mlp(self, layer, x, y):
        """y += layer(x), for a SwiGLU or a GPT's."""
        if type(layer) is SwiGLU:
            gate = self.linear(layer.gate, x)
            up = self.linear(layer.up, x, beside=True)
            self.add(ops.GATE, x=up, y=gate, size=up - gate)
            self.linear(layer.down, gate, y, add=True)
        elif hasattr(layer, "approximate"):
            hidden = self.linear(layer.fc, x)
            self.add(ops.GELU_TANH if layer.approximate == "tanh" else ops.GELU_ERF, y=hidden, size=self.top - hidden)
            self.linear(layer.proj, hidden, y, add=True)
        else:
            raise Unsuited

    def table(self):
        """What `token_step.run` reads: (rows, numbers)."""
        end = [0] * ops.COLUMNS
        end[ops.FIRST] = self.end
        return np.array([*self.rows, end], np.int64), np.array(self.numbers, self.dtype)


def _weight(layer):
    if type(layer) is not Linear:
        raise Unsuited
    return layer.weight.data


def program_for(model, cache):
    """(Program, where its logits are): a GPT's or a Llama's token over this cache; Unsuited for another model."""
    dtype = cache.layers[0][0].dtype
    if dtype not in PRECISIONS or not {"wte", "blocks", "norm", "head"} <= vars(model).keys():
        raise Unsuited
    program = Program(dtype)
    x, h = (program.vector(model.wte.weight.shape[1]) for _ in range(2))
    rotation = model.rotary.at(np.arange(cache.capacity), dtype) if hasattr(model, "rotary") else None
    program.row(model.wte, x)
    if hasattr(model, "wpe"):
        program.row(model.wpe, x, position=True, add=True)
    start = program.top
    for block, kept in zip(model.blocks, cache.layers):
        program.top = start                             # what a block works with is free for the next
        if block.norm_first:
            program.norm(block.norm1, x, h)
            program.attention(block.attn, h, x, rotation, kept)
            program.norm(block.norm2, x, h)
            program.mlp(block.mlp, h, x)
        else:
            program.attention(block.attn, x, x, rotation, kept)
            program.norm(block.norm1, x, x)
            program.mlp(block.mlp, x, x)
            program.norm(block.norm2, x, x)
    if model.norm is not None:
        program.norm(model.norm, x, h)
        x = h
    return program, program.matrix(model.wte.weight.data, x=x) if model.head is None else program.linear(model.head, x)


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
    step = step_for(model, cache)
    return None if step is None else Tensor(step(ids[0, 0])[None, None].copy())
