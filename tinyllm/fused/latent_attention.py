"""Multi-head latent attention (DeepSeek-V2, 2405.04434): heads whose keys and values are read off one small vector.

    latent = [c, r]                     of each position: d_c numbers for all heads, and a turned key of d_r
    key = [W_k c, r],  value = W_v c    for each head, W_k (d_n, d_c) and W_v (d_v, d_c) being its parts of one map W
    y = attention([q_n, turn(q_r)], key, value)

The two ways to compute this differ in which side of q_n · (W_k c) = (W_kᵀ q_n) · c is worked out:

    naive       keys and values of every head are expanded, then attended to
    absorbed    [W_kᵀ q_n, turn(q_r)] attends to the latents themselves, which all heads share: key [c, r], value c;
                of the mixture of latents W_v makes the heads' results

`latent` makes the vectors of what one map leaves side by side: [x_c, x_r] -> [rms_norm(x_c) · weight, turn(x_r)].
"""

import math

import numpy as np

from .. import ops
from ..ops.matmul import product
from ._op import NOWHERE, Fused, rows, vector
from .attention import attend, attend_backward, by_position, weighted
from .kernels import kernel
from .rms_norm import RMSNorm, rms_norm_rows, rms_norm_rows_backward
from .rope import Rope, turned


def _latent_gradients(g, x, weight, rotation, r):
    """(dx, dweight), both in one sweep over the rows."""
    dx, dweight = turned(g, rotation, 1, start=weight.size, back=True), np.zeros(weight.shape, x.dtype)
    rms_norm_rows_backward(rows(g), rows(x), vector(weight, weight.size, x.dtype), r, rows(dx), dweight)
    return dx, dweight


class Latent(Fused):
    """y = [rms_norm(x_c) · weight, turn(x_r)], x_c being as long as weight"""

    def definition(*inputs, rotation, eps=1e-6):
        (x, weight), (cos, sin, interleaved) = inputs, rotation
        x_c, x_r = x[..., :weight.shape[0]], x[..., weight.shape[0]:]
        turned_part = Rope.definition(x_r, cos.astype(x.dtype), sin.astype(x.dtype), interleaved=interleaved)
        return ops.concatenate([RMSNorm.definition(x_c, weight, eps=eps), turned_part], axis=-1)

    def forward(*inputs, rotation, eps=1e-6, saved=NOWHERE):
        x, weight = inputs
        y = turned(x, rotation, 1, start=weight.size)
        saved.r = r = np.empty(y.size // x.shape[-1], x.dtype)
        rms_norm_rows(rows(x), vector(weight, weight.size, x.dtype), eps, rows(y), r)
        return y

    def grad_inputs(g, inputs, rotation, saved): return _latent_gradients(g, *inputs, rotation, saved.r)

    def samples(rng):
        angles = rng.normal(size=(3, 2))
        for interleaved in (False, True):
            yield rng.normal(size=(2, 1, 3, 7)), rng.normal(size=3), {"rotation": (np.cos(angles), np.sin(angles), interleaved)}
        yield rng.normal(size=(7, 6))[::2, ::-1].T[1:4], rng.normal(size=2), {"rotation": (*np.ones((2, 3, 1)), False), "eps": 0.5}


@kernel("in2 in2 int int out2")
def join_keys(expanded, latent, heads, d_n, keys):
    """key_h = [the first d_n numbers of expanded_h, the last numbers of latent], row by row."""
    size, step = keys.shape[1] // heads, expanded.shape[1] // heads
    first = latent.shape[1] - (size - d_n)
    for n in range(keys.shape[0]):
        shared = latent[n, first:]
        for h in range(heads):
            own = expanded[n, h * step:h * step + d_n]
            out, end = keys[n, h * size:h * size + d_n], keys[n, h * size + d_n:(h + 1) * size]
            for i in range(out.size):
                out[i] = own[i]
            for i in range(end.size):
                end[i] = shared[i]


@kernel("in2 int int out2 out2")
def part_keys(dkeys, heads, d_n, dexpanded, dlatent):
    """The way back: a head's own numbers to dexpanded, the sum of the heads' turned ones to the end of dlatent."""
    size, step = dkeys.shape[1] // heads, dexpanded.shape[1] // heads
    first = dlatent.shape[1] - (size - d_n)
    for n in range(dkeys.shape[0]):
        shared = dlatent[n, first:]
        shared[:] = 0
        for h in range(heads):
            own = dexpanded[n, h * step:h * step + d_n]
            row, end = dkeys[n, h * size:h * size + d_n], dkeys[n, h * size + d_n:(h + 1) * size]
            for i in range(row.size):
                own[i] = row[i]
            for i in range(end.size):
                shared[i] += end[i]


def _sizes(query, latent, weight, n_head):
    """(d_c, d_n): how long a latent is, and the part of a head's key that is not turned."""
    d_c = weight.shape[1]
    return d_c, query.shape[-1] // n_head - (latent.shape[-1] - d_c)


def _heads(x, n_head, B, T):
    """(B, T, H·D) or (B·T, H·D) as (B, H, T, D)."""
    return x.reshape(B, T, n_head, x.shape[-1] // n_head).transpose(0, 2, 1, 3)


def _absorbed(q, W_k):
    """[W_kᵀ q_n, q_r]: queries that meet latents."""
    d_n = W_k.shape[1]
    return np.concatenate([product(q[..., :d_n], W_k), q[..., d_n:]], axis=-1)


def _gradients(g, inputs, n_head, rotation, absorb, factor, keep, mask, saved):
    """(dquery, dlatent, dweight) by the way that forward went."""
    query, latent, weight = inputs
    (d_c, d_n), size, (B, T, _), S = _sizes(*inputs, n_head), query.shape[-1] // n_head, query.shape, latent.shape[2]
    options = True, None, keep, mask, factor / math.sqrt(size)
    q, g = _heads(turned(query, rotation, n_head, d_n, size), n_head, B, T), _heads(g, n_head, B, T)
    dquery, dlatent = np.zeros(query.shape, q.dtype), np.zeros(latent.shape, q.dtype)
    dq = _heads(dquery, n_head, B, T)
    if absorb:
        W = weight.reshape(n_head, -1, d_c)
        q, own = _absorbed(q, W[:, :d_n]), q[..., :d_n]
        dfull, dvalue = np.zeros(q.shape, q.dtype), np.zeros((*latent.shape[:-1], d_c), q.dtype)
        attend_backward(product(g, W[:, d_n:]), q, latent, latent[..., :d_c], saved.logsum, dfull, dlatent, dvalue, *options)
        dlatent[..., :d_c] += dvalue
        dq[..., :d_n], dq[..., d_n:] = product(dfull[..., :d_c], W[:, :d_n].mT), dfull[..., d_c:]
        parts = product(own.mT, dfull[..., :d_c]), product(g.mT, saved.mixed)               # of W_k and of W_v, row by row of the batch
        dweight = np.concatenate(parts, axis=2).sum(axis=0)
    else:
        keys = np.empty((B * S, n_head * size), q.dtype)
        join_keys(saved.expanded, rows(latent), n_head, d_n, keys)
        k, v = _heads(keys, n_head, B, S), _heads(saved.expanded, n_head, B, S)[..., d_n:]
        dkeys, dexpanded = np.zeros(keys.shape, q.dtype), np.zeros(saved.expanded.shape, q.dtype)
        dk, dv = _heads(dkeys, n_head, B, S), _heads(dexpanded, n_head, B, S)[..., d_n:]
        attend_backward(g, q, k, v, saved.logsum, dq, dk, dv, *options)
        part_keys(dkeys, n_head, d_n, dexpanded, rows(dlatent))
        rows(dlatent)[:, :d_c] = product(dexpanded, weight)
        dweight = product(dexpanded.T, rows(latent)[:, :d_c])
    return turned(dquery, rotation, n_head, d_n, size, back=True), dlatent, dweight.reshape(weight.shape)


class LatentAttention(Fused):
    """y (B, T, H·d_v) of queries (B, T, H (d_n + d_r)), latents (B, 1, S, d_c + d_r) and the map W (H (d_n + d_v), d_c)"""

    def definition(*inputs, n_head, rotation, absorb=False, factor=1.0, keep=None, mask=None):
        return latent_weighted(*inputs, n_head, rotation, absorb, factor, keep, mask)[0]

    def forward(*inputs, n_head, rotation, absorb=False, factor=1.0, keep=None, mask=None, saved=NOWHERE):
        query, latent, weight = inputs
        (d_c, d_n), size, (B, T, _), S = _sizes(*inputs, n_head), query.shape[-1] // n_head, query.shape, latent.shape[2]
        options = True, None, keep, mask, factor / math.sqrt(size)
        q = _heads(turned(query, rotation, n_head, d_n, size), n_head, B, T)                    # (B, H, T, d_n + d_r)
        if absorb:
            W = weight.reshape(n_head, -1, d_c)                                                 # (H, d_n + d_v, d_c)
            saved.mixed = mixed = by_position((B, n_head, T, d_c), q.dtype)
            saved.logsum = attend(_absorbed(q, W[:, :d_n]), latent, latent[..., :d_c], mixed, *options)
            y = product(mixed, W[:, d_n:].mT)                                                   # (B, H, T, d_v)
        else:
            saved.expanded = expanded = product(rows(latent)[:, :d_c], weight.T)                # (B·S, H (d_n + d_v))
            keys = np.empty((len(expanded), n_head * size), q.dtype)
            join_keys(expanded, rows(latent), n_head, d_n, keys)
            k, v = _heads(keys, n_head, B, S), _heads(expanded, n_head, B, S)[..., d_n:]
            y = by_position((B, n_head, T, v.shape[-1]), q.dtype)
            saved.logsum = attend(q, k, v, y, *options)
        return y.transpose(0, 2, 1, 3).reshape(B, T, n_head * y.shape[-1])

    def grad_inputs(g, inputs, n_head, rotation, absorb, factor, keep, mask, saved):
        return _gradients(g, inputs, n_head, rotation, absorb, factor, keep, mask, saved)

    def samples(rng):
        def draw(T, S, **attributes):
            angles = rng.normal(size=(T, 1))
            return (rng.normal(size=(2, T, 10)), rng.normal(size=(2, 1, S, 6)), rng.normal(size=(14, 4)),
                    {"n_head": 2, "rotation": (np.cos(angles), np.sin(angles), True), **attributes})

        keep, mask = 2.0 * (rng.random((2, 2, 3, 3)) < 0.5), np.zeros((2, 1, 3, 3), bool)
        mask[0, 0, 1:, 0] = True
        for absorb in (False, True):
            yield draw(3, 3, absorb=absorb, keep=keep, mask=mask)
            yield draw(2, 4, absorb=absorb, factor=1.5)


def latent_weighted(query, latent, weight, n_head, rotation, absorb=False, factor=1.0, keep=None, mask=None):
    """The definition, with its weights: (y (B, T, H·d_v), weights (B, H, T, S))."""
    (B, T, _), (d_c, d_n) = query.shape, _sizes(query, latent, weight, n_head)
    cos, sin = (angles.astype(query.dtype) for angles in rotation[:2])
    query = query.reshape(B, T, n_head, query.shape[-1] // n_head).transpose(0, 2, 1, 3)        # (B, H, T, d_n + d_r)
    q_nope, q_rope = query[..., :d_n], Rope.definition(query[..., d_n:], cos, sin, interleaved=rotation[2])
    W = weight.reshape(n_head, -1, d_c)
    W_k, W_v = W[:, :d_n], W[:, d_n:]                                                           # (H, d_n, d_c), (H, d_v, d_c)
    c, r = latent[..., :d_c], latent[..., d_c:]                                                 # (B, 1, S, d_c), (B, 1, S, d_r)
    if absorb:
        q, key, value = ops.concatenate([q_nope @ W_k, q_rope], axis=-1), latent, c
    else:
        shared = ops.broadcast_to(r, (B, n_head, *r.shape[2:]))
        q, key, value = ops.concatenate([q_nope, q_rope], axis=-1), ops.concatenate([c @ W_k.mT, shared], axis=-1), c @ W_v.mT
    scale = factor * math.sqrt(q.shape[-1] / query.shape[-1])       # attention divides by √ of the size that it is given
    y, weights = weighted(q * scale, key, value, keep=keep, mask=mask)
    y = y @ W_v.mT if absorb else y                                                             # (B, H, T, d_v)
    return y.transpose(0, 2, 1, 3).reshape(B, T, n_head * y.shape[-1]), weights


def latent(x, weight, rotation, eps=1e-6):
    """[rms_norm(x_c) · weight, turn(x_r)] of `x` (..., T, d_c + d_r), `weight` (d_c,); `rotation` (cos, sin, interleaved) as in `rope`.

    >>> import numpy as np, tinyllm as tl
    >>> upright = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32), False                # a right angle
    >>> latent(tl.Tensor([[3.0, 4.0, 1.0, 0.0]]), tl.Tensor([1.0, 1.0]), upright).numpy().round(4)
    array([[0.8485, 1.1314, 0.    , 1.    ]], dtype=float32)
    """
    if weight.ndim != 1 or x.shape[-1] != weight.size + 2 * rotation[0].shape[-1] or x.shape[-2] != rotation[0].shape[-2]:
        raise ValueError(f"latent: x {x.shape}, weight {weight.shape}, angles {rotation[0].shape}; expected x (..., T, d_c + d_r), "
                         "weight (d_c,) and angles (T, d_r/2)")
    return Latent.apply(x, weight, rotation=tuple(rotation), eps=eps)


def latent_attention(query, latent, weight, n_head, rotation, *, absorb=False, factor=1.0, keep=None, mask=None, return_weights=False):
    """Attention (B, T, H·d_v) of `query` (B, T, H (d_n + d_r)) over `latent` (B, 1, S, d_c + d_r), by way of `weight` (H (d_n + d_v), d_c).

    `rotation` (cos, sin, interleaved) turns the last d_r numbers of each query; those of `latent` are turned already.
    `absorb`: which of the two ways of the module's text; `factor` multiplies the scores; the rest is as in `attention`.

    >>> import numpy as np, tinyllm as tl
    >>> query, latent, weight = (tl.Tensor(np.ones(shape)) for shape in ((1, 2, 8), (1, 1, 2, 5), (10, 3)))
    >>> latent_attention(query, latent, weight, 2, (np.ones((2, 1)), np.zeros((2, 1)), True)).numpy()       # d_n 2, d_v 3
    array([[[3., 3., 3., 3., 3., 3.],
            [3., 3., 3., 3., 3., 3.]]])
    """
    d_c, d_n = _sizes(query, latent, weight, n_head)
    if (query.ndim != 3 or latent.ndim != 4 or latent.shape[1] != 1 or query.shape[-1] % n_head or len(weight) % n_head
            or latent.shape[-1] - d_c != 2 * rotation[0].shape[-1] or not 0 < d_n < len(weight) // n_head or query.shape[1] > latent.shape[2]):
        raise ValueError(f"latent_attention: query {query.shape}, latent {latent.shape}, weight {weight.shape}, angles {rotation[0].shape} "
                         f"and n_head={n_head}; expected (B, T, H (d_n + d_r)), (B, 1, S, d_c + d_r), (H (d_n + d_v), d_c) and (T, d_r/2)")
    if return_weights:
        return latent_weighted(query, latent, weight, n_head, rotation, absorb, factor, keep, mask)
    return LatentAttention.apply(query, latent, weight, n_head=n_head, rotation=tuple(rotation), absorb=absorb, factor=factor, keep=keep, mask=mask)
