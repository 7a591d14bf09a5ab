"""Cutting a long text into blocks of UTF-8 whose pieces are those of the whole text.

A text is worked on a block at a time, so that it need not fit into memory and its bytes stay in the cache. A
block is cut where every named pattern begins a new piece whatever comes before (`cut`).
"""

import numpy as np

from tinyllm.tokenizers import categories, split
from tinyllm.tokenizers.base import to_bytes

BLOCK = 1 << 17                # characters to a block, about
# which classes are letters or numbers
_SOLID = np.isin(np.arange(8), [categories.UPPER, categories.LOWER, categories.LETTER, categories.NUMBER])


def cut(data, limit):
    """The last place up to `limit` where UTF-8 `data` may be cut without changing a piece; 0 where there is none.

    Between a letter or number and what is neither that, nor a mark, nor an apostrophe, all named patterns
    end a piece, and nothing they look at lies on the other side.
    """
    if limit >= len(data):
        return len(data)
    while data[limit] & 0xC0 == 0x80:
        limit -= 1
    for reach in (1 << 9, 1 << 14, limit):
        codes = np.frombuffer(data[max(0, limit - reach):limit].decode("utf-8", "ignore").encode("utf-32-le"), np.uint32)
        classes = categories.table()[codes]
        loose = ~_SOLID[classes] & (classes != categories.MARK) & (codes != ord("'"))
        places = np.flatnonzero(_SOLID[classes[:-1]] & loose[1:])
        if places.size:
            rest = codes[places[-1] + 1:].tobytes().decode("utf-32-le")
            return limit - len(rest.encode())
    return 0


def blocks(texts, pattern, size=BLOCK):
    """UTF-8 blocks of about `size` bytes, whose pieces together are those of the texts.

    texts: (text, whether the next one goes on with the same text). A pattern without a name gives no place where
    a text may be cut, so there each text, or part of one, is a block.
    """
    if pattern is not None and split.pattern_name(pattern) not in split.PATTERNS:
        yield from (to_bytes(text) for text, _ in texts if text)
        return
    held, enough = [], size
    for text, more in texts:
        for part in _slices(text, size):
            held.append(to_bytes(part))
            if pattern is None or sum(map(len, held)) < enough:
                continue
            data = b"".join(held)
            at = cut(data, len(data) - 8)
            if at:
                yield data[:at]
            held, enough = [data[at:]], size if at else 2 * len(data)
        if not more:
            data = b"".join(held)
            if data:
                yield data
            held, enough = [], size


def _slices(text, size):
    """A text in parts of about `size` characters, no surrogate pair cut in two."""
    start = 0
    while start < len(text):
        end = start + size
        if "\ud800" <= text[end - 1:end] <= "\udbff":
            end += 1
        yield text[start:end]
        start = end
