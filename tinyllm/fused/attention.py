"""Scaled dot-product attention (Vaswani et al. 2017).

    scores = q kᵀ / √D              how well query i and key j agree                    (…, T, S)
    weights = softmax(scores)       over the keys j; hidden keys have score -∞, weight 0
    y = weights v                   a mean of the values, by weight                     (…, T, D)

With g = dL/dy the chain runs back through the same three lines:

    dv = weightsᵀ g                 dweights = g vᵀ
    dscores = weights · (dweights - rowsum(dweights · weights))         the softmax rule
    dq = dscores k / √D             dk = dscoresᵀ q / √D

rowsum(dweights · weights) = rowsum(g · y), because y = weights v: a sum over D numbers in place of one over S.
Under dropout the weights that meet v are weights · keep, and the identity still holds.

There may be fewer key/value heads than query heads (grouped queries, Ainslie et al. 2023): each serves
H / K consecutive query heads. With S > T the T queries are the last of the S positions (a cache holds the rest).
"""

import functools
import math

import numpy as np

from .. import ops
from ..ops.matmul import product
from ._op import NOWHERE, Fused
from .softmax import Softmax


@functools.lru_cache(maxsize=16)
def hidden(queries, keys, causal=True, window=None):
    """Which keys a query may not see, (T, S) of bool, or None if it sees all.

    Query i stands at position p = i + S - T; it sees key j if j <= p (causal) and p - window < j.
    """
    if window is None and (not causal or queries == 1):
        return None
    ahead = np.arange(keys) - (np.arange(queries)[:, None] + keys - queries)      # j - p
    mask = np.zeros((queries, keys), bool)
    if causal:
        mask |= ahead > 0
    if window is not None:
        mask |= ahead <= -window
    mask.flags.writeable = False
    return mask


@functools.lru_cache(maxsize=16)
def _penalty(dtype, *span):
    """`hidden` as numbers to add to scores: 0 or -∞."""
    mask = hidden(*span)
    return None if mask is None else np.where(mask, -np.inf, 0).astype(dtype)


def attend(q, k, v, causal, window, keep, mask=None, out=None):
    """(y, weights before dropout), on arrays whose leading axes broadcast."""
    weights = product(q, k.mT)
    weights *= weights.dtype.type(1 / math.sqrt(q.shape[-1]))
    penalty = _penalty(weights.dtype, q.shape[-2], k.shape[-2], causal, window)
    if penalty is not None:
        weights += penalty
    if mask is not None:
        np.copyto(weights, -np.inf, where=mask)
    weights -= weights.max(axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = weights if keep is None else weights * keep
    return product(mixed, v) if out is None else np.matmul(mixed, v, out=out), weights


def attend_backward(g, y, q, k, v, weights, keep):
    """(dq, dk, dv) of `attend`, in the shapes of y and of weightsᵀ g."""
    dv = product((weights if keep is None else weights * keep).mT, g)
    dscores = product(g, v.mT)
    if keep is not None:
        dscores *= keep
    dscores -= (g * y).sum(axis=-1, keepdims=True)
    dscores *= weights
    dscores *= weights.dtype.type(1 / math.sqrt(q.shape[-1]))
    return product(dscores, k), product(dscores.mT, q), dv


def _grouped(q, k, v):
    """Query heads by the key/value head that serves them: q (..., K, H/K, T, D), k and v (..., K, 1, S, D)."""
    if q.shape[:-2] == k.shape[:-2]:
        return q, k, v
    group = q.shape[-3] // k.shape[-3]
    q = q.reshape((*k.shape[:-2], group, *q.shape[-2:]))
    return q, *(x.reshape((*x.shape[:-2], 1, *x.shape[-2:])) for x in (k, v))


def _for_groups(mask, grouped, query):
    """`mask` (…, 1, T, S) with an axis for the groups where the queries have got one."""
    return mask if mask is None or grouped.ndim == query.ndim else mask[..., None, :, :]


class Attention(Fused):
    """y = softmax(q kᵀ / √D) v, hidden keys left out"""

    def definition(*qkv, causal=True, window=None, keep=None, mask=None):
        return weighted(*qkv, causal, window, keep, mask)[0]

    def forward(*qkv, causal=True, window=None, keep=None, mask=None, saved=NOWHERE):
        q, k, v = _grouped(*qkv)
        keep = None if keep is None else keep.reshape((*q.shape[:-1], k.shape[-2]))
        y, saved.weights = attend(q, k, v, causal, window, keep, _for_groups(mask, q, qkv[0]))
        return y.reshape((*qkv[0].shape[:-1], v.shape[-1]))

    def grad_qkv(g, y, qkv, keep, saved):
        q, k, v = _grouped(*qkv)
        keep = None if keep is None else keep.reshape(saved.weights.shape)
        dq, dk, dv = attend_backward(g.reshape((*q.shape[:-1], -1)), y.reshape((*q.shape[:-1], -1)), q, k, v, saved.weights, keep)
        if q.ndim > qkv[0].ndim:        # a key head collects from the query heads it serves
            dk, dv = dk.sum(axis=-3), dv.sum(axis=-3)
        return dq.reshape(qkv[0].shape), dk, dv

    def samples(rng):
        for (h, t), (k, s), attributes in (((2, 3), (2, 3), {}), ((4, 3), (2, 3), {}), ((2, 2), (1, 5), {}),
                                           ((2, 3), (2, 3), {"causal": False}), ((2, 5), (2, 5), {"window": 2})):
            yield rng.normal(size=(2, h, t, 4)), rng.normal(size=(2, k, s, 4)), rng.normal(size=(2, k, s, 4)), attributes
        yield rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), rng.normal(size=(3, 5)), {}
        yield *rng.normal(size=(3, 2, 4, 3, 2)), {"keep": 2.0 * (rng.random((2, 4, 3, 3)) < 0.5)}
        padding = np.zeros((2, 1, 3, 3), bool)
        padding[0, :, 1:, 0] = True
        for heads in (2, 1):
            yield rng.normal(size=(2, 2, 3, 4)), *rng.normal(size=(2, 2, heads, 3, 4)), {"mask": padding}


class SelfAttention(Fused):
    """y (B, T, C) = attention of the heads packed in qkv (B, T, 3C)"""

    def definition(qkv, *, n_head, causal=True, window=None, keep=None):
        B, T, C3 = qkv.shape
        heads = qkv.reshape(B, T, 3, n_head, -1).transpose(2, 0, 3, 1, 4)                # (3, B, H, T, D)
        y = weighted(heads[0], heads[1], heads[2], causal, window, keep)[0]              # (B, H, T, D)
        return y.transpose(0, 2, 1, 3).reshape(B, T, C3 // 3)

    def forward(qkv, *, n_head, causal=True, window=None, keep=None, saved=NOWHERE):
        B, T, C3 = qkv.shape
        y = np.empty((B, T, C3 // 3), qkv.dtype)
        _, saved.weights = attend(*_unpacked(qkv, n_head), causal, window, keep, out=_heads(y, n_head))
        return y

    def grad_qkv(g, y, qkv, n_head, keep, saved):
        dqkv = np.empty(qkv.shape, qkv.dtype)
        grads = attend_backward(_heads(g, n_head), _heads(y, n_head), *_unpacked(qkv, n_head), saved.weights, keep)
        for to, gradient in zip(_unpacked(dqkv, n_head), grads):
            to[...] = gradient
        return dqkv

    def samples(rng):
        yield rng.normal(size=(2, 3, 12)), {"n_head": 2}
        yield rng.normal(size=(1, 4, 6)), {"n_head": 1, "window": 2}
        yield rng.normal(size=(2, 2, 12)), {"n_head": 4, "causal": False}
        yield rng.normal(size=(2, 3, 12)), {"n_head": 2, "keep": 2.0 * (rng.random((2, 2, 3, 3)) < 0.5)}


def _heads(x, n_head):
    """A view of x (B, T, C) as (B, H, T, D)."""
    return x.reshape(*x.shape[:2], n_head, -1).transpose(0, 2, 1, 3)


def _unpacked(qkv, n_head):
    """Views (3, B, H, T, D) of queries, keys and values packed in (B, T, 3C)."""
    return qkv.reshape(*qkv.shape[:2], 3, n_head, -1).transpose(2, 0, 3, 1, 4)


def weighted(query, key, value, causal=True, window=None, keep=None, mask=None):
    """The definition, with its weights: (y (..., H, T, D), weights (..., H, T, S))."""
    q, k, v = _grouped(query, key, value)
    scores = ops.matmul(q, k.mT) * (1 / math.sqrt(q.shape[-1]))                           # (..., T, S)
    for unseen in (hidden(q.shape[-2], k.shape[-2], causal, window), _for_groups(mask, q, query)):
        if unseen is not None:
            scores = ops.masked_fill(scores, unseen, value=-np.inf)
    weights = Softmax.apply(scores, axis=-1)
    mixed = weights if keep is None else weights * keep.reshape(weights.shape)
    y = ops.matmul(mixed, v)                                                              # (..., T, D)
    return y.reshape((*query.shape[:-1], value.shape[-1])), weights.reshape((*query.shape[:-1], key.shape[-2]))


def attention(query, key, value, *, causal=True, window=None, keep=None, mask=None, return_weights=False):
    """softmax(q kᵀ / √D) v: `query` (..., H, T, D), `key` and `value` (..., K, S, D) with K dividing H.

    `causal`: query i sees the keys up to its own position, i + S - T; `window`: only the last `window` of them;
    `keep` (..., H, T, S): dropout's mask, from `keep_mask`; `mask` (..., 1, T, S) of bool: further keys that are hidden, such
    as padding (every query must be left one it sees). With `return_weights` (y, weights), both in the graph.

    >>> import numpy as np, tinyllm as tl
    >>> x = tl.Tensor(np.eye(3)[None])                     # one head, three tokens
    >>> _, weights = attention(x, x, x, return_weights=True)
    >>> weights.numpy().round(2)
    array([[[1.  , 0.  , 0.  ],
            [0.36, 0.64, 0.  ],
            [0.26, 0.26, 0.47]]])
    """
    _check(query, key, value)
    if window is not None and window < 1:
        raise ValueError(f"attention: window={window}; expected at least 1 (a token sees itself) or None")
    if return_weights:
        return weighted(query, key, value, causal, window, keep, mask)
    return Attention.apply(query, key, value, causal=causal, window=window, keep=keep, mask=mask)


def _check(query, key, value):
    q, k, v = query.shape, key.shape, value.shape
    heads = q[:-2] == k[:-2] or len(q) > 2 and len(q) == len(k) and q[:-3] == k[:-3] and k[-3] and q[-3] % k[-3] == 0
    if not (len(q) >= 2 and k[:-1] == v[:-1] and q[-1] == k[-1] and heads and q[-2] <= k[-2]):
        raise ValueError(f"attention: query {q}, key {k}, value {v}; expected query (..., H, T, D), key (..., K, S, D) and value "
                         "(..., K, S, any) with H a multiple of K and S at least T")


def self_attention(qkv, n_head, *, causal=True, window=None, keep=None):
    """Attention of a sequence to itself, heads packed as one linear map leaves them: (B, T, 3C) -> (B, T, C).

    The last axis of `qkv` holds queries, keys, values, each `n_head` heads of C / n_head numbers. The rest is as in
    `attention`.

    >>> import numpy as np, tinyllm as tl
    >>> self_attention(tl.Tensor(np.ones((1, 4, 12), np.float32)), n_head=2).shape
    (1, 4, 4)
    """
    if qkv.ndim != 3 or qkv.shape[-1] % (3 * n_head):
        raise ValueError(f"self_attention: qkv {qkv.shape} with n_head={n_head}; expected (B, T, 3C) with C a multiple of n_head")
    return SelfAttention.apply(qkv, n_head=n_head, causal=causal, window=window, keep=keep)
