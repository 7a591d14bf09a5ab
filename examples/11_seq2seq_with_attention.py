# %% [markdown]
# # Translating with a recurrent network, and why attention was invented
#
# Before the Transformer, one recurrent network read a sentence into a vector and a second one wrote the translation out
# of it (Sutskever et al. and Cho et al. 2014). Everything had to pass through that one vector. Bahdanau, Cho and Bengio
# (2015) let the writer look back at every word that was read, and called it attention. Here we build all of it from
# tensors, teach it a toy French, look at where it looks, and set a small Transformer the same task. In full the lesson
# trains three models, in about a minute.

# %%
import os
import random
import time

import numpy as np

import tinyllm as tl
from tinyllm import drawing, ops
from tinyllm.train.blas import use_one_thread

use_one_thread()            # a recurrent network is a long row of small products, which gain nothing from several threads
quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## A toy language pair
#
# In our French every adjective stands behind its noun, the nearest first, and agrees with the noun's gender, as does
# the article. So the order of the words changes, and the first word to be written depends on one that comes later in
# English.

# %%
nouns = {"cat": ("chat", 0), "dog": ("chien", 0), "king": ("roi", 0), "boat": ("bateau", 0), "garden": ("jardin", 0),
         "house": ("maison", 1), "car": ("voiture", 1), "flower": ("fleur", 1), "queen": ("reine", 1), "bee": ("guêpe", 1)}
adjectives = {"red": ("rouge", "rouge"), "green": ("vert", "verte"), "white": ("blanc", "blanche"), "black": ("noir", "noire"),
              "heavy": ("lourd", "lourde"), "round": ("rond", "ronde"), "strong": ("fort", "forte")}
verbs = {"sees": "voit", "loves": "aime", "draws": "dessine", "follows": "suit", "finds": "trouve"}


def phrase(rng, count):
    """A noun with `count` adjectives, in both languages."""
    noun, chosen = rng.choice(list(nouns)), rng.sample(list(adjectives), count)
    french, gender = nouns[noun]
    return ["the", *chosen, noun], [("le", "la")[gender], french, *(adjectives[a][gender] for a in reversed(chosen))]


def sentence(rng, most=2):
    (left, gauche), (right, droite), verb = phrase(rng, rng.randint(0, most)), phrase(rng, rng.randint(0, most)), rng.choice(list(verbs))
    return left + [verb] + right, gauche + [verbs[verb]] + droite


rng = random.Random(0)
test = [sentence(rng) for _ in range(64 if quick else 512)]
held_out = {" ".join(english) for english, _ in test}
for english, french in test[:3]:
    print(f"{' '.join(english):52} {' '.join(french)}")

words = ["<pad>", "<start>", "<end>", "the", "le", "la", *nouns, *(french for french, _ in nouns.values()), *adjectives,
         *dict.fromkeys(sum(adjectives.values(), ())), *verbs, *verbs.values()]
number = {word: i for i, word in enumerate(words)}
PAD, START, END, LONGEST = 0, 1, 2, 9          # words of the longest sentence


def arrays(pairs):
    """English padded on the left (B, S); what the decoder is given and what it should say (B, T), targets of -100 do not count."""
    source = np.array([[PAD] * (LONGEST - len(e)) + [number[w] for w in e] for e, _ in pairs])
    given = np.array([[START] + [number[w] for w in f] + [END] * (LONGEST - len(f)) for _, f in pairs])
    target = np.array([[number[w] for w in f] + [END] + [-100] * (LONGEST - len(f)) for _, f in pairs])
    return source, given, target


def batch(rng, size=64):
    pairs = []
    while len(pairs) < size:
        pair = sentence(rng)
        if " ".join(pair[0]) not in held_out:
            pairs.append(pair)
    return arrays(pairs)


# %% [markdown]
# ## The gated recurrent unit
#
# A state h that is carried along, and three small layers that say what happens to it when x arrives:
#
#     r = σ(W_r x + U_r h)            reset: how much of the past to look at
#     z = σ(W_z x + U_z h)            update: how much of it to keep
#     n = tanh(W_n x + r ⊙ U_n h)     what is new
#     h ← (1 - z) ⊙ n + z ⊙ h
#
# Where z is 1 the state passes unchanged, and so does its gradient: a shortcut through time.


# %%
class GRU(tl.nn.Module):
    def __init__(self, n_in, C):
        self.W, self.U = tl.nn.Linear(n_in, 3 * C), tl.nn.Linear(C, 3 * C)      # three maps in one, in the order r, z, n

    def forward(self, x, h):                                                    # (B, n_in), (B, C) -> (B, C)
        (wr, wz, wn), (ur, uz, un) = ops.split(self.W(x), 3, axis=-1), ops.split(self.U(h), 3, axis=-1)
        r, z = ops.sigmoid(wr + ur), ops.sigmoid(wz + uz)
        n = ops.tanh(wn + r * un)
        return (1 - z) * n + z * h


with tl.default_dtype("float64"):
    cell = GRU(2, 3)
report = tl.gradcheck(cell, [np.array([[0.5, -1.0]]), np.array([[0.1, 0.2, -0.3]])])
print("\nthe GRU's gradient against finite differences:", "right" if report.ok else "wrong")

# %% [markdown]
# ## Attention over what was read
#
# The decoder's state s asks, each word's state h_j answers, and a softmax makes shares of the answers:
#
#     score_j = v · tanh(W s + U h_j),    α = softmax(score),    context = Σ_j α_j h_j
#
# The score is a small network of its own; the Transformer's q · k does the same with one product.


# %%
class BahdanauAttention(tl.nn.Module):
    def __init__(self, C):
        self.W, self.U, self.v = tl.nn.Linear(C, C, bias=False), tl.nn.Linear(C, C, bias=False), tl.nn.Linear(C, 1, bias=False)

    def forward(self, s, states, keys):                                         # (B, C), (B, S, C), U h_j: (B, S, C)
        scores = self.v(ops.tanh(self.W(s).reshape(len(s), 1, -1) + keys))      # (B, S, 1)
        weights = tl.F.softmax(scores, axis=1)
        return (weights * states).sum(axis=1), weights.numpy()[..., 0]          # (B, C), (B, S)


class Translator(tl.nn.Module):
    """Encoder and decoder. Without attention the context of every word is the same: the state behind the last word read."""

    def __init__(self, C, attention):
        self.table = tl.nn.Embedding(len(words), C, std=0.1)
        self.encoder, self.decoder = GRU(C, C), GRU(2 * C, C)
        self.attention = BahdanauAttention(C) if attention else None
        self.head = tl.nn.Linear(C, len(words))
        self.start = np.zeros((1, C), np.float32)

    def read(self, source):
        h, states = tl.Tensor(np.repeat(self.start, len(source), axis=0)), []
        for word in source.T:                                                   # one word of each sentence at a time
            h = self.encoder(self.table(word), h)
            states.append(h)
        return h, ops.stack(states, axis=1)                                     # (B, C), (B, S, C)

    def write(self, word, s, last, states, keys):
        """One step: logits (B, V), the new state, and where it looked."""
        context, weights = self.attention(s, states, keys) if self.attention else (last, None)
        s = self.decoder(ops.concatenate([self.table(word), context], axis=-1), s)
        return self.head(s), s, weights

    def loss(self, source, given, target):
        s, states = self.read(source)
        last, keys, logits = s, self.attention.U(states) if self.attention else None, []
        for word in given.T:                                # "teacher forcing": the right word is given, whatever was written
            step, s, _ = self.write(word, s, last, states, keys)
            logits.append(step)
        return tl.F.cross_entropy(ops.stack(logits, axis=1), target)

    def translate(self, source):
        """The likeliest word each time: ids (B, T), and the weights (B, T, S)."""
        with tl.no_grad():
            s, states = self.read(source)
            last, keys = s, self.attention.U(states) if self.attention else None
            word, written, looks = np.full(len(source), START), [], []
            for _ in range(LONGEST + 1):
                logits, s, weights = self.write(word, s, last, states, keys)
                word = logits.argmax(axis=-1)
                written.append(word)
                looks.append(weights)
        return np.stack(written, axis=1), np.stack(looks, axis=1) if self.attention else None


# %% [markdown]
# ## The Transformer for comparison
#
# A GPT of two blocks reads the English, then `<start>`, then writes on; only the French counts in its loss.


# %%
class TransformerTranslator(tl.nn.Module):
    def __init__(self, C):
        self.gpt = tl.models.GPT(tl.models.GPTConfig(vocab_size=len(words), n_layer=2, n_head=4, n_embd=C, block_size=2 * LONGEST + 1))

    def loss(self, source, given, target):
        ids = np.concatenate([source, given], axis=1)
        return self.gpt.loss(ids, np.concatenate([np.full(source.shape, -100), target], axis=1))

    def translate(self, source):
        prompt = np.concatenate([source, np.full((len(source), 1), START)], axis=1)
        return self.gpt.generate(prompt, LONGEST + 1, temperature=0, stop=())[:, prompt.shape[1]:], None


# %% [markdown]
# ## Training
#
# Adam, the same sentences in the same order for all three. Every 125 steps each translates sentences it has not seen; a
# translation counts if every word is right.

# %%
steps, every = (4, 2) if quick else (1500, 125)
test_arrays = arrays(test)


def right(written, target):
    """Which sentences are right to the last word: (B,)."""
    return ((written == target) | (target == -100)).all(axis=1)


models = {"one vector": lambda: Translator(64, attention=False), "attention": lambda: Translator(64, attention=True),
          "Transformer": lambda: TransformerTranslator(48)}
losses, shares, correct = {}, {}, {}
for name, build in models.items():
    tl.manual_seed(0)
    models[name] = model = build()
    optimizer, schedule = tl.optim.AdamW(model.parameters(), weight_decay=0.0), tl.optim.warmup_cosine(4e-3, warmup=steps // 20, total=steps)
    rng, began, losses[name], shares[name] = random.Random(1), time.perf_counter(), [], []
    for step in range(steps):
        loss = model.loss(*batch(rng))
        optimizer.zero_grad()
        loss.backward()
        tl.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.lr = schedule(step)
        optimizer.step()
        losses[name].append(loss.item())
        if (step + 1) % every == 0:
            correct[name] = right(model.translate(test_arrays[0])[0], test_arrays[2])
            shares[name].append(100 * correct[name].mean())
    print(f"{name:12} {model.num_params():7,} parameters, {time.perf_counter() - began:5.0f} s, loss {np.mean(losses[name][-20:]):.3f}, "
          f"right: {shares[name][-1]:.1f} %")
drawing.save("out/11_training.html", drawing.page(
    "Learning a toy French",
    drawing.curves(losses, "training loss", log="y", x_label="step", y_label="nats per word"),
    drawing.curves({name: (range(every, steps + 1, every), row) for name, row in shares.items()}, "new sentences translated without a mistake",
                   x_label="step", y_label="percent")))

# %% [markdown]
# ## The longer the sentence
#
# One vector has to hold the whole sentence, so the long ones suffer. Attention made length a smaller matter, and this
# is the graph that Bahdanau et al. argued with.

# %%
sizes = np.array([len(english) for english, _ in test])
by_length = {name: (np.unique(sizes), [100 * ok[sizes == n].mean() for n in np.unique(sizes)]) for name, ok in correct.items()}
drawing.save("out/11_by_length.svg", drawing.curves(by_length, "sentences without a mistake, by length", x_label="words", y_label="percent"))
print("words          " + "".join(f"{n:6}" for n in np.unique(sizes)))
for name, (_, row) in by_length.items():
    print(f"{name:12}   " + "".join(f"{share:6.0f}" for share in row))
assert quick or min(correct["attention"].mean(), correct["Transformer"].mean()) > 0.95 and correct["one vector"].mean() < 0.85

# %% [markdown]
# ## Where it looks
#
# Each row is a French word being written, each column an English word it may look at. Nobody told it which words belong
# together.

# %%
english, french = "the heavy red car sees the round green dog".split(), "la voiture rouge lourde voit le chien vert rond".split()
source, _, _ = arrays([(english, french)])
written, looks = models["attention"].translate(source)
grid = looks[0, :len(french) + 1, -len(english):]
said = [words[w] for w in written[0, :len(french) + 1]]
print("translated:", " ".join(said))
drawing.save("out/11_attention.svg", drawing.numbers(grid, said, english, "where the decoder looks", top=1.0))

# %% [markdown]
# The article "la" looks at the noun, since that is where the gender is, and the adjectives are picked up from right to
# left. "rouge" looks at "car", whose state has read "red" just before. And "chien" looks at the first word, a place to
# rest: the decoder's state began as the encoder's last one, fresh from "dog", so there is nothing to look up.
#
# Try: sentences with up to three adjectives in the test only (`sentence(rng, most=3)`, LONGEST = 11). Which model
# breaks first? Then let the encoder read from right to left as well, as Bahdanau et al. did.
