# %% [markdown]
# # From characters to bytes to tokens
#
# A model computes with numbers, so a text has to become numbers first. Characters already have them (Unicode), and a file stores
# them as bytes (UTF-8). But one number a byte makes long rows, and attention's cost grows with the square of the length. Byte pair
# encoding shortens the row: whatever stands side by side often gets a number of its own.

# %%
import hashlib
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing
from tinyllm.tokenizers.view import readable

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## Three ways to store a character
#
# UTF-32 takes four bytes for each character, UTF-16 two or four, UTF-8 one to four: ASCII stays as it was. A zero byte
# carries nothing, so count those, too.

# %%
SAMPLES = {"ASCII": "Hello, world!", "Japanese": "こんにちは世界🌍", "emoji": "🌍🚀😎🎉"}
table = {}
print("                characters   UTF-8  UTF-16  UTF-32    zero bytes          different UTF-8 bytes")
for name, text in SAMPLES.items():
    coded = [text.encode(coding) for coding in ("utf-8", "utf-16-le", "utf-32-le")]
    zeros = [100 * data.count(0) / len(data) for data in coded]
    table[name] = [len(data) for data in coded], [round(share, 1) for share in zeros], len(set(coded[0]))
    print(f"{name:>9} {len(text):16} {len(coded[0]):7} {len(coded[1]):7} {len(coded[2]):7}    " + " ".join(f"{share:4.1f}%" for share in zeros) + f" {table[name][2]:14} of 256")

# the study's figures
assert table == {"ASCII": ([13, 26, 52], [0, 50, 75], 10), "Japanese": ([25, 18, 32], [0, 0, 46.9], 16), "emoji": ([16, 16, 16], [0, 0, 25], 9)}

bytes_of = drawing.strips([[(f"{c}", 6, None), *((f"{byte:02x}", 4, 0 if byte else 1) for byte in c.encode(coding))]
                           for c in "aé世🌍" for coding in ("utf-8", "utf-16-le", "utf-32-le")],
                          ["UTF-8", "UTF-16", "UTF-32"] * 4, "the bytes of a character", unit=6)

# %% [markdown]
# UTF-8 wins: every text in the world can be written with 256 symbols, and none is wasted. No word can be unknown to a model that
# reads bytes. The price is length.
#
# ## What length costs
#
# Attention compares each symbol with each other. In GPT-2's size (12 layers, width 768) the comparing alone takes
# `layers · 2 · length² · width` multiplications:

# %%
def comparing(length, layers=12, width=768):
    return layers * 2 * length ** 2 * width


greeting = SAMPLES["Japanese"]
print(f"{greeting}: {comparing(len(greeting)):,} multiplications as {len(greeting)} characters, {comparing(len(greeting.encode())):,} as {len(greeting.encode())} bytes")
assert (comparing(8), comparing(25)) == (1_179_648, 11_520_000)       # the study's figures

# %% [markdown]
# ## Byte pair encoding, on Morse code
#
# Count how often each two symbols stand side by side. Give the most frequent pair a name, write the name in its place, and
# start over, until no pair occurs twice. (Of equal counts, the pair that stands first wins. "..." holds ".." twice.)

# %%
MORSE = {"h": "....", "e": ".", "l": ".-..", "o": "---"}
text = " ".join(MORSE[letter] for letter in "hellohello")


def count_pairs(symbols):
    counts = {}
    for pair in zip(symbols, symbols[1:]):
        counts[pair] = counts.get(pair, 0) + 1
    return counts


def merge(symbols, pair, name):
    out, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i:i + 2]) == pair:
            out.append(name)
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


symbols = list(text)
print("first counts:", {"".join(pair): count for pair, count in sorted(count_pairs(symbols).items(), key=lambda item: -item[1])})
size = dict.fromkeys(".- ", 1)
rules, rows = [], [symbols]
for name in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
    counts = count_pairs(symbols)
    pair = max(counts, key=counts.get)          # the first of the largest: a dict keeps the order of the text
    if counts[pair] < 2:
        break
    symbols = merge(symbols, pair, name)
    size[name] = size[pair[0]] + size[pair[1]]
    rules.append(f"{name}={pair[0]}{pair[1]}")
    rows.append(symbols)
    print(f"{name} = {pair[0]!r} + {pair[1]!r}, seen {counts[pair]:2} times: {len(symbols):2} symbols  {''.join(symbols)}")

# the study's figures: 41 symbols, thirteen rules, "M M", a vocabulary of 3 + 13
assert len(text) == 41 and "".join(symbols) == "M M" and len(rules) == 13
assert " ".join(rules) == "A=.. B=A  C=B. D=-- E=AC F=E  G=F. H=G- I=HC J=I- K=JB L=KD M=L-"
morse = drawing.strips([[("␣" if s == " " else s, size[s]) for s in row] for row in rows], ["the text", *(f"{rule.replace(' ', '␣')}" for rule in rules)],
                       "hello hello in Morse: a row a merge", unit=15)

# %% [markdown]
# ## On a real text
#
# Start from the 256 bytes; merges get the numbers from 256 on. This is the library's trainer, which takes a fraction of a second
# where the loop above takes minutes. `pattern=None` lets merges cross anything, as in the study; the study's three texts are used
# where they are on this machine, otherwise the tales that ship.

# %%
STUDY = {"the-verdict": ("b41e41a6", 7_752, 9_177), "the-awakening": ("e600f427", 24_342, 29_209), "pride-and-prejudice": ("131fe34c", 271_538, 327_501)}
texts, figures = {}, {}
for name, (checksum, trained, applied) in STUDY.items():
    path = tl.text.find(name)
    if path is None:
        print(f"{name} is not on this machine (`tinyllm data get {name}` fetches it); left out")
        continue
    data = path.read_bytes()
    texts[name] = data.decode()
    if hashlib.sha256(data).hexdigest().startswith(checksum):       # the very file of the study
        figures[name] = trained, applied
if not texts:
    tales = tl.text.read(["tales"])
    texts = {"the tales' first part": tales[:200_000], "their second part": tales[200_000:400_000]}

trained = {name: tl.tokenizers.BPETokenizer.train(text, 756, pattern=None, ties="first") for name, text in texts.items()}
for name, tokenizer in trained.items():
    before, after = tokenizer.history[0], tokenizer.history[-1]
    first = ", ".join(f"{readable(tokenizer.token_bytes(256 + i))} {tokenizer.history[i] - tokenizer.history[i + 1]:,}" for i in range(5))
    print(f"{name}: {before:,} bytes, {after:,} tokens after 500 merges, {before / after:.4f} bytes a token; first merges {first}")
    if name in figures:
        assert after == figures[name][0]        # the study's figures: 7,752, 24,342 and 271,538

# %% [markdown]
# This is no way to save space: a number up to 755 needs two bytes at least, and four as it is usually stored. What it saves is *length*.

# %%
name = list(texts)[-1]
text, tokenizer = texts[name], trained[name]
ids = tokenizer.encode_array(text)
print(f"{name}: {len(text.encode()):,} bytes of text, {ids.nbytes:,} bytes of numbers, {len(text.encode()) / len(ids):.2f} times shorter")
assert tokenizer.decode(ids) == text

# %% [markdown]
# ## Merges meet a text they have not seen
#
# To encode is not to count again: replay the merges in the order they were learned. The study learned 500 from a hundred thousand
# lines of poetry. On prose they still work, a little less well than merges learned from the prose itself.

# %%
poetry = tl.text.data_directory() / "poetry_500_merges.tsv"
history = tl.text.data_directory() / "poetry_500_history.tsv"
if poetry.is_file():
    merges = [tuple(map(int, row.split("\t")[2:4])) for row in poetry.read_text(encoding="utf-8").splitlines()[1:]]
    of_poetry = tl.tokenizers.BPETokenizer(merges, pattern=None)
    for name, text in texts.items():
        count = len(of_poetry.encode_array(text))
        print(f"{name}: {count:,} tokens by poetry's merges, {trained[name].history[-1]:,} by its own")
        if name in figures:
            assert count == figures[name][1]    # the study's figures: 9,177, 29,209 and 327,501
else:
    print("the study's merges from poetry are not on this machine; the first text's merges are applied to the others instead")
    first = next(iter(trained.values()))
    for name, text in texts.items():
        print(f"{name}: {len(first.encode_array(text)):,} tokens by the first text's merges, {trained[name].history[-1]:,} by its own")

# %% [markdown]
# ## Cut first, then merge
#
# Merges that cross words waste numbers on accidents: `of the `, `, and `, the end of one line glued to the start of the next. GPT-2 cuts the
# text into words first, by a regular expression, and merges only inside them. Compression loses a little and the vocabulary gains sense.

# %%
name, text = list(texts.items())[-1]
cut = tl.tokenizers.BPETokenizer.train(text, 756, pattern="gpt2", ties="first")


def crosses_words(data):
    """Something before a space, and a space not alone at its start."""
    return b" " in data[1:] and data.strip() != b""


for title, tokenizer in (("without a cut", trained[name]), ("words cut first", cut)):
    tokens = [tokenizer.token_bytes(i) for i in range(256, 756)]
    crossing = [data for data in tokens if crosses_words(data)]
    longest = sorted(tokens, key=len, reverse=True)[:8]
    print(f"{name}, {title}: {tokenizer.history[-1]:,} tokens; {len(crossing)} of 500 reach over the end of a word; longest: " + " ".join(map(readable, longest)))
assert not any(crosses_words(cut.token_bytes(i)) for i in range(256, 756))
print("one sentence:", *(" | ".join(readable(t.token_bytes(i)) for i in t.encode("It was the best of the houses, and the worst.")) for t in (trained[name], cut)), sep="\n  ")

# %% [markdown]
# ## More merges
#
# Each new merge saves less than the last one did. With words cut first there is a floor: once each word is one token, nothing is
# left to merge.

# %%
most = 2_000 if quick else 20_000
curves = {}
for title, pattern in (("without a cut", None), ("words cut first", "gpt2")):
    tokenizer = tl.tokenizers.BPETokenizer.train(text, 256 + most, pattern=pattern)
    curve = tokenizer.history[0] / np.array(tokenizer.history[1:])
    at = np.unique(np.geomspace(1, len(curve), 120).astype(int))
    curves[title] = at, curve[at - 1]
    print(f"{name}, {title}: {len(curve):,} merges, {curve[-1]:.2f} bytes a token")
words = len(tl.tokenizers.split.pieces(text, "gpt2"))
if history.is_file():
    rows = [row.split("\t") for row in history.read_text(encoding="utf-8").splitlines()[1:]]
    curves["100,000 lines of poetry, the study's run"] = [int(row[0]) for row in rows], [3_836_123 / int(row[1]) for row in rows]
    assert int(rows[-1][1]) == 1_692_762 and round(curves["100,000 lines of poetry, the study's run"][1][-1], 4) == 2.2662     # the study's figures

# %% [markdown]
# ## How large should a vocabulary be?
#
# A larger vocabulary shortens the row, which attention repays with the square and everything else in proportion. But each token has
# to be chosen among the whole vocabulary, by a product with V rows: a cost that grows with V. Count the multiplications of one
# text: 512 bytes in a small model, 4,096 in one of GPT-2's size.

# %%
at, ratio = curves["words cut first"]
costs = {}
for title, size, layers, width in (("4 layers of width 128, 512 bytes", 512, 4, 128), ("12 layers of width 768, 4,096 bytes", 4096, 12, 768)):
    length, V = size / ratio, 256 + at
    parts = {"comparing": comparing(length, layers, width), "choosing among V": length * V * width, "the other layers": length * 12 * width ** 2 * layers}
    parts = {"all": sum(parts.values()), **parts}
    best = V[parts["all"].argmin()]
    costs[title] = {part: (V, cost / 1e6) for part, cost in parts.items()}
    print(f"{title}: cheapest with a vocabulary of {best:,}" + (" or more" if best == V[-1] else "") + f": {parts['all'].min() / 1e6:,.0f} million multiplications, "
          f"{parts['all'][0] / 1e6:,.0f} with bytes")

# %%
drawing.save("out/03_bytes_and_tokens.html", drawing.page(
    "From characters to bytes to tokens",
    "# Bytes", "Orange bytes are zero: they carry nothing.", bytes_of,
    "# Byte pair encoding", "Each row fuses one pair. After thirteen merges 'hello' is one symbol.", morse,
    "# Compression against merges",
    drawing.curves(curves, f"bytes a token: {name}", width=640, height=320, log="x", x_label="merges", floors={"a token a word": len(text.encode()) / words}),
    "# Cost against vocabulary", "A small model is cheapest with a small vocabulary, a large one with a large one.",
    *(drawing.curves(lines, title, height=300, log="xy", mark_lowest="all", x_label="vocabulary", y_label="million multiplications") for title, lines in costs.items())))
