"""Byte pair encoding, as short as it can be said. Every fast path is held to this page.

Training. Start from the 256 bytes. Count how often each two tokens stand side by side, give the most
frequent pair an id of its own, write that id wherever the pair stands, and repeat:

    "aaabdaaabac"   aa is most frequent (4)     Z = aa
    "ZabdZabac"     ab (2, tied with Za)        Y = ab
    "ZYdZYac"       ZY (2)                      X = ZY
    "XdXac"         nothing occurs twice: done

Before that the text is cut into pieces, roughly words, by a regular expression (`split.py`), and no merge
crosses a piece; equal pieces are counted once and weighted. Without a pattern the text is one piece.

Encoding. Cut the text the same way and replay the merges on each piece: of all adjacent pairs that have a
merge, take the one learned first (the lowest rank), until none is left. Never by counting again.

Overlaps and ties, where implementations part ways: counts include overlapping pairs ("aaa" holds "aa"
twice) while merging goes left to right without overlap. Pairs of equal count are ordered by `ties`:
"smallest" takes the smallest (left id, right id), bytes being 0 to 255, as rustbpe does; "gpt2" the same
with bytes ranked by their place in GPT-2's byte alphabet, as Hugging Face's trainer does; "first" the pair
met first in the pieces, as minbpe and most textbooks do.

>>> merges, history = train({b"aaabdaaabac": 1}, 3)
>>> [decode([token], merges) for token in (256, 257, 258)]
[b'aa', b'ab', b'aaab']
>>> encode(b"aaabdaaabac", rank_table(merges)), history
([258, 100, 258, 97, 99], [9, 7, 5])

Source: Sennrich, Haddow, Birch (2016), arXiv:1508.07909; on bytes: Radford et al. (2019), GPT-2, section 2.2.
"""

TIES = ("smallest", "gpt2", "first")
# GPT-2 writes bytes as characters: the printable ones as themselves and first, then the other 68.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
GPT2_BYTE_ORDER = _PRINTABLE + [byte for byte in range(256) if byte not in set(_PRINTABLE)]


def count_pairs(words):
    """How often each pair of adjacent tokens occurs in weighted words [(ids, weight), …]."""
    counts = {}
    for ids, weight in words:
        for pair in zip(ids, ids[1:]):
            counts[pair] = counts.get(pair, 0) + weight
    return counts


def merge(ids, pair, new):
    """`ids` with each occurrence of `pair`, from left to right, replaced by the id `new`."""
    out, i = [], 0
    while i < len(ids):
        if ids[i] == pair[0] and i + 1 < len(ids) and ids[i + 1] == pair[1]:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


def train(pieces, num_merges, *, ties="smallest", min_frequency=2, max_token_length=None):
    """Learn merges from pieces {bytes: count}: ([(left, right), …], [tokens in the text after each merge])."""
    words = [(list(piece), count) for piece, count in pieces.items()]
    length = [1] * 256
    label = {byte: place for place, byte in enumerate(GPT2_BYTE_ORDER)} if ties == "gpt2" else {}
    size = sum(len(ids) * weight for ids, weight in words)
    merges, history = [], []
    while len(merges) < num_merges:
        counts = count_pairs(words)
        if max_token_length:
            counts = {(a, b): n for (a, b), n in counts.items() if length[a] + length[b] <= max_token_length}
        top = max(counts.values(), default=0)
        if top < max(min_frequency, 1):
            break
        tied = [pair for pair, count in counts.items() if count == top]
        if ties != "first":                                  # else: the order in which the pairs were met
            tied.sort(key=lambda pair: (label.get(pair[0], pair[0]), label.get(pair[1], pair[1])))
        pair, new = tied[0], 256 + len(merges)
        words = [(merge(ids, pair, new), weight) for ids, weight in words]
        size = sum(len(ids) * weight for ids, weight in words)
        merges.append(pair)
        length.append(length[pair[0]] + length[pair[1]])
        history.append(size)
    return merges, history


def rank_table(merges):
    """{pair: (rank, new id)} of merges in the order they were learned."""
    return {pair: (rank, 256 + rank) for rank, pair in enumerate(merges)}


def encode(piece, ranks, byte_ids=range(256)):
    """Ids of one piece (bytes): of the pairs that have a merge, always the one learned first."""
    never = (float("inf"),)
    ids = [byte_ids[byte] for byte in piece]
    while len(ids) > 1:
        pair = min(zip(ids, ids[1:]), key=lambda pair: ranks.get(pair, never)[0])
        if pair not in ranks:
            break
        ids = merge(ids, pair, ranks[pair][1])
    return ids


def decode(ids, merges):
    """Bytes of a list of ids: a merge stands for the bytes of its two sides."""
    tokens = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return b"".join(tokens[token] for token in ids)
