"""The compiled encoder and decoder of one vocabulary: what `BPETokenizer` uses for more than a few words.

An `Encoder` owns the memory its kernels work in (the table of known pieces, the pair table) and feeds them
text a few thousand pieces at a time. It serves one thread at once; a tokenizer keeps one for each. The table
grows with the words it meets, up to `MOST_BITS`; then it forgets all but the vocabulary and starts again, so
memory is bounded and the ids never depend on what was encoded before.
"""

import codecs

import numpy as np

from tinyllm.tokenizers import categories, split
from tinyllm.tokenizers.base import UnknownId
from tinyllm.tokenizers.kernels import encoding, scan, table
from tinyllm.tokenizers.kernels.memory import address

PIECES = 1 << 13               # pieces scanned at a time: their ends stay in the cache
SMALL = 1 << 12                # bytes that `encode_small` takes
IDS = 1 << 16                  # ids decoded at a time
MOST_BITS = 21                 # the table of pieces has at most 2 ** 21 slots of 32 bytes


def pair_table(pairs):
    """The hash table of {(left, right): (rank, new id)} and its bits (`kernels/encoding.py`)."""
    keys = np.array([left << 32 | right for left, right in pairs], np.int64)
    values = np.array([rank << 32 | token for rank, token in pairs.values()], np.int64)
    bits = max(8, int(2 * len(pairs) + 1).bit_length())
    slots = np.zeros((1 << bits, 2), np.int64)
    encoding.fill_pairs(address(keys), address(values), len(keys), address(slots), bits)
    return slots, bits


def merge_ids(ids, slots, bits):
    """Merge a list of ids by a pair table, the lowest rank first and the leftmost of equals."""
    work = np.empty(len(ids) * encoding.WORK_PER_ID // 4, np.int32)
    work[:len(ids)] = ids
    out = np.empty(len(ids), np.int32)
    return out[:encoding.merge_all(len(ids), address(out), address(slots), bits, address(work))]


class Vocabulary:
    """The read-only tables that the encoders of one tokenizer share.

    pairs: {(left, right): (rank, new id)}; tokens: the bytes of each id or None; whole_pieces as `BPETokenizer`.
    """

    def __init__(self, pairs, byte_ids, tokens, whole_pieces):
        self.pairs, self.pair_bits = pair_table(pairs)
        self.byte_ids = np.array(byte_ids, np.int32)
        byte_of = {token: byte for byte, token in enumerate(byte_ids)}
        self.first_ranks = np.full((256, 256), encoding.NEVER, np.int64)
        for (left, right), (rank, token) in pairs.items():
            if left in byte_of and right in byte_of:
                self.first_ranks[byte_of[left], byte_of[right]] = rank << 32 | token
        ordinary = [(token, data) for token, data in enumerate(tokens) if data]
        self.ids = np.array([token for token, _ in ordinary], np.int32)
        self.data = np.frombuffer(b"".join(data for _, data in ordinary), np.uint8)
        self.ends = np.cumsum([len(data) for _, data in ordinary], dtype=np.int64) + address(self.data)
        self.whole_pieces = whole_pieces
        self.classes = categories.table()


class Encoder:
    """Encodes UTF-8 bytes by one vocabulary and one pattern."""

    def __init__(self, vocabulary, pattern):
        self.vocabulary = vocabulary
        self.pattern = pattern
        self.rule = scan.RULES.get(split.pattern_name(pattern))
        self.ends = np.empty(PIECES, np.int64)
        self.scratch = np.empty(table.BATCH * 4, np.int64)
        self.work = np.empty(1 << 15, np.uint8)
        self.state = np.zeros(15, np.int64)
        for at, array in ((encoding.PAIRS, vocabulary.pairs), (encoding.BYTE_IDS, vocabulary.byte_ids),
                          (encoding.FIRST_RANKS, vocabulary.first_ranks), (encoding.SCRATCH, self.scratch)):
            self.state[at >> 3] = address(array)
        self.state[encoding.PAIR_BITS >> 3] = vocabulary.pair_bits
        self._set_work(self.work)
        self.forget()
        text, self._output = np.empty(SMALL, np.uint8), np.empty(SMALL + 2, np.int32)
        self._input, self._words = memoryview(text), memoryview(self.state)
        self._small = address(text), address(self._output)
        # what every call hands on, as plain integers
        self._addresses = address(vocabulary.classes), address(self.ends), address(self.state)

    def forget(self):
        """Back to the vocabulary: no other piece is known."""
        known = self.vocabulary
        bits = max(10, int(3 * len(known.ids)).bit_length())
        self._set_table(np.zeros((1 << bits, 4), np.int64), bits, np.empty(2 * len(known.data) + (1 << 16), np.uint8))
        start = address(known.data)
        end = start + len(known.data)
        if known.whole_pieces:
            encoding.know_tokens(start, address(known.ends), address(known.ids), len(known.ids), end, address(self.state))
        else:
            self._pieces(start, known.ends, np.empty(len(known.data) + 2, np.int32), 0, end)

    def _set_table(self, slots, bits, arena):
        self.slots, self.arena = slots, arena
        for at, value in ((encoding.USED, 0), (encoding.ROOM, len(slots) >> 1), (encoding.STORED, 0),
                          (encoding.STORE, len(arena)), (encoding.SLOTS, address(slots)), (encoding.BITS, bits),
                          (encoding.ARENA, address(arena))):
            self.state[at >> 3] = value

    def _set_work(self, work):
        self.work = work
        self.state[encoding.WORK >> 3] = address(work)
        self.state[encoding.WORK_SIZE >> 3] = len(work)

    def encode_small(self, data):
        """Ids of a few thousand bytes as a list: `encode` without what it costs to prepare for more."""
        size = len(data)
        if size > SMALL or self.rule is None:
            return self.encode([data], size + 2).tolist()
        self._input[:size] = data
        p, out = self._small
        classes, ends, state = self._addresses
        found = scan.scan(p, p + size, classes, self.rule, ends, PIECES)
        if encoding.encode(p, ends, found, p + size, out, state) < found:
            return self.encode([data], size + 2).tolist()
        return self._output[:self._words[encoding.WRITTEN >> 3]].tolist()

    def encode(self, blocks, room):
        """Ids of UTF-8 blocks, cut where pieces end, as an int32 array; `room` is a guess of the number of ids."""
        out = np.empty(room, np.int32)
        written = 0
        for data in blocks:
            if written + len(data) + 2 > len(out):
                out, old = np.empty(2 * written + 2 * len(data) + 2, np.int32), out
                out[:written] = old[:written]
            written = (self._encode_by_regex if self.rule is None else self._encode_block)(data, out, written)
        out.resize(written, refcheck=False)
        return out

    def _encode_block(self, data, out, written):
        array = np.frombuffer(data, np.uint8)
        p = address(array)
        end = p + len(data)
        classes, ends, state = self._addresses
        target = address(out)
        while p < end:
            found = scan.scan(p, end, classes, self.rule, ends, PIECES)
            done = encoding.encode(p, ends, found, end, target + 4 * written, state)
            written += self._words[encoding.WRITTEN >> 3]
            if done < found:
                first = p if done == 0 else int(self.ends[done - 1])
                self._make_room(int(self.ends[done]) - first)
                written = self._pieces(first, self.ends[done:found], out, written, end)
            p = int(self.ends[found - 1])
        return written

    def _pieces(self, p, ends, out, written, end):
        """Encode the pieces that end at `ends`, making room as it is needed; the ids written so far."""
        done = 0
        while True:
            more = encoding.encode(p, address(ends) + 8 * done, len(ends) - done, end, address(out) + 4 * written,
                                   address(self.state))
            written += int(self.state[encoding.WRITTEN >> 3])
            done += more
            if done == len(ends):
                return written
            p = int(ends[done - 1]) if more else p
            self._make_room(int(ends[done]) - p)

    def _make_room(self, length):
        """After a piece of `length` bytes did not fit: a larger work space, a larger table, or a fresh one."""
        state = self.state
        if length > encoding.SHORT and encoding.WORK_PER_ID * length > len(self.work):
            self._set_work(np.empty(2 * encoding.WORK_PER_ID * length, np.uint8))
            return
        bits = int(state[encoding.BITS >> 3])
        crowded = state[encoding.USED >> 3] >= state[encoding.ROOM >> 3]
        if crowded and bits >= MOST_BITS or len(self.arena) > 32 << MOST_BITS:
            self.forget()
            return
        old_slots, old_arena, stored = self.slots, self.arena, int(state[encoding.STORED >> 3])
        arena = np.empty(2 * len(old_arena) + 8 * length, np.uint8)
        arena[:stored] = old_arena[:stored]
        slots = old_slots
        if crowded:
            bits += 2 if bits < MOST_BITS - 2 else 1
            slots = np.zeros((1 << bits, 4), np.int64)
            encoding.move(address(old_slots), len(old_slots), address(slots), bits)
        used = state[encoding.USED >> 3]
        self._set_table(slots, bits, arena)
        state[encoding.USED >> 3], state[encoding.STORED >> 3] = used, stored

    def _encode_by_regex(self, data, out, written):
        """The same for a pattern that only `regex` knows."""
        text = data.decode("utf-8", "surrogateescape")
        sizes = [len(piece.encode("utf-8", "surrogateescape")) for piece in split.pieces(text, self.pattern)]
        array = np.frombuffer(data, np.uint8)
        p = address(array)
        return self._pieces(p, np.cumsum(sizes, dtype=np.int64) + p, out, written, p + len(data)) if sizes else written


class Decoder:
    """Decodes arrays of ids by one vocabulary."""

    def __init__(self, tokens):
        records, long = [], b""
        for data in tokens:
            if not data:
                records.append(bytes(16))
            elif len(data) < 16:
                records.append(data.ljust(15, b"\0") + bytes([len(data)]))
            else:
                records.append(len(long).to_bytes(8, "little") + (table.LONG | len(data)).to_bytes(8, "little", signed=True))
                long += data
        self.records = np.frombuffer(b"".join(records), np.uint8)
        self.long = np.frombuffer(long + bytes(16), np.uint8)
        self.vocab_size = len(tokens)

    def _fill(self, ids, out, carried):
        """Bytes of an int32 array of ids into `out` from `carried` on, enlarged if need be: (out, end)."""
        size = encoding.decoded_size(address(ids), len(ids), address(self.records), self.vocab_size)
        if size < 0:
            at = -1 - size
            raise UnknownId(int(ids[at]), at, self.vocab_size)
        end = carried + size
        if end + 16 > len(out):
            out, old = np.empty(end + end // 4 + 16, np.uint8), out
            out[:carried] = old[:carried]
        encoding.decode(address(ids), len(ids), address(self.records), address(self.long), address(out) + carried)
        return out, end

    def decode_bytes(self, ids):
        """The bytes of an int32 array of ids."""
        out, end = self._fill(ids, np.empty(0, np.uint8), 0)
        return out[:end].tobytes()

    def decode(self, ids):
        """The text of an int32 array of ids, a block at a time, so that the bytes stay in the cache."""
        parts, buffer, left = [], np.empty(0, np.uint8), 0
        for start in range(0, len(ids), IDS):
            buffer, end = self._fill(ids[start:start + IDS], buffer, left)
            text, used = codecs.utf_8_decode(buffer[:end], "replace", start + IDS >= len(ids))
            parts.append(text)
            left = end - used
            buffer[:left] = buffer[used:end]          # the beginning of a character whose end is in the next block
        return "".join(parts)
