"""Which id stands for which bytes: building a byte-level vocabulary, and refusing what is not one."""

import itertools

from tinyllm.tokenizers.base import TokenizerError, to_bytes
from tinyllm.untrusted import shown

MOST_IDS = 1 << 20              # four times the largest vocabulary in use
LONGEST_TOKEN = 1 << 16         # bytes: merges of merges could double their way to any length
MOST_BYTES = 32 << 20           # that all merges make together
MOST_CUTS = 1 << 30             # Σ length² of tokens that are cut in two at every place, about a second


def spell(byte_ids, merges, merge_ids, extra_tokens):
    """The bytes of every ordinary id, None where there is none; every fault is an error that names it."""
    if len(byte_ids) != 256:
        raise TokenizerError(f"byte_ids has {len(byte_ids)} entries, expected one for each of the 256 bytes")
    if len(merge_ids) != len(merges):
        raise TokenizerError(f"{len(merges)} merges but {len(merge_ids)} merge_ids")
    tokens = [None] * (1 + _highest([*byte_ids, *merge_ids, *extra_tokens]))

    for byte, token in enumerate(byte_ids):
        _place(tokens, token, bytes([byte]), f"byte {byte}")
    for token, data in extra_tokens.items():
        _place(tokens, token, data, f"the token {data!r}")
    room = MOST_BYTES
    try:
        fresh = len({*byte_ids, *merge_ids}) == 256 + len(merges) and not extra_tokens
        for (left, right), token in zip(merges, merge_ids):
            data = tokens[left] + tokens[right]             # None + … where an id is not made yet
            room -= len(data)
            if room < 0:
                raise TokenizerError(f"the merges make tokens of more than {MOST_BYTES:,} bytes together")
            if fresh and len(data) <= LONGEST_TOKEN:
                tokens[token] = data
            else:
                _place(tokens, token, data, "a merge", again=True)
        sound = not merges or (set(map(type, sides := list(itertools.chain(*merges)))) == {int} and min(sides) >= 0)
    except TokenizerError:
        raise
    except (TypeError, ValueError, IndexError):
        sound = False
    if not sound:
        raise _unsound(merges, merge_ids, {*byte_ids, *extra_tokens})
    if len(set(merges)) != len(merges):
        raise TokenizerError("a pair is merged twice: each (left, right) may stand once in the merges")
    return tokens


def _place(tokens, token, data, what, again=False):
    if len(data) > LONGEST_TOKEN:
        raise TokenizerError(f"{what} makes a token of {len(data)} bytes; the most is {LONGEST_TOKEN}")
    if tokens[token] is not None and not (again and tokens[token] == data):
        raise TokenizerError(f"id {token} is given twice: to {tokens[token]!r} and to {what}, {data!r}")
    tokens[token] = data


def _unsound(merges, merge_ids, made):
    """The error for the first merge that is no pair of ids that are there before it."""
    for rank, (pair, token) in enumerate(zip(merges, merge_ids)):
        if len(pair) != 2 or any(type(side) is not int or side not in made for side in pair):
            return TokenizerError(f"merge {rank}, {pair}, uses an id which no earlier merge makes, or is no pair of ids")
        made.add(token)
    return TokenizerError("the merges are no list of pairs of ids")


def number(special_tokens, first_free):
    """{name: id} of special tokens given by name, which are numbered on from `first_free`, or with their ids."""
    if isinstance(special_tokens, dict):
        return dict(special_tokens)
    names = list(special_tokens)
    if len(set(names)) != len(names):
        raise TokenizerError(f"a special token is given twice in {names}")
    return {name: first_free + i for i, name in enumerate(names)}


def place_specials(tokens, special_tokens):
    """All tokens, the special ones as the bytes of their names."""
    tokens = tokens + [None] * (1 + _highest(special_tokens.values()) - len(tokens))
    for name, token in special_tokens.items():
        if not isinstance(name, str) or not name:
            raise TokenizerError(f"a special token needs a name of at least one character, got {shown(name)}")
        if tokens[token] is not None:
            raise TokenizerError(f"id {token} is given twice: to {tokens[token]!r} and to the special token {name!r}")
        tokens[token] = to_bytes(name)
    return tokens


def _highest(ids):
    """The highest of some ids, -1 where there is none; each has to be one."""
    ids = list(ids)
    if set(map(type, ids)) - {int} or (ids and not 0 <= min(ids) <= max(ids) < MOST_IDS):
        wrong = next(token for token in ids if type(token) is not int or not 0 <= token < MOST_IDS)
        raise TokenizerError(f"{shown(wrong)} is no id: ids are whole numbers from 0 to {MOST_IDS - 1}")
    return max(ids, default=-1)


def check_cuts(tokens):
    """TokenizerError if it would take long to cut every token in two at every place."""
    if sum(len(data) ** 2 for data in tokens if data) > MOST_CUTS:
        raise TokenizerError(f"the tokens are too long: the longest has {max(map(len, filter(None, tokens))):,} bytes")


def merges_of_ranks(tokens):
    """Merges for a list of tokens by rank (None for an id not used), as arguments of `BPETokenizer`.

    tiktoken merges any two neighbours that together spell a token, the token of lowest rank first. That is a
    merge for each way to cut a token into two others; a token with no such way is found as a whole piece only.
    """
    check_cuts(tokens)
    ids = {}
    for rank, data in enumerate(tokens):
        if data is None:
            continue
        if not data:
            raise TokenizerError(f"the token of rank {rank} is empty")
        if data in ids:
            raise TokenizerError(f"the token {data!r} has two ranks, {ids[data]} and {rank}")
        ids[data] = rank
    missing = [byte for byte in range(256) if bytes([byte]) not in ids]
    if missing:
        raise TokenizerError(f"the vocabulary has no token for the byte {missing[0]} ({len(missing)} of 256 are missing)")
    merges, merge_ids, extra = [], [], {}
    for data, rank in ids.items():
        if len(data) == 1:
            continue
        extra[rank] = data
        for middle in range(1, len(data)):
            left, right = ids.get(data[:middle]), ids.get(data[middle:])
            if left is not None and right is not None:
                merges.append((left, right))
                merge_ids.append(rank)
    return {"merges": merges, "merge_ids": merge_ids, "extra_tokens": extra, "byte_ids": [ids[bytes([b])] for b in range(256)]}
