# %% [markdown]
# # Words as tokens, and the sliding window
#
# The most natural token is a word. This lesson builds a word tokenizer, meets the two walls it runs into (words nobody has seen, and
# text that does not come back), sees how GPT-2's tokenizer avoids both, and cuts the row of ids into what a model trains on: windows.

# %%
import re
from collections import Counter

import numpy as np

import tinyllm as tl
from tinyllm import drawing
from tinyllm.tokenizers.view import readable

path = tl.text.find("the-verdict")
if path is None:
    print("the-verdict is not on this machine (`tinyllm data get the-verdict` fetches it): part of the tales is used, and the study's figures are left out")
study = path is not None
text = path.read_bytes().decode() if study else tl.text.read(["tales"])[:20_000]
print(f"{len(text):,} characters: {text[:60]!r} …")

# %% [markdown]
# ## Cutting
#
# Split at spaces; then at spaces, commas and full stops; then at all punctuation. The brackets in the pattern keep what was split
# at, and what is only blank is dropped afterwards.

# %%
PATTERNS = (r"(\s)", r"([,.]|\s)", r"""([,.:;?_!"()']|--|\s)""")


def cut(text, pattern=PATTERNS[-1]):
    return [piece for piece in re.split(pattern, text) if piece.strip()]


for pattern in PATTERNS:
    print(f"{pattern:>24}  {len(cut(text, pattern)):5,} tokens, {len(set(cut(text, pattern))):5,} different:", cut("Hello, world. Is this-- a test?", pattern))
words = cut(text)
vocabulary = sorted(set(words))
if study:
    assert (len(text), len(words), len(vocabulary)) == (20_479, 4_690, 1_130)         # the study's figures

# %% [markdown]
# ## Numbering
#
# Sort the words; a word's id is its place. To decode, join with spaces and take away those that stand before punctuation.

# %%
class WordTokenizer:
    """Ids of words. With `specials`, the last ones stand for the end of a text and for every unknown word."""

    def __init__(self, vocabulary, specials=()):
        self.words = [*vocabulary, *specials]
        self.ids = {word: i for i, word in enumerate(self.words)}
        self.unknown = self.ids.get("<|unk|>")

    def encode(self, text):
        if self.unknown is None:
            return [self.ids[word] for word in cut(text)]
        return [self.ids.get(word, self.unknown) for word in cut(text)]

    def decode(self, ids):
        return re.sub(r"""\s+([,.?!"()'])""", r"\1", " ".join(self.words[i] for i in ids))


first = WordTokenizer(vocabulary)
print(", ".join(f"{i} {first.words[i]}" for i in (*range(12), 44, 50)))
sentence = "It's the last he painted, you know, Mrs.Gisburn said with pardonable pride." if study else text[text.index('"'):text.index("\n", text.index('"'))]
ids = first.encode(sentence)
print(sentence, ids, first.decode(ids), sep="\n")
if study:       # the study's figures
    assert [first.words[i] for i in (*range(12), 44, 50)] == ["!", '"', "'", "(", ")", ",", "--", ".", ":", ";", "?", "A", "HAD", "Hermia"]
    assert ids == [56, 2, 850, 988, 602, 533, 746, 5, 1126, 596, 5, 67, 7, 38, 851, 1108, 754, 793, 7]
    assert first.decode(ids) == "It' s the last he painted, you know, Mrs. Gisburn said with pardonable pride."

# %% [markdown]
# The first wall: what comes back is not what went in. Spaces were thrown away, and the rule that puts them back guesses.
#
# The second wall: a word that was not in the text.

# %%
question = "Hello, do you like tea?"
try:
    first.encode(question)
except KeyError as error:
    print("KeyError:", error)
    assert error.args == ("Hello",)

second = WordTokenizer(vocabulary, ["<|endoftext|>", "<|unk|>"])
both = question + " <|endoftext|> In the sunlit terraces of the palace."
print(len(second.words), second.encode(both), second.decode(second.encode(both)), sep="\n")
if study:       # the study's figures
    assert len(second.words) == 1_132
    assert second.encode(both) == [1131, 5, 355, 1126, 628, 975, 10, 1130, 55, 988, 956, 984, 722, 988, 1131, 7]

# %% [markdown]
# `<|unk|>` turns the wall into a hole: the word is lost. How often would that happen? Learn the words of the first half of the text
# and read the second. Most words are rare, and there are always more of them: that is why no list of words is ever long enough.

# %%
half = len(words) // 2
known = set(words[:half])
missing = [word for word in words[half:] if word not in known]
print(f"of the second half's {half:,} words, {len(missing) / half:.1%} did not occur in the first: {', '.join(missing[:8])} …")
counts = Counter(words)
print("the most frequent:", counts.most_common(8))
print(f"{sum(n == 1 for n in counts.values()):,} of {len(counts):,} words occur once")
lengths = np.unique(np.linspace(1, len(words), 60).astype(int))
growth = lengths, [len(set(words[:n])) for n in lengths]
frequencies = sorted(counts.values(), reverse=True)

# %% [markdown]
# ## Pieces of words
#
# GPT-2 has 50,256 pieces made by byte pair encoding, and one end-of-text token. Frequent words are one piece, others are spelled out of
# several, and in the worst case of single bytes: nothing is unknown, and decoding gives the text back to the last space.

# %%
gpt2_files = tl.text.data_directory() / "gpt2"
has_gpt2 = gpt2_files.is_dir()
if has_gpt2:
    tokenizer = tl.tokenizers.load(gpt2_files)
else:
    print(f"GPT-2's encoder.json and vocab.bpe are not in {gpt2_files}: a tokenizer trained on this text takes their place")
    tokenizer = tl.tokenizers.BPETokenizer.train(text, 1_000, special_tokens=["<|endoftext|>"])

for asked in ("Helo, do you like tea? <|endoftext|> In the sunlit terracesof someunknownPlace", "Awkir ier"):
    ids = tokenizer.encode(asked, allowed_special={"<|endoftext|>"})
    print(" | ".join(readable(tokenizer.token_bytes(i)) for i in ids), ids, sep="\n")
    assert tokenizer.decode(ids) == asked
    if has_gpt2:    # the study's figures
        assert ids in ([12621, 78, 11, 466, 345, 588, 8887, 30, 220, 50256, 554, 262, 4252, 18250, 8812, 2114, 1659, 617, 34680, 27271], [23155, 74, 343, 220, 959])
ids = tokenizer.encode_array(text)
print(f"a vocabulary of {tokenizer.vocab_size:,}: {len(ids):,} tokens, {len(text) / len(ids):.2f} characters each")
if has_gpt2 and study:
    assert len(ids) == 5_145        # the study's figure

# %% [markdown]
# ## What is there to learn? The next token
#
# Every place of a text is a question with a known answer: given all this, what comes next? A row of T + 1 ids holds T of them, so
# inputs x and answers y are the same row, shifted by one.

# %%
context = ids[50:]
for n in range(1, 5):
    print(f"{tokenizer.decode(context[:n])!r} -> {tokenizer.decode(context[n:n + 1])!r}")
x, y = context[:4].tolist(), context[1:5].tolist()
print("x", x, "\ny", y)
if has_gpt2 and study:
    assert (x, y) == ([290, 4920, 2241, 287], [4920, 2241, 287, 257])       # the study's figures

# %% [markdown]
# ## Windows
#
# A text is longer than a model's context, so it is cut into windows of T. The *stride* is how far the next window starts: with stride T they
# stand end to end; with a smaller one they overlap, each token is an answer several times, and an epoch shows the same text more often.

# %%
batches = tl.text.EpochWindows(ids, block_size=4, batch_size=8, stride=4)
x, y = next(batches)
print(f"{batches.windows:,} windows, {len(batches)} batches of {x.shape}\nx", x[:3].tolist(), "\ny", y[:3].tolist())
if has_gpt2 and study:
    assert x[:3].tolist() == [[40, 367, 2885, 1464], [1807, 3619, 402, 271], [10899, 2138, 257, 7026]]      # the study's figures

for stride in (256, 128, 64, 1):
    windows = (len(ids) - 256 - 1) // stride + 1
    assert windows == tl.text.EpochWindows(ids, 256, 1, stride=stride).windows
    print(f"context 256, stride {stride:3}: {windows:5,} windows, each token is an answer about {windows * 256 / len(ids):5.1f} times an epoch")

# %%
shown = [readable(tokenizer.token_bytes(i)) for i in ids[:12]]
sizes = [len(word) * 0.9 + 1.6 for word in shown]


def window(start, T=4):
    """A row with one window: its inputs in blue, the answer that only the last of them has in orange."""
    return [(None, sum(sizes[:start])), *((shown[k], sizes[k], 0 if k < start + T else 1) for k in range(start, start + T + 1))]


rows, labels = [[(word, size, None) for word, size in zip(shown, sizes)]], ["the text"]
for stride in (4, 2, 1):
    rows += [window(start) for start in range(0, 8, stride)]
    labels += [f"stride {stride}" if start == 0 else "" for start in range(0, 8, stride)]
drawing.save("out/04_words_and_windows.html", drawing.page(
    "Words and windows",
    "# Most words are rare", "A few words make up most of a text, and the list of words never ends.",
    drawing.curves({"count": (range(1, len(frequencies) + 1), frequencies)}, "how often the n-th most frequent word occurs", log="xy", x_label="rank"),
    drawing.curves({"words": growth}, "different words so far", x_label="words read"),
    "# Sliding windows", "Blue: a window of four inputs, whose answers are the same row shifted by one. Orange: the answer to the last of them.",
    drawing.strips(rows, labels, "windows of 4", unit=7)))
