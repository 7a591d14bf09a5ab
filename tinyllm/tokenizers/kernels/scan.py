r"""Where each piece of a text ends, for the patterns named in `split.py`, without a regular expression.

A piece depends on nothing to its left, and on little to its right: the first character says which branch of
the pattern can match, and a run of one class says how far. So each pattern becomes a few comparisons over
`categories.table()`, and a run of ASCII letters is measured eight bytes at a time. The result is the same
pieces as the regular expression, on any text (tests hold both together over every short string of a hostile
alphabet). Bytes that are not UTF-8 count as one character each, neither letter nor number nor space.

Text is addressed by byte: `p` is where we are, `end` one past the last byte, `table` the class table. A
character is one integer, its size in bytes times 8 plus its class.
"""

from numba import njit

from tinyllm.tokenizers.kernels.memory import OPTIONS, load8, load64, store64, trailing_zeros

GPT2, CL100K, LLAMA3, O200K, NANOCHAT = range(5)
RULES = {"gpt2": GPT2, "cl100k": CL100K, "llama3": LLAMA3, "o200k": O200K, "nanochat": NANOCHAT}

OTHER, UPPER, LOWER, LETTER, MARK, NUMBER, SPACE, NEWLINE = range(8)
_LETTERS = 1 << UPPER | 1 << LOWER | 1 << LETTER
_NUMBERS = 1 << NUMBER
_OTHERS = 1 << OTHER | 1 << MARK
_SPACES = 1 << SPACE | 1 << NEWLINE
_CAPITALS = 1 << UPPER | 1 << LETTER | 1 << MARK     # o200k's [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
_SMALLS = 1 << LOWER | 1 << LETTER | 1 << MARK       # o200k's [\p{Ll}\p{Lm}\p{Lo}\p{M}]
_LEADS = 1 << OTHER | 1 << MARK | 1 << SPACE         # [^\r\n\p{L}\p{N}]

_HIGH = -0x7F7F7F7F7F7F7F80        # 0x8080808080808080: the top bit of each byte
_TO_A = 0x1F1F1F1F1F1F1F1F         # added to a byte, sets its top bit from 'a' on
_PAST_Z = 0x0505050505050505       # ... from the character after 'z' on
_SMALL = 0x2020202020202020        # makes capitals small


@njit(**OPTIONS)
def wide_character(p, end, table):
    """The character at a byte of 128 or more; its class is OTHER and its size 1 where it is not UTF-8."""
    first = load8(p)
    second = load8(p + 1) ^ 0x80 if p + 1 < end else 255      # a continuation byte becomes 0 to 63
    if second > 63 or first < 0xC2:
        return 8 | OTHER
    if first < 0xE0:
        return 16 | load8(table + ((first & 0x1F) << 6 | second))
    third = load8(p + 2) ^ 0x80 if p + 2 < end else 255
    if third > 63:
        return 8 | OTHER
    if first < 0xF0:
        code = (first & 0x0F) << 12 | second << 6 | third
        if code < 0x800 or 0xD800 <= code < 0xE000:
            return 8 | OTHER
        return 24 | load8(table + code)
    fourth = load8(p + 3) ^ 0x80 if p + 3 < end else 255
    code = (first & 0x07) << 18 | second << 12 | third << 6 | fourth
    if fourth > 63 or first > 0xF4 or code < 0x10000 or code > 0x10FFFF:
        return 8 | OTHER
    return 32 | load8(table + code)


@njit(**OPTIONS)
def character(p, end, table):
    """Size times 8 plus class of the character at `p`."""
    byte = load8(p)
    if byte < 0x80:
        return 8 | load8(table + byte)
    return wide_character(p, end, table)


@njit(**OPTIONS)
def run(p, end, table, classes):
    """The end of the run of characters, from `p` on, whose classes are in the bit set `classes`."""
    while p < end:
        c = character(p, end, table)
        if not classes >> (c & 7) & 1:
            break
        p += c >> 3
    return p


@njit(**OPTIONS)
def letters(p, end, table):
    """The end of a run of letters; ASCII ones eight at a time."""
    while p + 8 <= end:
        word = load64(p)
        small = word | _SMALL
        ascii_letters = (small + _TO_A) & ~(small + _PAST_Z) & ~word & _HIGH
        if ascii_letters != _HIGH:
            p += trailing_zeros(ascii_letters ^ _HIGH) >> 3
            if load8(p) < 0x80:
                return p
            break
        p += 8
    return run(p, end, table, _LETTERS)


@njit(**OPTIONS)
def contraction(p, end, ignore_case):
    """Length of 's 't 'm 'd 're 've or 'll at the apostrophe `p`, else 0. With case ignored, U+017F is an s."""
    if p + 1 >= end:
        return 0
    fold = 0x20 if ignore_case else 0
    first = load8(p + 1) | fold
    if first == 115 or first == 116 or first == 109 or first == 100:       # s t m d
        return 2
    if p + 2 >= end:
        return 0
    second = load8(p + 2)
    if ignore_case and load8(p + 1) == 0xC5 and second == 0xBF:
        return 3
    second |= fold
    if (second == 101 and (first == 114 or first == 118)) or (second == 108 and first == 108):     # re ve ll
        return 3
    return 0


@njit(**OPTIONS)
def white_space(p, end, table, line_ends):
    """The piece of white space at `p`: up to its last line end where those count, else all but its last character."""
    last, q, after_line = p, p, 0
    while q < end:
        c = character(q, end, table)
        if not _SPACES >> (c & 7) & 1:
            break
        last = q
        q += c >> 3
        if (c & 7) == NEWLINE:
            after_line = q
    if line_ends and after_line:
        return after_line
    return q if q == end or last == p else last


@njit(**OPTIONS)
def piece_gpt2(p, end, table):
    """The end of GPT-2's piece at `p`."""
    byte = load8(p)
    if byte == 39:                                             # '
        length = contraction(p, end, False)
        if length:
            return p + length
    start = p
    if byte == 32 and p + 1 < end:
        p += 1
    c = character(p, end, table)
    kind = 1 << (c & 7)
    if kind & _LETTERS:
        return letters(p, end, table)
    if kind & _OTHERS:
        return run(p, end, table, _OTHERS)
    if kind & _NUMBERS:
        return run(p, end, table, _NUMBERS)
    return white_space(start, end, table, False)


@njit(**OPTIONS)
def digits(p, end, table, most):
    """The end of a run of at most `most` numbers."""
    while p < end and most:
        c = character(p, end, table)
        if (c & 7) != NUMBER:
            break
        p += c >> 3
        most -= 1
    return p


@njit(**OPTIONS)
def cased_word(p, end, table):
    """o200k's word at `p`: capitals then small letters, either part possibly missing; `p` where there is none."""
    capitals = p                                               # marks and letters without case belong to both parts
    either = p
    while capitals < end:
        c = character(capitals, end, table)
        if not _CAPITALS >> (c & 7) & 1:
            break
        capitals += c >> 3
        if (c & 7) != UPPER:
            either = capitals
    smalls = run(capitals, end, table, _SMALLS)
    if smalls > capitals:
        return smalls
    return either if either > p else -capitals                 # negative: capitals alone, the pattern's second choice


@njit(**OPTIONS)
def suffix(p, end):
    """`p`, or the end of a contraction there."""
    if p < end and load8(p) == 39:
        return p + contraction(p, end, True)
    return p


@njit(**OPTIONS)
def piece_o200k(p, end, table):
    """The end of o200k's piece at `p`."""
    c = character(p, end, table)
    kind = 1 << (c & 7)
    after = p + (c >> 3)
    led = after if kind & _LEADS and after < end else end      # a word may start behind one leading character
    with_lead = cased_word(led, end, table)
    if with_lead > led:
        return suffix(with_lead, end)
    without = cased_word(p, end, table)
    if without > p:
        return suffix(without, end)
    if -with_lead > led:
        return suffix(-with_lead, end)
    if -without > p:
        return suffix(-without, end)
    return rest(p, end, table, c, 3, 47)                       # 47: a slash may follow punctuation


@njit(**OPTIONS)
def rest(p, end, table, c, most_digits, slash):
    """What the later patterns share: numbers, punctuation with the line ends after it, white space."""
    if (c & 7) == NUMBER:
        return digits(p, end, table, most_digits)
    start = p
    if load8(p) == 32 and p + 1 < end:
        p += 1
        c = character(p, end, table)
    if _OTHERS >> (c & 7) & 1:
        p = run(p, end, table, _OTHERS)
        while p < end and (load8(p) == 10 or load8(p) == 13 or load8(p) == slash):
            p += 1
        return p
    return white_space(start, end, table, True)


@njit(**OPTIONS)
def piece_cl100k(p, end, table, most_digits):
    """The end of cl100k's piece at `p`; Llama 3's are the same, nanochat's have two digits."""
    c = character(p, end, table)
    kind = 1 << (c & 7)
    if kind & _LETTERS:
        return letters(p, end, table)
    if load8(p) == 39:
        length = contraction(p, end, True)
        if length:
            return p + length
    after = p + (c >> 3)
    if kind & _LEADS and after < end and _LETTERS >> (character(after, end, table) & 7) & 1:
        return letters(after, end, table)
    return rest(p, end, table, c, most_digits, 10)


@njit(**OPTIONS)
def scan(start, end, table, rule, ends, most):
    """Write the end of each piece of the text from `start` to `end` as int64, at most `most`; their number."""
    found = 0
    p = start
    while p < end and found < most:
        if rule == GPT2:
            p = piece_gpt2(p, end, table)
        elif rule == O200K:
            p = piece_o200k(p, end, table)
        else:
            p = piece_cl100k(p, end, table, 2 if rule == NANOCHAT else 3)
        store64(ends + 8 * found, p)
        found += 1
    return found
