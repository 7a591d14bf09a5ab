"""Training from text of any size: scan and count the pieces, then learn merges from their counts.

Text goes through in small blocks (`blocks.py`), so a file larger than memory is no matter: what stays is the
table of distinct pieces. With several threads each counts its own blocks in its own table; counts are whole
numbers and their sum does not depend on who counted what, so the merges do not either.
"""

import contextlib
import functools
import itertools
import multiprocessing
import os
import threading

import numpy as np

from tinyllm.tokenizers import bpe, categories, split
from tinyllm.tokenizers.base import TokenizerError
from tinyllm.tokenizers.blocks import blocks
from tinyllm.tokenizers.kernels import merges as kernel
from tinyllm.tokenizers.kernels import scan as scanning
from tinyllm.tokenizers.kernels import table as tables
from tinyllm.tokenizers.kernels.memory import address

PIECES = 1 << 15               # pieces scanned at a time
TURN = 16                      # blocks a thread takes at a time
STEP = 512                     # merges between two reports of progress
NEXT_FLOOR = 48                # only pairs with a 48th of the highest count are kept up to date


class PieceCounter:
    """Counts pieces of text, by a named pattern or whole (None), in a hash table that grows."""

    def __init__(self, pattern, bits=15):
        self.pattern = pattern
        self.rule = None if pattern is None else scanning.RULES[split.pattern_name(pattern)]
        self.classes = categories.table()
        self.ends = np.empty(PIECES, np.int64)
        self.scratch = np.empty(tables.BATCH * 4, np.int64)
        self.arena = np.empty(1 << 16, np.uint8)
        self.bytes = 0         # of all text counted
        self._new_table(bits)

    def _new_table(self, bits):
        self.bits = bits
        self.slots = np.zeros((1 << bits, 4), np.int64)
        # slots in use, the most there may be, bytes of the arena in use, its size, bytes of the distinct pieces
        self.state = np.array([0, 1 << bits >> 1, 0, len(self.arena), 0], np.int64)

    def add(self, data):
        """Count the pieces of UTF-8 `data` (bytes)."""
        if not data:
            return
        self.bytes += len(data)
        p = address(np.frombuffer(data, np.uint8))
        end = p + len(data)
        if self.pattern is None:
            self._count(p, np.array([end]), end)
            return
        while p < end:
            found = scanning.scan(p, end, address(self.classes), self.rule, address(self.ends), PIECES)
            self._count(p, self.ends[:found], end)
            p = int(self.ends[found - 1])

    def _count(self, p, ends, end):
        done = 0
        while True:
            more = tables.count(p, address(ends) + 8 * done, len(ends) - done, end, address(self.slots), self.bits,
                                address(self.arena), address(self.scratch), address(self.state))
            done += more
            if done == len(ends):
                return
            p = int(ends[done - 1]) if more else p
            full = self.state[0] >= self.state[1]
            self._grow(self.bits + full, len(self.arena) if full else 2 * len(self.arena) + int(ends[done]) - p)

    def _grow(self, bits, arena_size):
        old, old_arena = self.slots, self.arena
        self.arena = np.empty(arena_size, np.uint8)
        self._new_table(bits)
        self._take(old, old_arena)

    def _take(self, slots, arena):
        tables.absorb(address(slots), len(slots), address(arena), address(self.slots), self.bits, address(self.arena),
                      address(self.state))

    def absorb(self, other):
        """Add the counts of another counter."""
        bits = max(self.bits, int(2 * (self.state[0] + other.state[0])).bit_length())
        self._grow(bits, int(self.state[2] + other.state[2]) + 16)
        self._take(other.slots, other.arena)
        self.bytes += other.bytes

    def lay_out(self, labels, symbols, starts, weights):
        """Write the pieces as symbols, a border around each, with their starts and counts; labels: the id of each byte."""
        kernel.lay_out(address(self.slots), len(self.slots), address(self.arena), address(labels), address(symbols),
                       address(starts), address(weights))

    def size(self):
        """(number of distinct pieces, bytes of them)."""
        return int(self.state[0]), int(self.state[4])


class PiecesInOrder:
    """Pieces that are counted already, {bytes: count}, as `learn` takes them: in the order of the text."""

    def __init__(self, counts):
        self.data = b"".join(counts)
        self.sizes = np.array([len(piece) for piece in counts], np.int64)
        self.weights = np.array(list(counts.values()), np.int64)
        self.bytes = int(self.sizes @ self.weights)

    def size(self):
        """As `PieceCounter.size`."""
        return len(self.sizes), len(self.data)

    def lay_out(self, labels, symbols, starts, weights):
        """As `PieceCounter.lay_out`."""
        ends = np.cumsum(self.sizes + 1)
        starts[:] = ends - self.sizes
        weights[:] = self.weights
        symbols[0] = symbols[ends] = kernel.BORDER
        inside = np.ones(len(symbols), bool)
        inside[0] = inside[ends] = False
        symbols[inside] = labels[np.frombuffer(self.data, np.uint8)]


def count(texts, pattern, threads=None, progress=None):
    """The pieces of texts (as `blocks` takes them), counted by several threads; progress(bytes) is told what is done."""
    threads = threads or os.cpu_count() or 1
    source, lock = iter(blocks(texts, pattern)), threading.Lock()
    start = list(itertools.islice(source, 2))
    if len(start) < 2:
        threads = 1
    source = itertools.chain(start, source)
    if pattern is not None and split.pattern_name(pattern) not in scanning.RULES:
        return count_by_regex(source, pattern, threads, progress)
    counters = [PieceCounter(pattern) for _ in range(threads)]
    errors = []

    def work(counter):
        try:
            while not errors:
                with lock:
                    turn = list(itertools.islice(source, TURN))
                if not turn:
                    return
                for block in turn:
                    counter.add(block)
                    if progress:
                        progress(len(block))
        except BaseException as error:
            errors.append(error)

    helpers = [threading.Thread(target=work, args=(counter,)) for counter in counters[1:]]
    for helper in helpers:
        helper.start()
    work(counters[0])
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]
    for other in counters[1:]:
        counters[0].absorb(other)
    return counters[0]


def count_by_regex(blocks, pattern, processes, progress=None):
    """The same for any pattern, by several processes: `regex` uses one core of each."""
    total = {}
    with contextlib.ExitStack() as stack:
        work = functools.partial(_count_block, pattern=pattern)
        counted = map(work, blocks)
        if processes > 1 and "fork" in multiprocessing.get_all_start_methods():
            pool = stack.enter_context(multiprocessing.get_context("fork").Pool(processes))
            counted = pool.imap(work, blocks)
        for counts, size in counted:
            for piece, number in counts.items():
                total[piece] = total.get(piece, 0) + number
            if progress:
                progress(size)
    return PiecesInOrder(total)


def _count_block(block, pattern):
    counts = {}
    for piece in split.pieces(block.decode(), pattern):
        counts[piece] = counts.get(piece, 0) + 1
    return {piece.encode(): number for piece, number in counts.items()}, len(block)


def learn(counter, num_merges, *, ties="smallest", min_frequency=2, max_token_length=None, progress=None):
    """(merges, history) as `bpe.train`, from a PieceCounter; progress(merges) is told how far it is.

    With ties "first" the pieces must be in the order of the text: `PiecesInOrder`.
    """
    pieces, room = counter.size()
    room += pieces + 1
    num_merges = min(num_merges, room)         # each merge makes the text shorter
    if room >= 1 << 31:
        raise TokenizerError(f"the distinct pieces have {room} bytes together, the most is {1 << 31}: give a pattern that "
                             "cuts the text into words, or train on less text")
    symbols = np.empty(room, np.int32)
    starts, weights = np.empty(pieces, np.int64), np.empty(pieces, np.int64)
    labels = np.argsort(bpe.GPT2_BYTE_ORDER).astype(np.int32) if ties == "gpt2" else np.arange(256, dtype=np.int32)
    counter.lay_out(labels, symbols, starts, weights)
    job = _Job(symbols, starts, weights, counter.bytes, num_merges, ties == "first", max(min_frequency, 1), max_token_length)
    merges, history = job.run(progress)
    if ties == "gpt2":
        merges = np.where(merges < 256, np.array(bpe.GPT2_BYTE_ORDER)[np.minimum(merges, 255)], merges)
    return list(zip(merges[:, 0].tolist(), merges[:, 1].tolist())), history.tolist()


class _Job:
    """The memory of one training, and the loop over falling floors (see `kernels/merges.py`)."""

    def __init__(self, symbols, starts, weights, tokens, num_merges, first, least, longest):
        self.symbols, self.starts, self.weights = symbols, starts, weights
        self.first, self.least, self.longest = first, least, longest or 1 << 31
        self.num_merges = num_merges
        self.lengths = np.ones(256 + num_merges, np.int32)
        self.changes = np.zeros((256 + num_merges, 4), np.int64)
        self.touched = np.empty(256 + num_merges, np.int64)
        self.merges = np.empty((num_merges, 2), np.int64)
        self.history = np.empty(num_merges, np.int64)
        # merges done, tokens in the text, entries queued, pairs in the table, places in use
        self.state = np.array([0, tokens, 0, 0, 0], np.int64)
        self.counted = np.empty((0, 4), np.int64)
        self.count_bits, self.pair_bits = 13, 12

    def run(self, progress):
        while self.state[0] < self.num_merges:
            top = self.count_pairs()
            if top < self.least:
                break
            self.merge_down_to(max(self.least, top // NEXT_FLOOR), progress)
        done = int(self.state[0])
        return self.merges[:done], self.history[:done]

    def count_pairs(self):
        while True:
            if len(self.counted) != 1 << self.count_bits:
                self.counted = np.zeros((1 << self.count_bits, 4), np.int64)
            else:
                self.counted[:] = 0
            top = kernel.count_pairs(address(self.symbols), address(self.lengths), self.longest, address(self.starts),
                                     address(self.weights), len(self.starts), address(self.counted), self.count_bits,
                                     len(self.counted) * 3 // 4)
            if top >= 0:
                return top
            self.count_bits += 1

    def merge_down_to(self, floor, progress):
        kept = int(np.count_nonzero(self.counted[:, 1] >= floor))
        self.pair_bits = max(self.pair_bits, (4 * kept).bit_length())
        slots = np.zeros((1 << self.pair_bits, 4), np.int64)
        room = len(slots) >> 1
        heap = np.empty((room, 3), np.int64)
        pairs, noted = kernel.keep_frequent(address(self.counted), len(self.counted), floor, self.first, address(slots), self.pair_bits,
                                            address(heap))
        # each merge notes at most two places a token, and there are no more merges than tokens
        places = np.empty(noted + 2 * len(self.symbols) + 2 * kernel.AHEAD, np.int64)
        kernel.note_places(address(self.symbols), address(self.lengths), address(self.starts), len(self.starts), address(slots),
                           self.pair_bits, address(places))
        events = np.empty((len(self.symbols), 3), np.int64)
        self.state[2:] = pairs, pairs, noted
        status = kernel.DONE
        while status == kernel.DONE and self.state[0] < self.num_merges:
            until = min(self.num_merges, int(self.state[0]) + STEP)
            status = kernel.learn(address(self.symbols), address(self.lengths), address(self.weights), self.longest, floor,
                                  self.first, until, address(slots), self.pair_bits, room, address(heap), address(places),
                                  address(self.changes), address(self.touched), address(events), address(self.merges),
                                  address(self.history), address(self.state))
            if progress:
                progress(int(self.state[0]))
        if status == kernel.FULL:
            self.pair_bits += 1
