"""What a token's operations do with vectors: norms, products with a matrix, rotation, attention, and the choice of experts.

One vector is multiplied at a time, so each weight is read for two operations and nothing is packed. token_step.py says which of these
follow one another; each is a loop that the compiler makes vector instructions of, but for the choice, which looks at a few numbers.

Latent attention needs both parts of a head's map: by the transposed one a query is turned into latent space, which adds up rows
(`add_up`), and by the other, as it stands, the mixture of latents becomes the head's result (`matrix_times`).
"""

import numpy as np

from .eight_rows import LANES, ROWS, add_eights, eight_dots, int8_dot
from .gates import best_rows, pick_rows, sigmoid_rows
from .kernels import kernel
from .softmax import softmax_rows
from .vector_math import exp, largest

COMMON = 64             # columns of int8 to a scale in most models
NEAR = 4096             # numbers of rows that are worked on at a time, while the caches have them


@kernel("in1 in1 number out1")
def rms_norm(x, weight, eps, y):
    """y = x / √(mean(x²) + eps) · weight"""
    square = x.dtype.type(0)
    for i in range(x.size):
        square += x[i] * x[i]
    r = x.dtype.type(1) / np.sqrt(square / x.dtype.type(x.size) + eps)
    for i in range(x.size):
        y[i] = x[i] * r * weight[i]


@kernel("in1 in1 number out1")
def layer_norm(x, weight, eps, y):
    """y = (x - mean) / √(var + eps) · weight"""
    total, square = x.dtype.type(0), x.dtype.type(0)
    for i in range(x.size):
        total += x[i]
    mean = total / x.dtype.type(x.size)
    for i in range(x.size):
        square += (x[i] - mean) * (x[i] - mean)
    r = x.dtype.type(1) / np.sqrt(square / x.dtype.type(x.size) + eps)
    for i in range(x.size):
        y[i] = (x[i] - mean) * r * weight[i]


@kernel("in1 in1 out1")
def matrix_times(weight, x, y):
    """y = W x for the rows of W one behind the other; row by row, for a core reads one stream of memory faster than several."""
    for i in range(y.size):
        row, total = weight[i * x.size:(i + 1) * x.size], x.dtype.type(0)
        for j in range(x.size):
            total += row[j] * x[j]
        y[i] = total


@kernel("in1 byte1 in1 int out1")
def int8_matrix_times(x, q, scales, group, y):
    """y[o] = Σ_g scales[o, g] · Σ over the columns j of group g of x[j] · q[o, j], for rows of q and scales one behind the other."""
    groups = x.size // group
    for o in range(y.size):
        row, factors = q[o * x.size:(o + 1) * x.size], scales[o * groups:(o + 1) * groups]
        if group == COMMON:         # said twice, for the compiler writes out a loop whose length it knows
            y[o] = int8_dot(x, row, factors, COMMON)
            continue
        if group % LANES == 0:
            y[o] = int8_dot(x, row, factors, group)
            continue
        total = x.dtype.type(0)
        for g in range(groups):
            small, some, part = row[g * group:(g + 1) * group], x[g * group:(g + 1) * group], x.dtype.type(0)
            for j in range(group):
                part += some[j] * x.dtype.type(small[j])
            total += part * factors[g]
        y[o] = total


@kernel("out1 in1 in1 int")
def rotate(head, cos, sin, interleaved):
    """Turn each pair of a head's numbers by its angle, in place."""
    half = cos.size
    for i in range(half):
        first, second = (2 * i, 2 * i + 1) if interleaved else (i, i + half)
        a, b = head[first], head[second]
        head[first], head[second] = a * cos[i] - b * sin[i], a * sin[i] + b * cos[i]


@kernel("in1 in1 int out1")
def add_up(shares, rows, step, y):
    """y = Σ_s shares[s] · row s; row s begins at s · step."""
    size, count = y.size, shares.size
    for d in range(size):
        y[d] = 0
    near = max(1, NEAR // (size * ROWS)) * ROWS
    for s in range(0, count if size % ROWS == 0 else 0, near):
        add_eights(shares[s:s + near], rows[s * step:], step, y)
    for s in range(count // ROWS * ROWS if size % ROWS == 0 else 0, count):
        row = rows[s * step:s * step + size]
        for d in range(size):
            y[d] += shares[s] * row[d]


@kernel("in1 byte1 in1 int out1")
def int8_add_up(shares, q, scales, group, y):
    """`add_up` for rows of q one behind the other, with a scale to each group of their columns."""
    groups = y.size // group
    for d in range(y.size):
        y[d] = 0
    for s in range(shares.size):
        for g in range(groups):
            small, out = q[s * y.size + g * group:s * y.size + (g + 1) * group], y[g * group:(g + 1) * group]
            share = shares[s] * scales[s * groups + g]
            for d in range(group):
                out[d] += share * y.dtype.type(small[d])


@kernel("in1 in1 int in1 int number out1 out1")
def attend(query, keys, step, values, value_step, scale, weights, y):
    """y = Σ_s softmax_s(scale · query · key s) value s; key s begins at s · step; `weights` (S,) is room to work in."""
    size, seen = query.size, weights.size
    eights = seen // ROWS * ROWS
    for s in range(0, eights if size % ROWS == 0 else 0, ROWS):
        eight_dots(query, keys[s * step:], step, weights[s:])
    for s in range(eights if size % ROWS == 0 else 0, seen):
        row, total = keys[s * step:s * step + size], query.dtype.type(0)
        for d in range(size):
            total += query[d] * row[d]
        weights[s] = total
    for s in range(seen):
        weights[s] *= scale
    top, total = largest(weights), query.dtype.type(0)
    for s in range(seen):
        e = exp(weights[s] - top)
        weights[s] = e
        total += e
    add_up(weights, values, value_step, y)
    for d in range(y.size):
        y[d] /= total


@kernel("out1 int int int out1")
def limit_groups(ranks, groups, kept, two, worth):
    """-∞ to all but the `kept` groups whose best, or two best, have the largest sum; of equals the first. `worth` (G,) is room."""
    size, none = ranks.size // groups, ranks.dtype.type(-np.inf)
    for g in range(groups):
        first, second = none, none
        for i in range(g * size, (g + 1) * size):
            if ranks[i] > first:
                first, second = ranks[i], first
            elif ranks[i] > second:
                second = ranks[i]
        worth[g] = first + second if two else first
    for _ in range(groups - kept):
        worst = 0
        for g in range(1, groups):
            if worth[g] <= worth[worst]:
                worst = g
        worth[worst] = np.inf
        for i in range(worst * size, (worst + 1) * size):
            ranks[i] = none


@kernel("out1 in1 int int int int number out1 out1")
def route(logits, bias, groups, kept, sigmoid, normalise, factor, room, chosen):
    """chosen (2k,) = k experts, the best first, and their gates, as nn/moe.py says; `logits` (E,) become scores, `room` is (E + G,).

    `bias` (E,), or nothing, is added for the choice.
    """
    E, k = logits.size, chosen.size // 2
    scores, ranks, places = logits.reshape((1, E)), room[:E], np.empty((1, k), np.int64)
    if sigmoid:
        sigmoid_rows(scores, scores)
    else:
        softmax_rows(scores, scores)
    for i in range(E):
        ranks[i] = logits[i] + bias[i] if bias.size else logits[i]
    if groups > 1:
        limit_groups(ranks, groups, kept, sigmoid, room[E:])
    best_rows(ranks.reshape((1, E)), places)
    pick_rows(scores, places, normalise, factor, chosen[k:].reshape((1, k)))
    for j in range(k):
        chosen[j] = places[0, j]
