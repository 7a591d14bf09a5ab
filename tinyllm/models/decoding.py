"""One token at a time, one row: a block of a Llama in one compiled call.

Drawing text multiplies matrices by single vectors. Each weight is read once for two operations, so the memory sets the
speed, and for small models everything around it: a block is some twenty operations of a microsecond each in Python. Here
it is one kernel, the same arithmetic as `nn.Block` step by step:

    h = rms_norm(x);  q, k, v = qkv h, q and k turned;  k, v go into the cache
    x += proj · attention(q, all keys, all values)
    h = rms_norm(x);  x += down · (silu(gate h) · up h)

`step_for(model, cache)` gives the function that does it, or None where something is asked for that the kernel does not do
(biases, windows, padding, norms of queries, 8-bit or adapted maps, float16): then the layers themselves serve. Vectors are
multiplied row by row, for a core reads one stream of memory faster than several.
"""

import math

import numpy as np

from ..engine import STATE
from ..fused.kernels import PRECISIONS, kernel
from ..fused.vector_math import exp, largest
from ..nn import Linear, RMSNorm


@kernel("in2 in1 out1")
def matrix_times(weight, x, y):
    """y = weight @ x"""
    for i in range(weight.shape[0]):
        row, total = weight[i], x.dtype.type(0)
        for j in range(row.size):
            total += row[j] * x[j]
        y[i] = total


@kernel("in1 in1 number out1")
def scaled(x, weight, eps, y):
    """y = rms_norm(x)"""
    square = x.dtype.type(0)
    for i in range(x.size):
        square += x[i] * x[i]
    r = x.dtype.type(1) / np.sqrt(square / x.dtype.type(x.size) + eps)
    for i in range(x.size):
        y[i] = x[i] * r * weight[i]


@kernel("out1 in1 in2 in2 in1 in2 in2 in2 in1 in1 outview3 outview3 int int int number number number")
def block_step(x, norm1, qkv, proj, norm2, gate, up, down, cos, sin, keys, values, position, heads, interleaved, eps1, eps2, scale):
    """x (C,) through one block, in place; keys and values (K, S, D) hold the positions before and receive this one."""
    kv_heads, D = keys.shape[0], keys.shape[2]
    h, packed, mixed = np.empty_like(x), np.empty(qkv.shape[0], x.dtype), np.zeros(heads * D, x.dtype)
    scaled(x, norm1, eps1, h)
    matrix_times(qkv, h, packed)
    for n in range(heads + kv_heads):
        head = packed[n * D:(n + 1) * D]
        for i in range(D // 2):
            first, second = (2 * i, 2 * i + 1) if interleaved else (i, i + D // 2)
            a, b = head[first], head[second]
            head[first], head[second] = a * cos[i] - b * sin[i], a * sin[i] + b * cos[i]
    for n in range(kv_heads):
        for d in range(D):
            keys[n, position, d] = packed[(heads + n) * D + d]
            values[n, position, d] = packed[(heads + kv_heads + n) * D + d]
    weights = np.empty(position + 1, x.dtype)
    for n in range(heads):
        query, y, kv = packed[n * D:(n + 1) * D], mixed[n * D:(n + 1) * D], n // (heads // kv_heads)
        for s in range(position + 1):
            total = x.dtype.type(0)
            for d in range(D):
                total += query[d] * keys[kv, s, d]
            weights[s] = total * scale
        top, total = largest(weights), x.dtype.type(0)
        for s in range(position + 1):
            e = exp(weights[s] - top)
            weights[s] = e
            total += e
        for s in range(position + 1):
            share = weights[s] / total
            for d in range(D):
                y[d] += share * values[kv, s, d]
    matrix_times(proj, mixed, h)
    for i in range(x.size):
        x[i] += h[i]
    scaled(x, norm2, eps2, h)
    gated, upped = np.empty(gate.shape[0], x.dtype), np.empty(gate.shape[0], x.dtype)
    matrix_times(gate, h, gated)
    matrix_times(up, h, upped)
    for i in range(gated.size):
        gated[i] = gated[i] / (x.dtype.type(1) + exp(-gated[i])) * upped[i]
    matrix_times(down, gated, h)
    for i in range(x.size):
        x[i] += h[i]


class Step:
    """`step(id)`: logits (V,) after one more token; keys and values go into `cache`, whose length the caller advances."""

    def __init__(self, model, cache):
        self.cache, self.table, self.norm = cache, model.wte.weight.data, model.norm
        self.head = self.table if model.head is None else model.head.weight.data
        self.rotation = model.rotary.at(np.arange(cache.capacity), self.table.dtype)
        self.blocks = [_weights(block) for block in model.blocks]

    def __call__(self, token):
        x, h, logits = (np.empty(n, self.table.dtype) for n in (*[self.table.shape[1]] * 2, len(self.head)))
        x[:] = self.table[token]
        cos, sin, interleaved = self.rotation
        at = self.cache.length
        for (arrays, (heads, eps1, eps2, scale)), (keys, values) in zip(self.blocks, self.cache.layers):
            block_step(x, *arrays, cos[at], sin[at], keys[0], values[0], at, heads, interleaved, eps1, eps2, scale)
        scaled(x, self.norm.weight.data, self.norm.eps, h)
        matrix_times(self.head, h, logits)
        return logits


def _weights(block):
    attn, mlp = block.attn, block.mlp
    arrays = [m.weight.data for m in (block.norm1, attn.qkv, attn.proj, block.norm2, mlp.gate, mlp.up, mlp.down)]
    return arrays, (attn.n_head, block.norm1.eps, block.norm2.eps, 1 / math.sqrt(attn.head_size))


def step_for(model, cache):
    """The compiled step of a Llama with this cache, made once for the cache; None where it does not apply."""
    if not STATE.fused or STATE.watchers or cache.batch != 1 or cache.pad is not None:
        return None
    if not hasattr(cache, "step"):
        cache.step = Step(model, cache) if _suits(model, cache) else None
    return cache.step


def _suits(model, cache):
    maps = [m for block in model.blocks for m in (block.attn.qkv, block.attn.proj, block.mlp.gate, block.mlp.up, block.mlp.down)]
    maps += [] if model.head is None else [model.head]
    arrays = [p.data for p in model.parameters()]
    return (all(type(m) is Linear and m.bias is None for m in maps) and cache.windows == [None] * len(cache.windows)
            and all(block.attn.q_norm is None and block.attn.read_out is None and type(block.norm1) is RMSNorm for block in model.blocks)
            and {a.dtype for a in arrays} == {cache.layers[0][0].dtype} <= set(PRECISIONS) and all(a.flags.c_contiguous for a in arrays))
