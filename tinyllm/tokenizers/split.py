r"""Cutting a text into pieces before any merge: the regular expressions of known tokenizers.

A pattern decides what a token can never cross. GPT-2's, read left to right: a contraction ('s 't …), or
an optional space and a run of letters, or of digits, or of anything else that is not space, or white
space, whose last character is left to the word that follows ("a  b" gives "a", " ", " b").

The later ones let any one character lead a run of letters, cut numbers into three digits (nanochat:
two) and keep line ends with the punctuation before them; o200k also starts a new piece where a small
letter is followed by a capital. `scan.py` holds the same rules as compiled code.

Sources: openai/gpt-2 src/encoder.py; openai/tiktoken tiktoken_ext/openai_public.py (cl100k in the form
published first, o200k); meta-llama/llama3 tokenizer.py; karpathy/nanochat tokenizer.py.
"""

import functools
import math
import re

import numpy as np
import regex

from tinyllm.tokenizers import categories
from tinyllm.tokenizers.base import TokenizerError
from tinyllm.untrusted import shown

_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
              r"|\s*[\r\n]|\s+(?!\S)|\s+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SUFFIX}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SUFFIX}?"
             r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "nanochat": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*"
                r"|\s*[\r\n]|\s+(?!\S)|\s+",
}
# …, À, à, 中, a combining acute, ², an em space, and no line end beyond ASCII
_MEMBERS = np.array([0x2026, 0xC0, 0xE0, 0x4E2D, 0x301, 0xB2, 0x2003, 0x2026], np.uint32)
LONGEST_PATTERN, DEEPEST_PATTERN, MOST_REPEATS = 10_000, 30, 1_000
_ESCAPES = re.compile(r"\\(?:[pP]\{\^?[A-Za-z_=:& -]+\}|.)", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*)\}")
_UNBOUNDED = re.compile(r"\(\?(?:R|[+-]?\d|&|P>)|\{[^{}]*[eisd<=][^{}]*\}")      # (?R), (?1), (?&name); {e<=2}
SECONDS, SECONDS_PER_MEGABYTE = 1, 10        # a pattern that needs longer backtracks without end


def pattern_text(pattern):
    """The regular expression a name stands for; any other string is one itself; None stays None."""
    return PATTERNS.get(pattern, pattern)


def pattern_name(text):
    """The name of a known regular expression, else the text itself."""
    return next((name for name, known in PATTERNS.items() if known == text), text)


@functools.lru_cache(maxsize=64)
def _compiled(pattern):
    if pattern not in PATTERNS:
        _check_bounds(pattern)
    try:
        return regex.compile(pattern_text(pattern))
    except (regex.error, RecursionError, MemoryError, OverflowError, ValueError) as error:
        raise TokenizerError(f"the pattern {shown(pattern)} is neither a regular expression ({error}) nor one of the names "
                             f"{', '.join(PATTERNS)}") from error


def _check_bounds(pattern):
    """Refuse what `regex` would spend any amount of time or memory on before its timeout counts: it unrolls repeats as it compiles."""
    if len(pattern) > LONGEST_PATTERN:
        raise TokenizerError(f"the pattern has {len(pattern)} characters; the most is {LONGEST_PATTERN}")
    plain = _ESCAPES.sub("", pattern)
    depth = deepest = 0
    for character in plain:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    repeats = math.prod(max(1, *(int(count) if len(count) < 10 else math.inf for count in re.findall(r"\d+", inner)), 1)
                        for inner in _BRACES.findall(plain))
    if deepest > DEEPEST_PATTERN or repeats > MOST_REPEATS or _UNBOUNDED.search(plain):
        raise TokenizerError(f"the pattern {shown(pattern)} is not taken: at most {DEEPEST_PATTERN} brackets deep, {{n,m}} of a product of at "
                             f"most {MOST_REPEATS}, and neither recursion nor approximate matching")


def check_pattern(pattern):
    """Raise unless `pattern` is None, a name or a regular expression that compiles."""
    if pattern is not None and not isinstance(pattern, str):
        raise TokenizerError(f"the pattern is {shown(pattern)}; expected a text")
    if pattern is not None:
        _compiled(pattern)
    return pattern


def pieces(text, pattern):
    """The pieces of `text`, in order; they join to the text, or it is an error.

    >>> pieces("I've 42  ideas", "gpt2")
    ['I', "'ve", ' 42', ' ', ' ideas']
    """
    if pattern is None:
        return [text] if text else []
    seen = text
    if not text.isascii() and pattern_name(pattern) in PATTERNS:
        seen = _stand_ins(text)
    seconds = SECONDS + SECONDS_PER_MEGABYTE * len(text) / 1e6
    try:
        spans = [match.span() for match in _compiled(pattern).finditer(seen, timeout=seconds)]
    except (TimeoutError, MemoryError):
        raise TokenizerError(f"the pattern {shown(pattern)} needed more than {seconds:.1f} s, or all memory, for {len(text)} characters: it "
                             "backtracks without end; use possessive quantifiers (a++) where it repeats") from None
    at = 0
    for start, end in [*spans, (len(text), len(text))]:
        if start != at:
            raise TokenizerError(f"the pattern {shown(pattern)} leaves out {text[at:start][:20]!r} at character {at}; its pieces must "
                                 r"join to the whole text: end it with an alternative that takes anything, such as |[\s\S]")
        at = end
    return [text[start:end] for start, end in spans if start < end]


def _stand_ins(text):
    """`text` with each character beyond ASCII replaced by one of its class that every Unicode version knows.

    So a named pattern gives the pieces of the frozen table (`categories.py`) whatever `regex` is installed.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    stand_in = _MEMBERS[categories.table()[codes]]
    plain = (codes < 128) | (codes == 0x17F)         # U+017F matches s where case is ignored
    return np.where(plain, codes, stand_in).astype("<u4").tobytes().decode("utf-32-le")
