"""Weights of 8 bits for drawing text (llama2.c's and llama.cpp's Q8_0): a quarter of the memory that each new token has to read.

Each row of a matrix is cut into groups of up to 64 numbers; a group keeps one float32 scale and a whole number from -127 to 127
for each weight:

    scale = max |w| / 127          q = round(w / scale)          w ≈ q · scale, off by at most scale / 2

    light = quantized(model)       a copy; linear maps are int8; tables, norms and the routers of experts stay

Few rows at a time, as when text is drawn, are multiplied by the small numbers directly; many rows, as in a prompt, by
the matrix written out. Nothing is learned in int8.
"""

import copy
import math

import numpy as np

from ..engine import STATE, Tensor, no_grad
from ..fused.kernels import kernel
from ..fused.token_step import compiled, int8_matrix_times
from ..nn import Linear, Module
from ..nn import functional as F

GROUP = 64
FEW = 4         # rows up to which the kernel is faster than writing the matrix out
KEPT = "router"     # of experts, whose choice could change


def group_size(columns):
    """64, halved until it divides the number of columns, as llama2.c does.

    >>> group_size(288), group_size(172)
    (32, 4)
    """
    size = GROUP
    while columns % size:
        size //= 2
    return size


def quantize(weight):
    """(int8 (out, in), scales (out, in / group)) of a matrix.

    >>> q, scales = quantize(np.array([[127.0, -1.0], [0.0, 0.0]], np.float32))
    >>> q.tolist(), scales.tolist()
    ([[127, -1], [0, 0]], [[1.0], [0.0]])
    """
    groups = weight.reshape(len(weight), -1, group_size(weight.shape[1]))               # (out, groups, group)
    scales = np.abs(groups).max(axis=-1) / weight.dtype.type(127)                       # (out, groups)
    q = np.rint(groups / np.where(scales > 0, scales, 1)[..., None]).astype(np.int8)
    return q.reshape(weight.shape), scales


def dequantize(q, scales):
    """The matrix (out, in) that `quantize` stands for."""
    return (q.reshape(*scales.shape, -1) * scales[..., None]).reshape(q.shape)


@kernel("in2 byte2 in2 out2")
def multiply(x, q, scales, y):
    """y[n, o] = Σ_g scales[o, g] · Σ over the columns j of group g of x[n, j] · q[o, j]."""
    for o in range(q.shape[0]):
        for n in range(x.shape[0]):
            int8_matrix_times(x[n], q[o], scales[o], q.shape[1] // scales.shape[1], y[n, o:o + 1])


class Int8Linear(Module):
    """y = x Wᵀ + b for x (..., in), with W in int8; made from a matrix (out, in) and a bias (out,) or None."""

    def __init__(self, matrix, bias=None):
        q, scales = quantize(matrix)
        self.add_buffer("quantized", q)
        self.add_buffer("scales", scales)
        self.bias = bias

    def forward(self, x):
        rows = x.size // x.shape[-1]
        if rows > FEW or x.requires_grad or not STATE.fused:
            return F.linear(x, self.matrix(), self.bias)
        y = np.empty((rows, len(self.quantized)), x.dtype)
        compiled(multiply, x.dtype)(np.ascontiguousarray(x.numpy()).reshape(rows, -1), self.quantized, self.scales.astype(x.dtype, copy=False), y)
        if self.bias is not None:
            y += self.bias.numpy()
        return Tensor(y.reshape(*x.shape[:-1], -1))

    def matrix(self):
        """The matrix written out."""
        return Tensor(dequantize(self.quantized, self.scales))

    def details(self):
        outputs, inputs = self.quantized.shape
        return f"{inputs}, {outputs}, bias={self.bias is not None}, int8 in groups of {inputs // self.scales.shape[1]}"


def quantized(model):
    """A copy of `model` in eval mode whose linear maps, but for routers, are int8; a tied head becomes a matrix of its own."""
    model = copy.deepcopy(model)
    for _, owner in list(model.named_modules()):
        for name, child in owner.children():
            if isinstance(child, Linear) and name != KEPT:
                setattr(owner, name, Int8Linear(child.matrix().numpy(), child.bias))
    if model.head is None:
        model.head = Int8Linear(model.wte.weight.numpy())
    return model.eval().requires_grad_(False)


def weight_bytes(model):
    """Bytes that the parameters and the int8 matrices of a model take."""
    return sum(p.numpy().nbytes for p in model.parameters()) + sum(buffer.nbytes for buffer in model.buffers())


def perplexity(model, ids):
    """exp of the mean loss over `ids` (T,) in nats, each token given all before it in its window of `block_size`; NaN for one id.

    >>> from tinyllm.models import GPT, GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=10, n_layer=1, n_head=1, n_embd=4, block_size=4, init_std=0.0))
    >>> round(perplexity(model, [1, 2, 3, 4, 5, 6]), 4)      # knows nothing: as good as one of 10 at random
    10.0
    """
    ids, size = np.asarray(ids), model.config.block_size
    total = 0.0
    with no_grad():
        for start in range(0, len(ids) - 1, size):
            window = ids[None, start:start + size + 1]
            total += model.loss(window[:, :-1], window[:, 1:]).item() * (window.shape[1] - 1)
    return math.exp(total / (len(ids) - 1)) if len(ids) > 1 else math.nan
