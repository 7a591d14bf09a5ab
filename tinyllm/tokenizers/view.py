"""Tokens to look at: text in colours, a word's merges step by step, the compression curve.

`spans` gives the tokens of a text as plain data; `terminal` and the functions below draw them. The page of
`tokenizer show --html` is in `page.py`, made of the same data.
"""

from collections import Counter

from tinyllm.tokenizers import bpe
from tinyllm.tokenizers.base import TokenizerError, to_bytes
from tinyllm.tokenizers.split import pieces

_BACKGROUNDS = (189, 223, 194, 225, 158, 216)     # six light colours of the terminal's 256


def readable(data):
    """Bytes as text that shows itself: a space as ·, a line end as ⏎, what is no text as its hexadecimal bytes.

    >>> readable(b" the"), readable(b"\\n"), readable(b"\\xe4\\xbd")
    ('·the', '⏎', '⟨e4 bd⟩')
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"⟨{data.hex(' ')}⟩"
    shown = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥"}
    return "".join(shown.get(c, c if c.isprintable() else f"⟨{c.encode().hex(' ')}⟩") for c in text)


def tokens_of(tokenizer, text):
    """[(id, its bytes), …] of a text; special tokens in it count as such."""
    ids = tokenizer.encode(text, allowed_special="all") if tokenizer.special_tokens else tokenizer.encode(text)
    return [(token, tokenizer.token_bytes(token)) for token in ids]


def terminal(tokenizer, text, colour=True):
    """The text with its tokens in alternating colours, or between bars where there is no colour."""
    lines = []
    for place, (_, data) in enumerate(tokens_of(tokenizer, text)):
        shown = readable(data).replace("⏎", "⏎\n")
        head, line_end, rest = shown.partition("\n")
        if colour:
            background = f"\x1b[30;48;5;{_BACKGROUNDS[place % len(_BACKGROUNDS)]}m"
            lines.append("\n".join(f"{background}{part}\x1b[0m" if part else "" for part in (head + line_end + rest).split("\n")))
        else:
            lines.append(head + "|" + line_end + rest)
    return "".join(lines)


def steps(tokenizer, word):
    """How merges build the tokens of one word: [(rank or None, ids after it), …], the first its bytes.

    A word that the pattern cuts is refused: merges never cross the cut.

    >>> from tinyllm.tokenizers import BPETokenizer
    >>> tokenizer = BPETokenizer([(104, 101), (116, 256)])
    >>> steps(tokenizer, "the")
    [(None, [116, 104, 101]), (0, [116, 256]), (1, [257])]
    """
    if tokenizer.kind != "bpe":
        raise TokenizerError(f"a {tokenizer.kind} tokenizer has no merges to show")
    cut = pieces(word, tokenizer.pattern)
    if len(cut) != 1:
        raise TokenizerError(f"merges build one piece at a time, and the pattern cuts {word!r} into {cut}: name one of these")
    ids = [tokenizer.byte_ids[byte] for byte in to_bytes(word)]
    trace = [(None, ids)]
    ranks = tokenizer.ranks
    while True:
        found = min((ranks[pair] + (pair,) for pair in zip(ids, ids[1:]) if pair in ranks), default=None)
        if found is None:
            break
        rank, token, pair = found
        ids = bpe.merge(ids, pair, token)
        trace.append((rank, ids))
    if tokenizer.encode(word, disallowed_special=()) != ids:          # found as a whole
        trace.append((None, tokenizer.encode(word, disallowed_special=())))
    return trace


def steps_text(tokenizer, word):
    """`steps` as lines: the tokens after each merge."""
    lines = []
    for rank, ids in steps(tokenizer, word):
        label = "bytes" if not lines else "whole piece" if rank is None else f"merge {rank}"
        lines.append(f"{label:>12}  " + " | ".join(readable(tokenizer.token_bytes(token)) for token in ids))
    return "\n".join(lines)


def longest(tokenizer, number):
    """The tokens of most bytes, special ones left out: [(id, bytes), …]."""
    special = set(tokenizer.special_tokens.values())
    ordinary = [(token, data) for token, data in enumerate(tokenizer.tokens) if data and token not in special]
    return sorted(ordinary, key=lambda item: (-len(item[1]), item[0]))[:number]


def most_frequent(tokens, number):
    """The most frequent of [(id, bytes), …]: [(id, bytes, how often), …]."""
    counts = Counter(tokens)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(token, data, count) for (token, data), count in ranked[:number]]


def measures(tokenizer, text):
    """What a comparison shows of a tokenizer on a text, as {name: number}."""
    ids = tokenizer.encode_array(text, disallowed_special=())
    words = len(text.split())
    return {"vocabulary": tokenizer.vocab_size, "tokens": len(ids), "tokens per character": len(ids) / max(len(text), 1),
            "tokens per word": len(ids) / max(words, 1), "bytes per token": len(to_bytes(text)) / max(len(ids), 1),
            "different ids": len(set(ids.tolist()))}


def curve_svg(history, width=640, height=300):
    """The compression curve as SVG: tokens left, as a share of the bytes, after each merge."""
    if not history or len(history) < 2:
        raise TokenizerError("this tokenizer carries no history: the curve is recorded when a BPE tokenizer is trained here")
    left, right, top, bottom = 56, 16, 16, 44
    merges = len(history) - 1

    def x(number):
        return left + (width - left - right) * number / merges

    def y(share):
        return top + (height - top - bottom) * (1 - share)

    chosen = sorted({round(i * merges / 400) for i in range(401)})
    points = " ".join(f"{x(i):.1f},{y(history[i] / history[0]):.1f}" for i in chosen)
    marks = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        marks.append(f'<line x1="{left}" x2="{width - right}" y1="{y(share):.1f}" y2="{y(share):.1f}" class="grid"/>'
                     f'<text x="{left - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for number in sorted({0, merges // 4, merges // 2, 3 * merges // 4, merges}):
        marks.append(f'<text x="{x(number):.1f}" y="{height - bottom + 18}" text-anchor="middle">{number:,}</text>')
    ratio = history[0] / history[-1]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
            "<style>text{font:12px system-ui,sans-serif;fill:#777}.grid{stroke:#8884;stroke-width:1}"
            ".curve{fill:none;stroke:#2a6fdb;stroke-width:2}</style>"
            f'<title>{history[0]:,} bytes become {history[-1]:,} tokens</title>{"".join(marks)}'
            f'<polyline class="curve" points="{points}"/>'
            f'<text x="{left + (width - left - right) / 2}" y="{height - 8}" text-anchor="middle">merges</text>'
            f'<text x="{width - right}" y="{y(history[-1] / history[0]) - 8:.1f}" text-anchor="end">{ratio:.2f} bytes a token</text></svg>')
