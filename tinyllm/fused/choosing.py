"""Which token comes next: the filters of generate.py and the draw, compiled, in one go through a row of logits.

A row of 32,000 logits is sorted in milliseconds, longer than a small model computes. But the best k, or the best that make up p of
the probability, need no order: they are all above some logit. To find it the logits are counted into buckets between their least
and their largest; then only the bucket is looked at in which the count, or the sum of the probabilities, reaches its mark; and so on
until all in it are equal. What is kept moves to the front of the row, in the order of ids.

Everything is float64, like the definitions; sums are taken in another order, so a probability differs in its last places.
"""

import numpy as np

from .kernels import kernel
from .vector_math import exp, largest

BUCKETS = 64
BLOCK = 256             # numbers that are added up at a time on the way to the drawn one

WORKED = 5              # rows of room to work in

TEMPERATURE, TOP_K, TOP_P, MIN_P, PENALTY = range(SETTINGS_SIZE := 5)   # in `settings`; a filter that is off has inf, 1, 0, and 1 for the penalty


@kernel("in1 in1 int number out1 out1 out1 out1")
def find_cut(values, masses, counted, mark, inside, weights, buckets, answer):
    """answer = (the least value kept, how many of those equal to it): the fewest largest values whose masses sum to `mark`.

    At least one is kept; if `counted`, each has the mass 1. Values of -inf do not count. `inside`, `weights`, `buckets` (V,) are room.
    """
    count, before, sums = 0, 0.0, np.empty(BUCKETS)
    for i in range(values.size):
        inside[count], weights[count] = values[i], 1.0 if counted else masses[i]
        count += values[i] > -np.inf
    while True:
        for i in range(count):
            buckets[i] = -inside[i]
        high, low = largest(inside[:count]), -largest(buckets[:count])
        if high == low:
            break
        width = high - low
        for i in range(count):
            buckets[i] = np.floor((high - inside[i]) / width * (BUCKETS - 1))
        sums[:] = 0
        for i in range(count):
            sums[int(buckets[i])] += weights[i]
        chosen = 0
        while chosen < BUCKETS - 1 and before + sums[chosen] < mark:
            before += sums[chosen]
            chosen += 1
        while sums[chosen] == 0:            # the sum of all stays below the mark by rounding: take what comes last
            chosen -= 1
            before -= sums[chosen]
        kept = 0
        for i in range(count):
            inside[kept], weights[kept] = inside[i], weights[i]
            kept += buckets[i] == chosen
        count = kept
    before, equal = before + weights[0], 1
    while before < mark and equal < count:
        before += weights[0]
        equal += 1
    answer[0], answer[1] = high, equal


@kernel("out1 out1 out1 int out1")
def keep(values, masses, ids, count, cut):
    """Move what `find_cut` has found to the front; of those equal to the cut the first are kept. cut[0] = how many there are now."""
    kept, equal = 0, 0
    for i in range(count):
        if values[i] < cut[0] or (values[i] == cut[0] and equal >= cut[1]):
            continue
        equal += values[i] == cut[0]
        values[kept], masses[kept], ids[kept] = values[i], masses[i], ids[i]
        kept += 1
    cut[0] = kept


@kernel("in1 number")
def place(masses, u):
    """The first place at which the sum of the masses passes u times the sum of all; the last with any mass, if rounding hides it."""
    blocks = -(-masses.size // BLOCK)
    sums, total = np.empty(blocks), 0.0
    for b in range(blocks):
        part = 0.0
        for x in masses[b * BLOCK:(b + 1) * BLOCK]:
            part += x
        sums[b] = part
        total += part
    mark, before, start = u * total, 0.0, 0
    for b in range(blocks - 1):
        if before + sums[b] > mark:
            break
        before += sums[b]
        start += BLOCK
    last = start
    for i in range(start, masses.size):
        before += masses[i]
        if masses[i] > 0:
            last = i
            if before > mark:
                return i
    while masses[last] == 0:
        last -= 1
    return last


@kernel("out1 mask1 in1 number out2 out1")
def choose(logits, seen, settings, u, room, chosen):
    """chosen[0] = the id drawn from `logits` (V,), which are used up, with u uniform in [0, 1); -1 where there is none to draw.

    `seen` marks the tokens that the penalty falls on; it is empty where there is no penalty. `room` (WORKED, V) is to work in.
    """
    temperature, top_k, top_p, min_p = settings[TEMPERATURE], settings[TOP_K], settings[TOP_P], settings[MIN_P]
    for i in range(seen.size):
        if seen[i]:
            logits[i] = logits[i] * settings[PENALTY] if logits[i] < 0 else logits[i] / settings[PENALTY]
    best = largest(logits)
    if not np.isfinite(best):
        chosen[0] = -1
        return
    if temperature == 0:
        for i in range(logits.size):
            if logits[i] == best:
                chosen[0] = i
                return
    for i in range(logits.size):
        logits[i] = (logits[i] - best) / temperature
    count, filtered = logits.size, top_k < logits.size or top_p < 1
    masses, ids, cut = room[0], room[1], np.empty(2)
    for i in range(count if filtered else 0):
        ids[i] = i
    if top_k < count:
        find_cut(logits, masses, True, top_k, room[2], room[3], room[4], cut)
        keep(logits, masses, ids, count, cut)
        count = int(cut[0])
    total = 0.0
    for i in range(count):
        masses[i] = exp(logits[i])
        total += masses[i]
    if top_p < 1:
        for i in range(count):
            masses[i] /= total
        find_cut(logits[:count], masses, False, top_p, room[2], room[3], room[4], cut)
        keep(logits, masses, ids, count, cut)
        count = int(cut[0])
    if min_p > 0:
        least = min_p * largest(masses[:count])
        for i in range(count):
            masses[i] = 0.0 if masses[i] < least else masses[i]
    i = place(masses[:count], u)
    chosen[0] = ids[i] if filtered else i
