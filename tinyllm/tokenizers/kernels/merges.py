"""Learning merges: `bpe.train`, with every count kept up to date instead of taken again.

The distinct pieces lie one after another in one array of 32-bit words, `symbols`, one word a byte, a -1
between pieces. A token of n bytes takes n words and writes its id into its first and its last one, so the
neighbour to the right stands at `p + n` and the one to the left is read at `p - 1`: no links are needed, and
a merge touches one line of the cache. The first word of a swallowed token is set to -2, so that a place
noted for it earlier is seen to be stale.

Three structures follow the text while it is merged:
- a table from pair to its count and to the list of places where it may stand (`places`, in order of text);
- a queue (binary heap) of pairs by count, then by ids (or by first place). Counts of a pair only fall after the step that made
  it, so an entry is an upper bound: what is popped is compared with the table and put back if it is stale;
- per id, the change of count that one merge makes with that neighbour: one walk to the table per neighbour
  and merge, not per place.

Only pairs at least as frequent as a `floor` are kept at all. Nothing below the floor can be chosen while a
pair above it is left; when none is left, everything is counted again with a lower floor (`index_pairs`). So
the long tail of rare pairs costs nothing until its turn, and old lists are thrown away with it.
"""

from numba import njit

from tinyllm.tokenizers.kernels.memory import (
    OPTIONS,
    load8,
    load32,
    load64,
    prefetch,
    shift_right,
    store32,
    store64,
)
from tinyllm.tokenizers.kernels.table import KEY_HIGH, KEY_LOW, PLACE, SLOT, VALUE, length_of

BORDER, SWALLOWED = -1, -2
AHEAD = 12                       # places ahead of which the cache line is asked for
COUNT, START, LENGTH = 8, 16, 24       # words of a slot of the pair table, after the pair itself
LEFT, RIGHT = 0, 16              # where a neighbour stands, as a place in its record (`change`)
ENTRY = 24                       # bytes of an entry of the queue: count, order among equals, pair
EVENT = 24                       # bytes of an event: place, left and right neighbour
TOKENS, QUEUED, PAIRS_USED, PLACES_USED = 8, 16, 24, 32        # words of `state`, after the merges done
FIRST_ID = 256
DONE, LOWER_FLOOR, FULL = 0, 1, 2


@njit(**OPTIONS)
def lay_out(words, slots, arena, labels, symbols, starts, weights):
    """Write the counted pieces of a table (`table.py`) as symbols; labels: the id of each byte."""
    store32(symbols, BORDER)
    p = 1
    for i in range(slots):
        slot = words + SLOT * i
        high = load64(slot + KEY_HIGH)
        if high == 0:
            continue
        data = slot + KEY_LOW if high > 0 else arena + load64(slot + PLACE)
        store64(starts, p)
        store64(weights, load64(slot + VALUE))
        starts += 8
        weights += 8
        for k in range(length_of(high)):
            store32(symbols + 4 * p, load32(labels + 4 * load8(data + k)))
            p += 1
        store32(symbols + 4 * p, BORDER)
        p += 1


@njit(**OPTIONS)
def pair_slot(pair, slots, bits):
    """The slot of a pair (left << 32 | right) in the pair table, or the empty one where it belongs."""
    at = shift_right((pair ^ shift_right(pair, 29)) * -7046029254386353131, 64 - bits)
    while True:
        slot = slots + SLOT * at
        known = load64(slot)
        if known == pair + 1 or known == 0:          # stored plus one, so that zero is empty
            return slot
        at = (at + 1) & ((1 << bits) - 1)


@njit(**OPTIONS)
def count_pairs(symbols, lengths, longest, starts, weights, pieces, slots, bits, room):
    """Count the adjacent pairs of at most `longest` bytes in an empty table; LENGTH counts places. The top count, -1 if full."""
    used = 0
    top = 0
    for i in range(pieces):
        weight = load64(weights + 8 * i)
        p = load64(starts + 8 * i)
        left = load32(symbols + 4 * p)
        p += load32(lengths + 4 * left)
        right = load32(symbols + 4 * p)
        while right >= 0:
            size = load32(lengths + 4 * right)
            if load32(lengths + 4 * left) + size <= longest:
                slot = pair_slot(left << 32 | right, slots, bits)
                if load64(slot) == 0:
                    if used >= room:
                        return -1
                    store64(slot, (left << 32 | right) + 1)
                    used += 1
                total = load64(slot + COUNT) + weight
                top = max(top, total)
                store64(slot + COUNT, total)
                store64(slot + LENGTH, load64(slot + LENGTH) + 1)
            left = right
            p += size
            right = load32(symbols + 4 * p)
    return top


@njit(**OPTIONS)
def before(count, order, other_count, other_order):
    """Whether a pair is to be merged before another: more frequent, or as frequent and of lower order."""
    return count > other_count or (count == other_count and order < other_order)


@njit(**OPTIONS)
def put(entry, count, order, pair):
    """Write an entry of the heap."""
    store64(entry, count)
    store64(entry + 8, order)
    store64(entry + 16, pair)


@njit(**OPTIONS)
def sink(heap, size, at, count, order, pair):
    """Put an entry into the heap at `at` or below."""
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        c = heap + ENTRY * child
        if child + 1 < size and before(load64(c + ENTRY), load64(c + ENTRY + 8), load64(c), load64(c + 8)):
            child += 1
            c += ENTRY
        if not before(load64(c), load64(c + 8), count, order):
            break
        put(heap + ENTRY * at, load64(c), load64(c + 8), load64(c + 16))
        at = child
    put(heap + ENTRY * at, count, order, pair)


@njit(**OPTIONS)
def rise(heap, at, count, order, pair):
    """Put an entry into the heap at its end `at` or above."""
    while at > 0:
        parent = (at - 1) >> 1
        q = heap + ENTRY * parent
        if not before(count, order, load64(q), load64(q + 8)):
            break
        put(heap + ENTRY * at, load64(q), load64(q + 8), load64(q + 16))
        at = parent
    put(heap + ENTRY * at, count, order, pair)


@njit(**OPTIONS)
def keep_frequent(counted, counted_slots, floor, first, slots, bits, heap):
    """Copy the pairs at or above the floor to another table, with space in `places`, and queue them.

    Returns the numbers of pairs and of places.
    """
    used = 0
    places = 0
    for i in range(counted_slots):
        source = counted + SLOT * i
        pair = load64(source) - 1
        total = load64(source + COUNT)
        if pair < 0 or total < floor:
            continue
        slot = pair_slot(pair, slots, bits)
        store64(slot, pair + 1)
        store64(slot + COUNT, total)
        store64(slot + START, places)
        store64(slot + LENGTH, 0)
        places += load64(source + LENGTH)
        rise(heap, used, total, 0 if first else pair, pair)
        used += 1
    return used, places


@njit(**OPTIONS)
def note_places(symbols, lengths, starts, pieces, slots, bits, places):
    """Write down, for each pair of the table, where it stands: position << 32 | piece."""
    for i in range(pieces):
        p = load64(starts + 8 * i)
        left = load32(symbols + 4 * p)
        q = p + load32(lengths + 4 * left)
        right = load32(symbols + 4 * q)
        while right >= 0:
            slot = pair_slot(left << 32 | right, slots, bits)
            if load64(slot) != 0:
                at = load64(slot + LENGTH)
                store64(places + 8 * (load64(slot + START) + at), p << 32 | i)
                store64(slot + LENGTH, at + 1)
            left = right
            p = q
            q = p + load32(lengths + 4 * left)
            right = load32(symbols + 4 * q)


@njit(**OPTIONS)
def change(changes, token, side, weight, touched):
    """Note that `weight` more pairs have the neighbour `token` on a side; the end of the list of such neighbours.

    A neighbour has 32 bytes: weight and number of pairs where it stands left, the same where it stands right.
    """
    at = changes + 32 * token
    if load64(at + 8) | load64(at + 24) == 0:
        store64(touched, token)
        touched += 8
    store64(at + side, load64(at + side) + weight)
    store64(at + side + 8, load64(at + side + 8) + 1)
    return touched


@njit(**OPTIONS)
def clear(changes, token):
    """Forget a neighbour's changes."""
    for word in range(4):
        store64(changes + 32 * token + 8 * word, 0)


@njit(**OPTIONS)
def replace(symbols, lengths, weights, place, last_place, a, b, new, events, changes, touched):
    """Write `new` wherever the pair (a, b) still stands; `events` gets the places. (their number, the neighbours' end)"""
    size_a, size_b = 4 * load32(lengths + 4 * a), 4 * load32(lengths + 4 * b)
    event = events
    for at in range(place, last_place, 8):
        prefetch(symbols + 4 * shift_right(load64(at + 8 * AHEAD), 32))
        entry = load64(at)
        p = symbols + 4 * shift_right(entry, 32)
        q = p + size_a
        if load32(p) != a or load32(q) != b:
            continue
        end = q + size_b
        weight = load64(weights + 8 * (entry & 0xFFFFFFFF))
        left, right = load32(p - 4), load32(end)
        if left >= 0 and left != new:                 # next to an earlier `new`, that one's right pair is this
            touched = change(changes, left, LEFT, weight, touched)
        if right >= 0:
            touched = change(changes, right, RIGHT, weight, touched)
        store32(q, SWALLOWED)
        store32(end - 4, new)
        store32(p, new)
        store64(event, entry)
        event += EVENT
    return event, touched


@njit(**OPTIONS)
def subtract(slots, bits, a, b, changes, touched, touched_end):
    """Take the vanished pairs (left, a) and (b, right) off their counts."""
    for at in range(touched, touched_end, 8):
        token = load64(at)
        for side in range(0, 32, 16):
            weight = load64(changes + 32 * token + side)
            if weight:
                pair = token << 32 | a if side == LEFT else b << 32 | token
                slot = pair_slot(pair, slots, bits)
                if load64(slot) != 0:
                    store64(slot + COUNT, load64(slot + COUNT) - weight)
        clear(changes, token)


@njit(**OPTIONS)
def look_around(symbols, weights, size, new, events, events_end, changes, touched):
    """Read the neighbours of each new token, once all are written. (weight of the events, the neighbours' end)"""
    total = 0
    for event in range(events, events_end, EVENT):
        entry = load64(event)
        p = symbols + 4 * shift_right(entry, 32)
        weight = load64(weights + 8 * (entry & 0xFFFFFFFF))
        left, right = load32(p - 4), load32(p + size)
        if left == new:
            left = BORDER                             # counted by that token, to its right
        if left >= 0:
            touched = change(changes, left, LEFT, weight, touched)
        if right >= 0:
            touched = change(changes, right, RIGHT, weight, touched)
        store64(event + 8, left)
        store64(event + 16, right)
        total += weight
    return total, touched


@njit(**OPTIONS)
def add_pairs(lengths, longest, floor, first, new, slots, bits, heap, places, changes, touched, touched_end, state):
    """Enter the new pairs that reach the floor; a neighbour's number becomes the address of its list, or 0. How many."""
    entered = 0
    for at in range(touched, touched_end, 8):
        token = load64(at)
        for side in range(0, 32, 16):
            record = changes + 32 * token + side
            weight, number = load64(record), load64(record + 8)
            store64(record + 8, 0)
            if weight >= floor and load32(lengths + 4 * token) + load32(lengths + 4 * new) <= longest:
                pair = token << 32 | new if side == LEFT else new << 32 | token
                slot = pair_slot(pair, slots, bits)
                start = load64(state + PLACES_USED)
                store64(slot, pair + 1)
                store64(slot + COUNT, weight)
                store64(slot + START, start)
                store64(slot + LENGTH, number)
                store64(state + PLACES_USED, start + number)
                store64(record + 8, places + 8 * start)
                rise(heap, load64(state + QUEUED), weight, 0 if first else pair, pair)
                store64(state + QUEUED, load64(state + QUEUED) + 1)
                store64(state + PAIRS_USED, load64(state + PAIRS_USED) + 1)
                entered += 1
    return entered


@njit(**OPTIONS)
def note_events(lengths, events, events_end, changes):
    """Write the places of the new pairs into their lists, in order of text."""
    for event in range(events, events_end, EVENT):
        entry, left, right = load64(event), load64(event + 8), load64(event + 16)
        if left >= 0:
            record = changes + 32 * left + LEFT + 8
            at = load64(record)
            if at:
                store64(at, entry - (load32(lengths + 4 * left) << 32))
                store64(record, at + 8)
        if right >= 0:
            record = changes + 32 * right + RIGHT + 8
            at = load64(record)
            if at:
                store64(at, entry)
                store64(record, at + 8)


@njit(**OPTIONS)
def first_place(symbols, lengths, pair, slot, places):
    """Where a pair, which still occurs, stands first; the stale places before that are forgotten."""
    a, b = pair >> 32, pair & 0xFFFFFFFF
    size = load32(lengths + 4 * a)
    while True:
        start = load64(slot + START)
        place = shift_right(load64(places + 8 * start), 32)
        if load32(symbols + 4 * place) == a and load32(symbols + 4 * (place + size)) == b:
            return place
        store64(slot + START, start + 1)
        store64(slot + LENGTH, load64(slot + LENGTH) - 1)


@njit(**OPTIONS)
def learn(symbols, lengths, weights, longest, floor, first, until, slots, bits, room, heap, places, changes, touched,
          events, merges, history, state):
    """Merge until `until` merges are done (DONE), the best pair is below the floor, or the pair table is FULL.

    Ties go to the smaller ids, or with `first` to the pair that stands first: there too an entry of the queue is
    a bound, because the first place of a pair only moves to the right. merges gets (left, right) of each as
    int64, history the tokens of the text after it. `state` is five words: merges done, tokens in the text,
    entries queued, pairs in the table, places in use.
    """
    while load64(state) < until:
        queued = load64(state + QUEUED)
        if queued == 0:
            return LOWER_FLOOR
        count, order, pair = load64(heap), load64(heap + 8), load64(heap + 16)
        slot = pair_slot(pair, slots, bits)
        actual = load64(slot + COUNT)
        if actual < floor:                            # out; the last entry takes its place
            queued -= 1
            store64(state + QUEUED, queued)
            last = heap + ENTRY * queued
            if queued:
                sink(heap, queued, 0, load64(last), load64(last + 8), load64(last + 16))
            continue
        place = first_place(symbols, lengths, pair, slot, places) if first else pair
        if actual != count or place != order:         # stale: back to where it belongs
            sink(heap, queued, 0, actual, place, pair)
            continue
        done = load64(state)
        number = load64(slot + LENGTH)
        if load64(state + PAIRS_USED) + 2 * min(number, FIRST_ID + done) > room:
            return FULL
        a, b, new = pair >> 32, pair & 0xFFFFFFFF, FIRST_ID + done
        size = load32(lengths + 4 * a) + load32(lengths + 4 * b)
        store32(lengths + 4 * new, size)
        place = places + 8 * load64(slot + START)
        events_end, touched_end = replace(symbols, lengths, weights, place, place + 8 * number, a, b, new, events,
                                          changes, touched)
        subtract(slots, bits, a, b, changes, touched, touched_end)
        store64(slot + COUNT, 0)
        total, touched_end = look_around(symbols, weights, 4 * size, new, events, events_end, changes, touched)
        if add_pairs(lengths, longest, floor, first, new, slots, bits, heap, places, changes, touched, touched_end, state):
            note_events(lengths, events, events_end, changes)
        for at in range(touched, touched_end, 8):
            clear(changes, load64(at))
        tokens = load64(state + TOKENS) - total
        store64(state + TOKENS, tokens)
        store64(merges + 16 * done, a)
        store64(merges + 16 * done + 8, b)
        store64(history + 8 * done, tokens)
        store64(state, done + 1)
    return DONE
