"""A hash table from pieces of text to numbers, made for a great many short keys.

A slot is four 64-bit words: two of key, two for the user (`value`, `place`). A piece of up to 15 bytes is its
own key: the bytes and, on top, the length, so that finding it compares two words and never goes back to the
text. A longer one is a 64-bit hash and its length, and the bytes stand in a store (the arena) at `place`.
An empty slot has zero in the second word. Collisions move on to the next slot.

Looking a word up is a walk in memory, and the walk to a rare word costs more than everything else together.
So callers work in batches: first the keys of 64 pieces, asking for the cache line of each, then the looking up.
"""

from numba import njit

from tinyllm.tokenizers.kernels.memory import (
    OPTIONS,
    copy,
    load8,
    load64,
    prefetch,
    shift_right,
    store64,
)

SLOT = 32
KEY_LOW, KEY_HIGH, VALUE, PLACE = 0, 8, 16, 24
BATCH = 64
LONG = -(1 << 56)          # top byte 255: the key is a hash
_MIX1, _MIX2 = -7046029254386353131, -4417276706812531889      # odd, from the golden ratio and xxHash


@njit(**OPTIONS)
def mix(low, high):
    """64 well-stirred bits of two words."""
    h = low * _MIX1
    h = (h ^ shift_right(h, 32)) + high
    h = h * _MIX2
    return h ^ shift_right(h, 29)


@njit(**OPTIONS)
def tail(p, length):
    """Fewer than eight bytes as one word."""
    word = 0
    for i in range(length):
        word |= load8(p + i) << (8 * i)
    return word


@njit(**OPTIONS)
def key_low(p, length, end):
    """First word of a piece's key. `end` is the end of what may be read."""
    if length < 16:
        if p + 8 > end:
            return tail(p, min(length, 8))
        word = load64(p)
        return word & ((1 << 8 * length) - 1) if length < 8 else word
    h = length
    q = p
    while q + 8 <= p + length:
        h = mix(load64(q), h)
        q += 8
    return mix(load64(p + length - 8), h)


@njit(**OPTIONS)
def key_high(p, length, end):
    """Second word of a piece's key."""
    if length < 8:
        return length << 56
    if length > 15:
        return LONG | length
    if p + 16 > end:
        return length << 56 | tail(p + 8, length - 8)
    return length << 56 | load64(p + 8) & ((1 << 8 * (length - 8)) - 1)


@njit(**OPTIONS)
def length_of(high):
    """The length of a piece, from the second word of its key."""
    return high & ~LONG if high < 0 else shift_right(high, 56)


@njit(**OPTIONS)
def same_bytes(p, q, length):
    """Whether two stretches of at least eight bytes are equal."""
    i = 0
    while i + 8 <= length:
        if load64(p + i) != load64(q + i):
            return False
        i += 8
    return load64(p + length - 8) == load64(q + length - 8)


@njit(**OPTIONS)
def home(low, high, slots, bits):
    """The address of the slot where a key is looked for first, in a table of 2 ** bits slots."""
    return slots + SLOT * shift_right(mix(low, high), 64 - bits)


@njit(**OPTIONS)
def find(slot, low, high, p, slots, bits, arena):
    """The slot of a key, or the empty one where it belongs; `p` is where its bytes are."""
    last = slots + SLOT * ((1 << bits) - 1)
    while True:
        known = load64(slot + KEY_HIGH)
        if known == 0:
            return slot
        if known == high and load64(slot + KEY_LOW) == low:
            if high > 0 or same_bytes(p, arena + load64(slot + PLACE), high & ~LONG):
                return slot
        slot = slots if slot == last else slot + SLOT


@njit(**OPTIONS)
def keys(start, ends, pieces, end, slots, bits, scratch):
    """Write key, home and start of up to BATCH pieces to `scratch`, 32 bytes each; the end of the last piece."""
    p = start
    for i in range(pieces):
        q = load64(ends + 8 * i)
        low, high = key_low(p, q - p, end), key_high(p, q - p, end)
        slot = home(low, high, slots, bits)
        prefetch(slot)
        at = scratch + 32 * i
        store64(at, low)
        store64(at + 8, high)
        store64(at + 16, slot)
        store64(at + 24, p)
        p = q
    return p


@njit(**OPTIONS)
def insert(slot, low, high, p, arena, stored):
    """Fill an empty slot with a key, its bytes into the arena where it is long; the arena's new end."""
    store64(slot + KEY_LOW, low)
    store64(slot + KEY_HIGH, high)
    if high < 0:
        copy(p, arena + stored, high & ~LONG)
        store64(slot + PLACE, stored)
        stored += high & ~LONG
    return stored


@njit(**OPTIONS)
def count(start, ends, pieces, end, slots, bits, arena, scratch, state):
    """Count pieces in the table; stops before a piece for which there is no room. The number counted.

    `ends` holds the end of each piece, the first beginning at `start`. The words of `state`: slots in use,
    the most there may be, bytes of the arena in use, its size, bytes of the distinct pieces.
    """
    used, room, stored, store, distinct = load64(state), load64(state + 8), load64(state + 16), load64(state + 24), load64(state + 32)
    done = 0
    full = False
    while done < pieces and not full:
        batch = min(BATCH, pieces - done)
        start = keys(start, ends + 8 * done, batch, end, slots, bits, scratch)
        for i in range(batch):
            at = scratch + 32 * i
            low, high, p = load64(at), load64(at + 8), load64(at + 24)
            slot = find(load64(at + 16), low, high, p, slots, bits, arena)
            if load64(slot + KEY_HIGH) == 0:
                if used >= room or (high < 0 and stored + (high & ~LONG) > store):
                    full = True
                    break
                stored = insert(slot, low, high, p, arena, stored)
                used += 1
                distinct += length_of(high)
            store64(slot + VALUE, load64(slot + VALUE) + 1)
            done += 1
    store64(state, used)
    store64(state + 16, stored)
    store64(state + 32, distinct)
    return done


@njit(**OPTIONS)
def absorb(source, source_slots, source_arena, slots, bits, arena, state):
    """Add one table's counts to another, which has room for them."""
    used, stored, distinct = load64(state), load64(state + 16), load64(state + 32)
    for i in range(source_slots):
        at = source + SLOT * i
        low, high = load64(at + KEY_LOW), load64(at + KEY_HIGH)
        if high != 0:
            p = source_arena + load64(at + PLACE)
            slot = find(home(low, high, slots, bits), low, high, p, slots, bits, arena)
            if load64(slot + KEY_HIGH) == 0:
                stored = insert(slot, low, high, p, arena, stored)
                used += 1
                distinct += length_of(high)
            store64(slot + VALUE, load64(slot + VALUE) + load64(at + VALUE))
    store64(state, used)
    store64(state + 16, stored)
    store64(state + 32, distinct)
