"""A model's next token, written down as operations for a compiled loop.

    h = norm1(x);  q, k, v = qkv h;  q and k turned;  k, v go into the cache
    x += proj · attention(q, all keys, all values)
    h = norm2(x);  x += mlp(h)

is a block of a GPT or a Llama, and each of these a row or a few of the table that fused/token_step.py goes through. In a DeepSeek all
heads attend to the same vectors, the latents c of nn/latent_attention.py with their turned ends, by its absorbed way:

    c = norm(down h);  its end turned;  it goes into the cache
    q = W_kᵀ q for each head, its end turned;  mixed = attention(q, all latents, all c)
    x += proj · (W_v mixed for each head)

and the layer after it reads the matrices of the experts alone that `route` chooses, with whatever scores, groups and biases nn/moe.py
knows. A layer that is none of these raises `Unsuited`: one whose maps are adapted, or latent attention that is told to go the other way.
"""

import math
from typing import NamedTuple

import numpy as np

from ..fused import token_step as ops
from ..fused.kernels import PRECISIONS
from ..nn import Attention, Block, LatentAttention, LayerNorm, Linear, MoE, RMSNorm, SwiGLU

PIECE = 64e3        # bytes of weights that are worth a piece, unless a matrix has so many that MANY are enough
MANY = 256
COLUMNS = {name.lower(): getattr(ops, name) for name in
           """X Y SIZE WEIGHT BIAS SCALES GROUP ADD INDEX PAIRS SLOTS STEP VALUES VALUE_SIZE VALUE_STEP SHARING SCRATCH HEIGHT CHOICE
           CHOSEN GROUPS KEPT SIGMOID NORMALISE""".split()}
LINE = 16           # vectors begin at a multiple of so many numbers


class Unsuited(Exception):
    """A part of a model for which no operation is written."""


class Matrix(NamedTuple):
    """A matrix as operations are given it; in int8 if it has scales."""

    shape: tuple
    weight: int             # address, or that of a list of addresses
    nbytes: int
    scales: int = 0         # likewise
    group: int = 0          # columns to a scale

    def below(self, rows, width):
        """Without so many rows at the top; its numbers, or scales, are `width` bytes each."""
        columns = self.shape[1]
        if not self.scales:
            return self._replace(weight=self.weight + rows * columns * width)
        return self._replace(weight=self.weight + rows * columns, scales=self.scales + rows * columns // self.group * width)


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

    def stored(self, layer):
        """The `Matrix` of a linear map, in whatever precision it is kept."""
        q = getattr(layer, "quantized", None)
        if q is None:
            if type(layer) is not Linear:
                raise Unsuited
            return self.plain(layer.weight.data)
        self.arrays.append(q)
        return Matrix(q.shape, q.ctypes.data, q.nbytes + layer.scales.nbytes, self.address(layer.scales), q.shape[1] // layer.scales.shape[1])

    def plain(self, weight):
        """The `Matrix` of an array."""
        return Matrix(weight.shape, self.address(weight), weight.nbytes)

    def one_of(self, layers):
        """A `Matrix` that is the one of several layers alike that `choice` names."""
        matrices = [self.stored(layer) for layer in layers]
        weights, scales = (np.array(addresses, np.int64) for addresses in zip(*((m.weight, m.scales) for m in matrices)))
        if any(layer.bias is not None for layer in layers) or len({(m.shape, m.nbytes, m.group) for m in matrices}) > 1:
            raise Unsuited
        self.arrays += [weights, scales]
        return matrices[0]._replace(weight=weights.ctypes.data, scales=scales.ctypes.data if scales[0] else 0)

    def linear(self, layer, x, y=None, **columns):
        """y = layer(x), or y += layer(x) with `add`; returns y, room that is made for None."""
        return self.times(self.stored(layer), x, y, bias=self.address(None if layer.bias is None else layer.bias.data), **columns)

    def times(self, matrix, x, y=None, **columns):
        """`linear` for a `Matrix`."""
        rows, size = matrix.shape
        y = self.vector(rows) if y is None else y
        self.add(ops.LINEAR_INT8 if matrix.scales else ops.LINEAR, units=rows, bytes=matrix.nbytes, x=x, y=y, size=size, weight=matrix.weight,
                 scales=matrix.scales, group=matrix.group, **columns)
        return y

    def attention(self, layer, x, y, rotation, kept):
        """y += layer(x): `kept` are the cache's arrays of this layer, keys and values (1, K, S, D) or latents."""
        if type(layer) is LatentAttention:
            return self.latent_attention(layer, x, y, rotation, kept)
        if type(layer) is not Attention or layer.read_out is not None:
            raise Unsuited
        H, K, D = layer.n_head, layer.n_kv_head, layer.head_size
        (keys, values), slots = map(self.address, kept), kept[0].shape[2]
        packed, mixed = self.linear(layer.qkv, x), self.vector(H * D)
        key, value = packed + H * D, packed + (H + K) * D
        if layer.q_norm is not None:
            self.norm(layer.q_norm, packed, packed, units=H)
            self.norm(layer.k_norm, key, key, units=K)
        self.rotate(rotation, packed, H + K, D, D)
        self.remember(keys, slots, key, K, D)
        self.remember(values, slots, value, K, D, beside=True)
        self.attend(H, 1 / math.sqrt(D), x=packed, y=mixed, size=D, weight=keys, values=values, slots=slots, step=D, value_step=D, value_size=D,
                    sharing=H // K)
        self.linear(layer.proj, mixed, y, add=True)

    def latent_attention(self, layer, x, y, rotation, kept):
        """y += layer(x), absorbed: `kept` is the cache's array of latents and turned keys, (1, 1, S, d_c + d_r)."""
        if layer.read_out is not None or layer.absorb is False:
            raise Unsuited
        H, d_c, d_n, d_r, d_v = layer.n_head, layer.d_c, layer.d_n, layer.d_r, layer.d_v
        size, width, slots, (latents,) = d_n + d_r, d_c + d_r, kept[0].shape[2], map(self.address, kept)
        latent = self.linear(layer.kv_down, x)
        if hasattr(layer, "q"):
            query = self.linear(layer.q, x, beside=True)
        else:
            low = self.linear(layer.q_down, x, beside=True)
            self.norm(layer.q_norm, low, low)
            query = self.linear(layer.q_up, low)
        self.norm(layer.kv_norm, latent, latent)
        self.rotate(rotation, latent + d_c, 1, d_r, d_r)
        self.rotate(rotation, query + d_n, H, d_r, size)
        self.remember(latents, slots, latent, 1, width)
        absorbed, mixed, values = (self.vector(H * n) for n in (width, d_c, d_v))
        up = self.stored(layer.kv_up)                               # of each head W_k (d_n, d_c) and below it W_v (d_v, d_c)
        self.heads(ops.ABSORB, H, up, d_n, x=query, size=d_n, step=size, y=absorbed, value_size=d_c, value_step=width)
        self.attend(H, layer.score_factor / math.sqrt(size), x=absorbed, y=mixed, size=width, weight=latents, values=latents, slots=slots,
                    step=width, value_step=width, value_size=d_c, sharing=H)
        self.heads(ops.EXPAND, H, up.below(d_n, self.dtype.itemsize), d_v, x=mixed, size=d_c, step=d_c, y=values, value_size=d_v, value_step=d_v)
        self.linear(layer.proj, values, y, add=True)

    def heads(self, op, heads, matrix, rows, **columns):
        """`absorb` or `expand`, by the first rows of each head's part of a matrix."""
        height = matrix.shape[0] // heads
        self.add(op, units=heads, bytes=matrix.nbytes * rows // height, height=height, weight=matrix.weight, scales=matrix.scales,
                 group=matrix.group, **columns)

    def attend(self, heads, scale, **columns):
        """Attention of each head to what the cache holds."""
        self.add(ops.ATTEND, units=heads, bytes=heads * PIECE, number=scale, scratch=self.vector(heads * columns["slots"]), **columns)
        self.weights -= heads * PIECE

    def rotate(self, rotation, x, heads, size, step):
        """Turn the first `size` numbers of each head, in place; heads begin `step` apart."""
        if rotation is not None:
            cos, sin = self.address(rotation.cos), self.address(rotation.sin)
            self.add(ops.ROTATE, units=heads, x=x, size=size, step=step, weight=cos, bias=sin, pairs=rotation.interleaved)

    def remember(self, kept, slots, x, heads, size, beside=False):
        """Put a vector for each head into the cache."""
        self.add(ops.REMEMBER, units=heads, x=x, size=size, step=size, weight=kept, slots=slots, beside=beside)

    def mlp(self, layer, x, y):
        """y += layer(x), for a SwiGLU, a GPT's or a mixture of experts."""
        from .gpt import MLP            # a module that itself needs this one
        if type(layer) is SwiGLU:
            gate = self.linear(layer.gate, x)
            up = self.linear(layer.up, x, beside=True)
            self.add(ops.GATE, x=up, y=gate, size=up - gate)
            self.linear(layer.down, gate, y, add=True)
        elif type(layer) is MLP:
            hidden = self.linear(layer.fc, x)
            self.add(ops.GELU_TANH if layer.approximate == "tanh" else ops.GELU_ERF, y=hidden, size=self.top - hidden)
            self.linear(layer.proj, hidden, y, add=True)
        elif type(layer) is MoE:
            self.experts(layer, x, y)
        else:
            raise Unsuited

    def experts(self, layer, x, y):
        """y += layer(x), for a mixture of experts: those k that are chosen are read."""
        k, E, v3 = layer.k, len(layer.experts), layer.scoring_func == "sigmoid"
        if any(type(expert) is not SwiGLU for expert in layer.experts):
            raise Unsuited
        logits, chosen, room = self.linear(layer.router, x), self.vector(2 * k), self.vector(E + layer.n_group)
        self.add(ops.ROUTE, number=layer.routed_scaling_factor, x=logits, y=chosen, size=E, scratch=room, chosen=k, groups=layer.n_group,
                 kept=layer.topk_group, sigmoid=v3, normalise=layer.norm_topk_prob, bias=self.address(layer.router_bias.data if v3 else None))
        gate, up, down = (self.one_of([getattr(expert, name) for expert in layer.experts]) for name in ("gate", "up", "down"))
        choices = [dict(choice=chosen + j, chosen=k) for j in range(k)]
        hidden = [(self.times(gate, x, beside=j > 0, **choice), self.times(up, x, beside=True, **choice)) for j, choice in enumerate(choices)]
        for j, (gates, ups) in enumerate(hidden):
            self.add(ops.GATE, x=ups, y=gates, size=ups - gates, beside=j > 0)
        for choice, (gates, _) in zip(choices, hidden):
            self.times(down, gates, y, add=True, **choice)
        if layer.shared is not None:
            self.mlp(layer.shared, x, y)

    def table(self):
        """What `token_step.run` reads: (rows, numbers)."""
        end = [0] * ops.COLUMNS
        end[ops.FIRST] = self.end
        return np.array([*self.rows, end], np.int64), np.array(self.numbers, self.dtype)


def program_for(model, cache):
    """(Program, where its logits are): a GPT's, a Llama's or a DeepSeek's token over this cache; Unsuited for another model."""
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
        if type(block) is not Block:
            raise Unsuited
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
    return program, program.times(program.plain(model.wte.weight.data), x) if model.head is None else program.linear(model.head, x)
