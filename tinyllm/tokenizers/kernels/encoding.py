"""Encoding pieces by rank, and decoding: `bpe.encode` and `bpe.decode` at the speed of a table.

Most words of a text have been seen before, so the heart of encoding is one table (`table.py`) from a piece
to its ids. It starts with every token of the vocabulary that its own bytes encode to, and learns each new
piece that is encoded. A piece of one or two ids carries them in the slot; longer ones keep them in the arena.

A piece that is not known is encoded by merging, always the pair of lowest rank and the leftmost of equals.
Short ones look through all ranks for the lowest each time, which for ten bytes is fastest. Long ones
(a page without a space) keep the pairs in a heap, which is n log n for any text.

The pair table has 16 bytes a slot: the pair left << 32 | right, plus one, and rank << 32 | new id.
"""

from numba import njit

from tinyllm.tokenizers.kernels.memory import (
    OPTIONS,
    copy,
    load8,
    load32,
    load64,
    shift_right,
    store32,
    store64,
)
from tinyllm.tokenizers.kernels.table import (
    BATCH,
    KEY_HIGH,
    KEY_LOW,
    LONG,
    SLOT,
    VALUE,
    find,
    home,
    insert,
    key_high,
    key_low,
    keys,
    length_of,
)

NEVER = (1 << 63) - 1            # the rank of a pair that has no merge
SHORT = 48                       # pieces of up to so many bytes are encoded by looking through all ranks
KEPT = 192                       # longer pieces are not remembered
# words of an encoder's state, all 64 bits
(USED, ROOM, STORED, STORE, SLOTS, BITS, ARENA, SCRATCH, PAIRS, PAIR_BITS, BYTE_IDS, FIRST_RANKS, WORK, WORK_SIZE,
 WRITTEN) = range(0, 120, 8)
WORK_PER_ID = 40                 # bytes of work space that merging by heap needs for each id


@njit(**OPTIONS)
def pair_home(pair, bits):
    """The number of the slot where a pair is looked for first."""
    return shift_right((pair ^ shift_right(pair, 29)) * -7046029254386353131, 64 - bits)


@njit(**OPTIONS)
def fill_pairs(pairs, values, number, slots, bits):
    """Enter `number` pairs and their rank << 32 | id into an empty pair table; a pair met twice keeps the first."""
    for i in range(number):
        pair = load64(pairs + 8 * i)
        at = pair_home(pair, bits)
        while load64(slots + 16 * at) != 0 and load64(slots + 16 * at) != pair + 1:
            at = (at + 1) & ((1 << bits) - 1)
        if load64(slots + 16 * at) == 0:
            store64(slots + 16 * at, pair + 1)
            store64(slots + 16 * at + 8, load64(values + 8 * i))


@njit(**OPTIONS)
def rank_of(left, right, slots, bits):
    """rank << 32 | new id of a pair, or NEVER."""
    pair = left << 32 | right
    at = pair_home(pair, bits)
    while True:
        known = load64(slots + 16 * at)
        if known == pair + 1:
            return load64(slots + 16 * at + 8)
        if known == 0:
            return NEVER
        at = (at + 1) & ((1 << bits) - 1)


@njit(**OPTIONS)
def encode_short(p, length, ids, ranks, slots, bits, byte_ids, first_ranks):
    """Encode a piece of at most SHORT bytes into `ids` (int32); `ranks` is work space. The number of ids."""
    n = length
    for i in range(n):
        store32(ids + 4 * i, load32(byte_ids + 4 * load8(p + i)))
    for i in range(n - 1):
        store64(ranks + 8 * i, load64(first_ranks + 8 * (load8(p + i) << 8 | load8(p + i + 1))))
    while n > 1:
        best, at = NEVER, 0
        for i in range(n - 1):
            rank = load64(ranks + 8 * i)
            if rank < best:
                best, at = rank, i
        if best == NEVER:
            break
        new = best & 0xFFFFFFFF
        store32(ids + 4 * at, new)
        n -= 1
        for i in range(at + 1, n):
            store32(ids + 4 * i, load32(ids + 4 * i + 4))
            store64(ranks + 8 * i, load64(ranks + 8 * i + 8))
        if at + 1 < n:
            store64(ranks + 8 * at, rank_of(new, load32(ids + 4 * at + 4), slots, bits))
        else:
            store64(ranks + 8 * at, NEVER)
        if at > 0:
            store64(ranks + 8 * at - 8, rank_of(load32(ids + 4 * at - 4), new, slots, bits))
    return n


@njit(**OPTIONS)
def sift_down(heap, size, at, entry):
    """Put an entry into a heap of (rank << 32 | position), smallest on top, at `at` or below."""
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        value = load64(heap + 8 * child)
        if child + 1 < size and load64(heap + 8 * child + 8) < value:
            child += 1
            value = load64(heap + 8 * child)
        if value >= entry:
            break
        store64(heap + 8 * at, value)
        at = child
    store64(heap + 8 * at, entry)


@njit(**OPTIONS)
def sift_up(heap, at, entry):
    """Put an entry into the heap at its end `at` or above."""
    while at > 0:
        parent = (at - 1) >> 1
        value = load64(heap + 8 * parent)
        if value <= entry:
            break
        store64(heap + 8 * at, value)
        at = parent
    store64(heap + 8 * at, entry)


@njit(**OPTIONS)
def merge_all(length, out, slots, bits, work):
    """Merge `length` ids, which stand at the beginning of `work`, into `out`; `work` has WORK_PER_ID bytes for each. Their number.

    A node an id: the id (4 bytes), next and previous node (4 each), and the pair's rank << 32 | id (8 bytes).
    """
    ids, nexts, befores, ranks = work, work + 4 * length, work + 8 * length, work + 12 * length
    heap = work + 20 * length
    queued = 0
    for i in range(length):
        store32(nexts + 4 * i, i + 1)
        store32(befores + 4 * i, i - 1)
    for i in range(length):
        rank = NEVER
        if i + 1 < length:
            rank = rank_of(load32(ids + 4 * i), load32(ids + 4 * i + 4), slots, bits)
        store64(ranks + 8 * i, rank)
        if rank != NEVER:
            store64(heap + 8 * queued, rank & ~0xFFFFFFFF | i)
            queued += 1
    for i in range(queued // 2 - 1, -1, -1):
        sift_down(heap, queued, i, load64(heap + 8 * i))
    while queued:
        entry = load64(heap)
        at = entry & 0xFFFFFFFF
        rank = load64(ranks + 8 * at)
        left_over = -1
        if rank != NEVER and (rank ^ entry) >> 32 == 0:           # else the pair is gone
            new = rank & 0xFFFFFFFF
            gone = load32(nexts + 4 * at)
            after = load32(nexts + 4 * gone)
            previous = load32(befores + 4 * at)
            store32(ids + 4 * at, new)
            store32(nexts + 4 * at, after)
            store64(ranks + 8 * gone, NEVER)
            rank = NEVER
            if after < length:
                store32(befores + 4 * after, at)
                rank = rank_of(new, load32(ids + 4 * after), slots, bits)
            store64(ranks + 8 * at, rank)
            if rank != NEVER:
                left_over = rank & ~0xFFFFFFFF | at               # takes the place of the entry on top
            if previous >= 0:
                rank = rank_of(load32(ids + 4 * previous), new, slots, bits)
                store64(ranks + 8 * previous, rank)
                if rank != NEVER:
                    sift_up(heap, queued, rank & ~0xFFFFFFFF | previous)
                    queued += 1
        if left_over < 0:
            queued -= 1
            left_over = load64(heap + 8 * queued)
        if queued:
            sift_down(heap, queued, 0, left_over)
    n = 0
    at = 0
    while at < length:
        store32(out + 4 * n, load32(ids + 4 * at))
        n += 1
        at = load32(nexts + 4 * at)
    return n


@njit(**OPTIONS)
def remember(slot, low, high, p, length, ids, n, state):
    """Keep the ids of a piece in its slot, or in the arena behind the piece's bytes."""
    arena = load64(state + ARENA)
    stored = insert(slot, low, high, p, arena, load64(state + STORED))
    value = n << 48
    if n <= 2:
        value |= load32(ids) | (load32(ids + 4) << 24 if n == 2 else 0)
    else:
        value |= stored
        for i in range(n):
            store32(arena + stored + 4 * i, load32(ids + 4 * i))
        stored += 4 * n
    store64(slot + VALUE, value)
    store64(state + STORED, stored)
    store64(state + USED, load64(state + USED) + 1)


@njit(**OPTIONS)
def unknown_piece(slot, low, high, p, length, out, state):
    """Encode a piece by merging and remember it; -1 where there is no room to."""
    pairs, pair_bits, byte_ids = load64(state + PAIRS), load64(state + PAIR_BITS), load64(state + BYTE_IDS)
    if length <= KEPT and (load64(state + USED) >= load64(state + ROOM)
                           or load64(state + STORED) + 5 * length + 16 > load64(state + STORE)):
        return -1
    if length > SHORT and WORK_PER_ID * length > load64(state + WORK_SIZE):
        return -1
    work = load64(state + WORK)
    if length <= SHORT:
        n = encode_short(p, length, out, work, pairs, pair_bits, byte_ids, load64(state + FIRST_RANKS))
    else:
        for i in range(length):
            store32(work + 4 * i, load32(byte_ids + 4 * load8(p + i)))
        n = merge_all(length, out, pairs, pair_bits, work)
    if length <= KEPT:
        remember(slot, low, high, p, length, out, n, state)
    return n


@njit(**OPTIONS)
def encode(start, ends, pieces, end, out, state):
    """Encode pieces; `ends` holds the end of each, the first beginning at `start`. Ids go to `out` as int32.

    Stops before a piece that needs more room than the table, the arena or the work space has; returns the
    number of pieces done, with the number of ids in state[WRITTEN]. `out` has room for a word a byte, and two more.
    """
    slots, bits, scratch = load64(state + SLOTS), load64(state + BITS), load64(state + SCRATCH)
    arena = load64(state + ARENA)
    target = out
    done = 0
    full = False
    while done < pieces and not full:
        batch = min(BATCH, pieces - done)
        start = keys(start, ends + 8 * done, batch, end, slots, bits, scratch)
        for i in range(batch):
            at = scratch + 32 * i
            low, high, p = load64(at), load64(at + 8), load64(at + 24)
            slot = find(load64(at + 16), low, high, p, slots, bits, arena)
            if load64(slot + KEY_HIGH) != 0:
                value = load64(slot + VALUE)
                n = value >> 48
                store32(target, value & 0xFFFFFF)
                store32(target + 4, (value >> 24) & 0xFFFFFF)
                if n > 2:
                    ids = arena + (value & ((1 << 48) - 1))
                    for k in range(n):
                        store32(target + 4 * k, load32(ids + 4 * k))
            else:
                n = unknown_piece(slot, low, high, p, length_of(high), target, state)
                if n < 0:
                    full = True
                    break
            target += 4 * n
            done += 1
    store64(state + WRITTEN, (target - out) >> 2)
    return done


@njit(**OPTIONS)
def know_tokens(start, ends, ids, number, end, state):
    """Enter tokens as pieces that encode to themselves; `ends` as for `encode`. Of equal tokens the first counts."""
    slots, bits, arena = load64(state + SLOTS), load64(state + BITS), load64(state + ARENA)
    for i in range(number):
        q = load64(ends + 8 * i)
        low, high = key_low(start, q - start, end), key_high(start, q - start, end)
        slot = find(home(low, high, slots, bits), low, high, start, slots, bits, arena)
        if load64(slot + KEY_HIGH) == 0:
            remember(slot, low, high, start, q - start, ids + 4 * i, 1, state)
        start = q


@njit(**OPTIONS)
def decoded_size(ids, number, records, vocab_size):
    """Bytes that `number` int32 ids stand for; where one is not in the vocabulary, -1 - its index."""
    size = 0
    for i in range(number):
        token = load32(ids + 4 * i)
        if token < 0 or token >= vocab_size:
            return -1 - i
        high = load64(records + 16 * token + 8)
        if high == 0:
            return -1 - i
        size += length_of(high)
    return size


@njit(**OPTIONS)
def decode(ids, number, records, data, out):
    """Write the bytes of the tokens one after another; up to 15 bytes beyond the end are written too.

    A token's record is its key as a piece: up to 15 bytes and their number, or where its bytes are in `data`.
    """
    for i in range(number):
        record = records + 16 * load32(ids + 4 * i)
        low, high = load64(record), load64(record + 8)
        if high > 0:
            store64(out, low)
            store64(out + 8, high)
            out += shift_right(high, 56)
        else:
            copy(data + low, out, high & ~LONG)
            out += high & ~LONG


@njit(**OPTIONS)
def move(source, source_slots, slots, bits):
    """Enter all slots of a table into a larger empty one; places in the arena stay what they are."""
    for i in range(source_slots):
        at = source + SLOT * i
        low, high = load64(at + KEY_LOW), load64(at + KEY_HIGH)
        if high != 0:
            slot = home(low, high, slots, bits)
            while load64(slot + KEY_HIGH) != 0:
                slot = slots if slot == slots + SLOT * ((1 << bits) - 1) else slot + SLOT
            for word in range(0, SLOT, 8):
                store64(slot + word, load64(at + word))
