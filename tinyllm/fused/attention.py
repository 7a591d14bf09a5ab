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
from ..engine import threads
from ._op import NOWHERE, Fused, rows
from .rope import Rope, turned
from .softmax import Softmax

EVERYTHING = 1 << 40        # a window that no text fills
SHARED_WORK = 1 << 22       # multiply-adds of the scores from which heads are shared among threads


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


@functools.cache
def _kernels():
    from . import attention_kernels         # needs numba to be imported
    return attention_kernels


def attend(q, k, v, y, causal, window, keep, mask, scale=None):
    """Fill y (B, H, T, E) from q (B, H, T, D), k (B, K, S, D), v (B, K, S, E); returns the logarithms of the rows' sums.

    Scores are multiplied by `scale`, 1/√D if None.
    """
    logsum = np.empty(q.shape[:-1], q.dtype)
    if y.size:
        _share(_kernels().forward, (q, k, v, y, logsum), *_options(q, k, causal, window, keep, mask, scale))
    return logsum


def attend_backward(g, q, k, v, logsum, dq, dk, dv, causal, window, keep, mask, scale=None):
    """Fill dq, dk and dv, the last two given as zeros."""
    if g.size:
        _share(_kernels().backward, (q, k, v, g, logsum, dq, dk, dv), *_options(q, k, causal, window, keep, mask, scale))


def _share(kernel, arrays, keep, mask, *settings):
    """Call a kernel, where there is much to do on several threads: each takes some rows of the batch, or some heads."""
    (B, H, T, D), (_, K, S, _) = arrays[0].shape, arrays[1].shape
    count = threads.num_threads()
    if count == 1 or B * H * T * S * D < SHARED_WORK or max(B, K) == 1:
        return kernel(*arrays, keep, mask, *settings)
    by_row = B >= K
    size = B if by_row else K

    def cut(x, low, high):
        if x.size == 0:
            return x
        return x[low:high] if by_row else x[:, low * x.shape[1] // K:high * x.shape[1] // K]

    bounds = [size * k // count for k in range(count + 1)]
    threads.run([functools.partial(lambda low, high: kernel(*(cut(x, low, high) for x in (*arrays, keep, mask)), *settings), low, high)
                 for low, high in zip(bounds, bounds[1:]) if low < high])


def _options(q, k, causal, window, keep, mask, scale):
    shape = (*q.shape[:-1], k.shape[-2])
    keep = np.empty((0,) * 4, q.dtype) if keep is None else np.asarray(keep, q.dtype).reshape(shape)
    if mask is None:
        mask = np.empty((0,) * 4, bool)
    else:
        mask = np.broadcast_to(mask.reshape(-1, *mask.shape[-3:]) if mask.ndim > 2 else mask, shape)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return keep, mask, q.dtype.type(scale), causal, EVERYTHING if window is None else window


def _four_axes(x):
    """(..., H, T, D) as (B, H, T, D)."""
    return x if x.ndim == 4 else x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:]) if x.ndim > 2 else x[None, None]


def by_position(shape, dtype, make=np.empty):
    """An array (B, H, T, D) that lies in memory as (B, T, H, D): its heads can be put side by side without a copy."""
    B, H, T, D = shape
    return make((B, T, H, D), dtype).transpose(0, 2, 1, 3)


class Attention(Fused):
    """y = softmax(q kᵀ / √D) v, hidden keys left out"""

    def definition(*qkv, causal=True, window=None, keep=None, mask=None):
        return weighted(*qkv, causal, window, keep, mask)[0]

    def forward(*qkv, causal=True, window=None, keep=None, mask=None, saved=NOWHERE):
        q, k, v = map(_four_axes, qkv)
        y = by_position((*q.shape[:-1], v.shape[-1]), q.dtype)
        saved.logsum = attend(q, k, v, y, causal, window, keep, mask)
        return y if qkv[0].ndim == 4 else y.reshape((*qkv[0].shape[:-1], v.shape[-1]))

    def grad_qkv(g, qkv, causal, window, keep, mask, saved):
        q, k, v = map(_four_axes, qkv)
        dq, dk, dv = (by_position(x.shape, x.dtype, np.zeros) for x in (q, k, v))
        attend_backward(_four_axes(g), q, k, v, saved.logsum, dq, dk, dv, causal, window, keep, mask)
        return [d.reshape(x.shape) for d, x in zip((dq, dk, dv), qkv)]

    def samples(rng):
        for (h, t), (k, s), attributes in (((2, 3), (2, 3), {}), ((4, 3), (2, 3), {}), ((2, 2), (1, 5), {}),
                                           ((2, 3), (2, 3), {"causal": False}), ((2, 5), (2, 5), {"window": 2})):
            yield rng.normal(size=(2, h, t, 4)), rng.normal(size=(2, k, s, 4)), rng.normal(size=(2, k, s, 4)), attributes
        yield rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), rng.normal(size=(3, 5)), {}
        yield *rng.normal(size=(3, 2, 2, 1, 3, 2)), {}
        yield *rng.normal(size=(3, 2, 4, 3, 2)), {"keep": 2.0 * (rng.random((2, 4, 3, 3)) < 0.5)}
        padding = np.zeros((2, 1, 3, 3), bool)
        padding[0, :, 1:, 0] = True
        for heads in (2, 1):
            yield rng.normal(size=(2, 2, 3, 4)), *rng.normal(size=(2, 2, heads, 3, 4)), {"mask": padding}


class SelfAttention(Fused):
    """y (B, T, H·D) = attention of H query, K key and K value heads packed in qkv (B, T, (H + 2K) D)"""

    def definition(qkv, *, n_head, n_kv_head=None, rotation=None, causal=True, window=None, keep=None):
        K = n_head if n_kv_head is None else n_kv_head
        B, T, width = qkv.shape
        heads = qkv.reshape(B, T, n_head + 2 * K, -1).transpose(0, 2, 1, 3)              # (B, H + 2K, T, D)
        q, k, v = heads[:, :n_head], heads[:, n_head:n_head + K], heads[:, n_head + K:]
        if rotation is not None:
            tables = [angles.astype(qkv.dtype) for angles in rotation[:2]]
            q, k = (Rope.definition(x, *tables, interleaved=rotation[2]) for x in (q, k))
        y = weighted(q, k, v, causal, window, keep)[0]                                   # (B, H, T, D)
        return y.transpose(0, 2, 1, 3).reshape(B, T, -1)

    def forward(qkv, *, n_head, n_kv_head=None, rotation=None, causal=True, window=None, keep=None, saved=NOWHERE):
        q, k, v = _unpacked(qkv, n_head, n_kv_head, rotation)
        y = by_position(q.shape, q.dtype)
        saved.logsum = attend(q, k, v, y, causal, window, keep, None)
        return _packed(y)

    def grad_qkv(g, qkv, n_head, n_kv_head, rotation, causal, window, keep, saved):
        q, k, v = _unpacked(qkv, n_head, n_kv_head, rotation)
        dqkv = np.zeros(qkv.shape, qkv.dtype)
        dq, dk, dv = _unpacked(dqkv, n_head, n_kv_head)
        g = g.reshape(*g.shape[:2], n_head, -1).transpose(0, 2, 1, 3)
        attend_backward(g, q, k, v, saved.logsum, dq, dk, dv, causal, window, keep, None)
        return dqkv if rotation is None else turned(dqkv, rotation, dq.shape[1] + dk.shape[1], step=q.shape[-1], back=True)

    def samples(rng):
        yield rng.normal(size=(2, 3, 12)), {"n_head": 2}
        yield rng.normal(size=(1, 4, 6)), {"n_head": 1, "window": 2}
        yield rng.normal(size=(2, 2, 12)), {"n_head": 4, "causal": False}
        yield rng.normal(size=(2, 3, 12)), {"n_head": 2, "keep": 2.0 * (rng.random((2, 2, 3, 3)) < 0.5)}
        angles = rng.normal(size=(3, 2))
        for interleaved in (False, True):
            yield rng.normal(size=(2, 3, 16)), {"n_head": 2, "n_kv_head": 1, "rotation": (np.cos(angles), np.sin(angles), interleaved)}


def _unpacked(qkv, n_head, n_kv_head=None, rotation=None):
    """Views (B, H or K, T, D) of the queries, keys and values in (B, T, (H + 2K) D); with a rotation, of turned queries and keys."""
    K = n_head if n_kv_head is None else n_kv_head
    heads = qkv.reshape(*qkv.shape[:2], n_head + 2 * K, -1).transpose(0, 2, 1, 3)
    first = heads
    if rotation is not None:
        first = turned(qkv, rotation, n_head + K, step=heads.shape[-1]).reshape(*qkv.shape[:2], n_head + 2 * K, -1).transpose(0, 2, 1, 3)
    return first[:, :n_head], first[:, n_head:n_head + K], heads[:, n_head + K:]


def _packed(y):
    """(B, H, T, D) as (B, T, H·D)."""
    return y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)


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
    if not (len(q) >= 2 and k[:-1] == v[:-1] and q[-1] == k[-1] and heads and q[-2] <= k[-2] and q[-1]):
        raise ValueError(f"attention: query {q}, key {k}, value {v}; expected query (..., H, T, D), key (..., K, S, D) and value "
                         "(..., K, S, any) with H a multiple of K and S at least T")


def self_attention(qkv, n_head, n_kv_head=None, *, rotation=None, causal=True, window=None, keep=None):
    """Attention of a sequence to itself, heads packed as one linear map leaves them: (B, T, (H + 2K) D) -> (B, T, H·D).

    The last axis of `qkv` holds `n_head` heads of queries, then `n_kv_head` (None: as many) of keys and of values.
    `rotation` (cos, sin, interleaved) turns queries and keys, as in `rope`. The rest is as in `attention`.

    >>> import numpy as np, tinyllm as tl
    >>> self_attention(tl.Tensor(np.ones((1, 4, 12), np.float32)), n_head=2).shape
    (1, 4, 4)
    """
    heads = n_head + 2 * (n_head if n_kv_head is None else n_kv_head)
    if qkv.ndim != 3 or qkv.shape[-1] % heads or n_head % (n_kv_head or n_head):
        raise ValueError(f"self_attention: qkv {qkv.shape} with n_head={n_head}, n_kv_head={n_kv_head}; expected (B, T, (H + 2K) D) "
                         f"with H a multiple of K, that is a last axis that is a multiple of {heads}")
    return SelfAttention.apply(qkv, n_head=n_head, n_kv_head=n_kv_head, rotation=rotation, causal=causal, window=window, keep=keep)
