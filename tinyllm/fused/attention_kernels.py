"""Attention on blocks of rows: the T × S weights are never held, only those of `ROWS` queries of one head.

Forward, for each head and each block of queries:

    scores = q kᵀ          by the micro-kernel of ops/gemm_kernels.py, tile by tile; tiles that no query may see are left out
    weights = softmax      row by row over the keys that the row may see; the rest of the block is set to 0
    y = weights v

and of each row the logarithm of its sum is kept: from it backward makes the same weights again with one exp each,

    weights = e^(scores - log sum)      dweights = g vᵀ       dscores = weights (dweights - Σ dweights weights) / √D
    dq = dscores k                      dk += dscoresᵀ q      dv += weightsᵀ g

Queries, keys and values are read where they lie, in any strides, so heads packed in one array need no transposing; only
k and v of the head at work are copied, into the order in which the micro-kernel reads them.
"""

import numpy as np

from ..ops.gemm_kernels import aligned, micro_kernel, pack
from ..ops.gemm_vectors import TILE
from .kernels import kernel
from .vector_math import exp, largest

ROWS = 64       # queries at a time: a multiple of every tile's rows


@kernel("view2 out1 int int int", fastmath=set())
def packed(x, panels, start, width, turned):
    """x (n, d) in panels whose lanes are its rows, or with `turned` its columns."""
    if turned:
        pack(x.T, width, panels, start)
    else:
        pack(x, width, panels, start)


@kernel("view2 int int in1 int outview2 int int int int int", fastmath=set())
def times_keys(a, rows, first, panels, start, scores, begin, end, causal, ahead, width):
    """scores[:rows, begin:end] = a[first:first + rows] @ panels; a tile that no query may see is left as it is."""
    size, depth, (a_row, a_step), line = a.itemsize, a.shape[1], a.strides, scores.strides[0]
    for i in range(0, rows, TILE.rows):
        tile_end = min(end, first + i + TILE.rows + ahead) if causal else end
        for j in range(begin, tile_end, width):
            micro_kernel(depth, a, (first + i) * a_row, a_row, a_step, panels, (start + j * depth) * size,
                         scores, i * line + j * size, line, min(TILE.rows, rows - i), width, True)


@kernel("view2 int int int in1 int int outview2 int int int int", fastmath=set())
def weights_times(weights, rows, begin, end, panels, start, depth, y, first, causal, ahead, width):
    """y[first:first + rows] = weights[:rows, begin:end] @ panels[begin:end]."""
    size, line, y_row, columns = y.itemsize, weights.strides[0], y.strides[0], y.shape[1]
    for i in range(0, rows, TILE.rows):
        tile_end = min(end, first + i + TILE.rows + ahead) if causal else end
        for d in range(0, columns, width):
            micro_kernel(tile_end - begin, weights, i * line + begin * size, line, size, panels,
                         (start + d * depth + begin * width) * size, y, (first + i) * y_row + d * size, y_row,
                         min(TILE.rows, rows - i), min(width, columns - d), True)


@kernel("view2 int int int int in1 int outview2 int int int", fastmath=set())
def weights_turned_times(weights, rows, first, begin, end, panels, start, total, causal, ahead, width):
    """total[begin:end] += weights[:rows, begin:end].T @ panels, whose lines are the rows."""
    size, line, row, columns = total.itemsize, weights.strides[0], total.strides[0], total.shape[1]
    for j in range(begin, end, TILE.rows):
        skip = min(max(0, j - ahead - first), rows - 1) if causal else 0        # queries before the key
        for d in range(0, columns, width):
            micro_kernel(rows - skip, weights, skip * line + j * size, size, line, panels, (start + d * rows + skip * width) * size,
                         total, j * row + d * size, row, min(TILE.rows, end - j), min(width, columns - d), False)


@kernel("view4 view4 view4 outview4 outview3 view4 mask4 number int int")
def forward(q, k, v, y, logsum, keep, mask, scale, causal, window):
    """y (B, H, T, E) and logsum (B, H, T) of q (B, H, T, D), k (B, K, S, D), v (B, K, S, E); empty keep or mask: none."""
    batch, heads, queries, D = q.shape
    kv_heads, keys, E = k.shape[1], k.shape[2], v.shape[3]
    group, ahead, one = heads // kv_heads, keys - queries, q.dtype.type(1)
    width = TILE.vectors * TILE.vector_bytes // q.itemsize
    line = -(-keys // width) * width
    scores = np.empty((min(ROWS, queries), line), q.dtype)
    k_panels, k_start = aligned(line * D, q)
    v_panels, v_start = aligned((E + width) * keys, q)
    for b in range(batch):
        for kv in range(kv_heads):
            packed(k[b, kv], k_panels, k_start, width, False)
            packed(v[b, kv], v_panels, v_start, width, True)
            for h in range(kv * group, (kv + 1) * group):
                for first in range(0, queries, ROWS):
                    rows = min(ROWS, queries - first)
                    begin = max(0, first + ahead - window + 1) // width * width
                    end = min(keys, first + rows + ahead) if causal else keys
                    times_keys(q[b, h], rows, first, k_panels, k_start, scores, begin, end, causal, ahead, width)
                    for r in range(rows):
                        at = first + r + ahead
                        low, high = max(0, at - window + 1), (at + 1 if causal else keys)
                        whole = scores[r, begin:end]
                        row = scores[r, low:high]
                        if mask.size:
                            hidden = mask[b, h, first + r, low:high]
                            for j in range(row.size):
                                if hidden[j]:
                                    row[j] = -np.inf
                        top = largest(row)
                        total = top - top
                        for j in range(row.size):
                            e = exp((row[j] - top) * scale)
                            row[j] = e
                            total += e
                        logsum[b, h, first + r] = top * scale + np.log(total)
                        share = one / total
                        for j in range(row.size):
                            row[j] *= share
                        if keep.size:
                            kept = keep[b, h, first + r, low:high]
                            for j in range(row.size):
                                row[j] *= kept[j]
                        whole[:low - begin] = 0
                        whole[high - begin:] = 0
                    weights_times(scores, rows, begin, end, v_panels, v_start, keys, y[b, h], first, causal, ahead, width)


@kernel("view4 view4 view4 view4 view3 outview4 outview4 outview4 view4 mask4 number int int")
def backward(q, k, v, g, logsum, dq, dk, dv, keep, mask, scale, causal, window):
    """dq, dk, dv (the last two given as zeros) for g = dL/dy (B, H, T, E); the rest as in `forward`."""
    batch, heads, queries, D = q.shape
    kv_heads, keys, E = k.shape[1], k.shape[2], v.shape[3]
    group, ahead = heads // kv_heads, keys - queries
    width = TILE.vectors * TILE.vector_bytes // q.itemsize
    line = -(-keys // width) * width
    weights = np.empty((min(ROWS, queries), line), q.dtype)
    dscores = np.empty((min(ROWS, queries), line), q.dtype)
    lanes_keys, lanes_start = aligned(line * D, q)          # k for scores = q kᵀ
    v_panels, v_start = aligned(line * E, q)                # v for dweights = g vᵀ
    k_panels, k_start = aligned((D + width) * keys, q)      # k for dq = dscores k
    q_panels, q_start = aligned((D + width) * ROWS, q)
    g_panels, g_start = aligned((E + width) * ROWS, q)
    for b in range(batch):
        for kv in range(kv_heads):
            packed(k[b, kv], lanes_keys, lanes_start, width, False)
            packed(k[b, kv], k_panels, k_start, width, True)
            packed(v[b, kv], v_panels, v_start, width, False)
            for h in range(kv * group, (kv + 1) * group):
                for first in range(0, queries, ROWS):
                    rows = min(ROWS, queries - first)
                    begin = max(0, first + ahead - window + 1) // width * width
                    end = min(keys, first + rows + ahead) if causal else keys
                    times_keys(q[b, h], rows, first, lanes_keys, lanes_start, weights, begin, end, causal, ahead, width)
                    times_keys(g[b, h], rows, first, v_panels, v_start, dscores, begin, end, causal, ahead, width)
                    for r in range(rows):
                        at = first + r + ahead
                        low, high = max(0, at - window + 1), (at + 1 if causal else keys)
                        row, drow, minus = weights[r, low:high], dscores[r, low:high], logsum[b, h, first + r]
                        for j in range(row.size):
                            row[j] = exp(row[j] * scale - minus)
                        if mask.size:
                            hidden = mask[b, h, first + r, low:high]
                            for j in range(row.size):
                                if hidden[j]:
                                    row[j] = 0
                        along = scale - scale
                        if keep.size:
                            kept = keep[b, h, first + r, low:high]
                            for j in range(row.size):
                                drow[j] *= kept[j]
                        for j in range(row.size):
                            along += drow[j] * row[j]
                        for j in range(row.size):
                            drow[j] = row[j] * (drow[j] - along) * scale
                        if keep.size:
                            kept = keep[b, h, first + r, low:high]
                            for j in range(row.size):
                                row[j] *= kept[j]
                        for x in (weights[r, begin:end], dscores[r, begin:end]):
                            x[:low - begin] = 0
                            x[high - begin:] = 0
                    packed(g[b, h, first:first + rows], g_panels, g_start, width, True)
                    packed(q[b, h, first:first + rows], q_panels, q_start, width, True)
                    weights_turned_times(weights, rows, first, begin, end, g_panels, g_start, dv[b, kv], causal, ahead, width)
                    weights_turned_times(dscores, rows, first, begin, end, q_panels, q_start, dk[b, kv], causal, ahead, width)
                    weights_times(dscores, rows, begin, end, k_panels, k_start, keys, dq[b, h], first, causal, ahead, width)
