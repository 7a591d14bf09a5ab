# %% [markdown]
# # GPT-2 from its parts
#
# Everything a GPT-2 does fits on two screens: a table of tokens, a table of positions, blocks of attention and a
# feed-forward layer, a norm, a head. Here it is, put together from `tl.nn`; then we count its numbers, look at what it
# says before it has learned anything, and hold it to figures that a PyTorch notebook printed for the same seed (the
# study this project grew out of). In full the lesson builds the model of 162 million numbers, which takes about ten
# seconds and 1.5 GB; `TINYLLM_LESSONS=quick` keeps to its small twin.

# %%
import math
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## Attention
#
# One map makes the queries, keys and values of all heads. Each head compares its queries with its keys, hides the
# future, and mixes the values.


# %%
class Attention(tl.nn.Module):
    def __init__(self, C, n_head):
        self.n_head = n_head
        self.qkv = tl.nn.Linear(C, 3 * C, bias=False)
        self.proj = tl.nn.Linear(C, C)

    def forward(self, x):
        B, T, C = x.shape
        heads = self.qkv(x).reshape(B, T, 3, self.n_head, C // self.n_head)
        query, key, value = heads.transpose(2, 0, 3, 1, 4)              # each (B, H, T, D)
        scores = query @ key.mT / math.sqrt(C // self.n_head)           # (B, H, T, T)
        future = np.triu(np.ones((T, T), bool), 1)
        weights = tl.F.softmax(scores.masked_fill(future, -np.inf), axis=-1)
        mixed = (weights @ value).transpose(0, 2, 1, 3)                 # (B, T, H, D)
        return self.proj(mixed.reshape(B, T, C))                        # (B, T, C)


# %% [markdown]
# ## The block, and the model
#
# The study's model differs from the published GPT-2 in four small ways: no biases in `qkv`, a head of its own (untied),
# 1e-6 in the norms, and PyTorch's default initial weights.


# %%
class Block(tl.nn.Module):
    def __init__(self, C, n_head):
        self.attn = Attention(C, n_head)
        self.fc, self.proj = tl.nn.Linear(C, 4 * C), tl.nn.Linear(4 * C, C)
        self.norm1, self.norm2 = tl.nn.LayerNorm(C, eps=1e-6), tl.nn.LayerNorm(C, eps=1e-6)

    def forward(self, x):                                               # (B, T, C)
        x = x + self.attn(self.norm1(x))
        return x + self.proj(tl.F.gelu(self.fc(self.norm2(x)), "tanh"))


class GPT2(tl.nn.Module):
    def __init__(self, V, T, C, n_head, n_layer):
        self.tokens, self.positions = tl.nn.Embedding(V, C), tl.nn.Embedding(T, C)
        self.blocks = tl.nn.ModuleList(Block(C, n_head) for _ in range(n_layer))
        self.norm = tl.nn.LayerNorm(C, eps=1e-6)
        self.head = tl.nn.Linear(C, V, bias=False)

    def forward(self, ids):                                             # (B, T)
        x = self.tokens(ids) + self.positions(np.arange(ids.shape[1]))  # (B, T, C)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))                                  # (B, T, V)


def greedy(model, ids, count):
    """Put the likeliest next token behind `ids`, `count` times over; returns the new ones."""
    text = list(ids)
    with tl.no_grad():
        for _ in range(count):
            text.append(int(model(np.array([text])).numpy()[0, -1].argmax()))
    return text[len(ids):]


# %% [markdown]
# ## How many numbers
#
# With vocabulary V, T positions, width C, L blocks:
#
#     tables           V C + T C
#     a block          attention 3C² + C² + C      mlp 4C² + 4C + 4C² + C      norms 4C      (+ 3C with biases in qkv)
#     the end          norm 2C, head V C unless it is the token table again (tied)


# %%
def count(V, T, C, L, qkv_bias, tied):
    block = 12 * C * C + 10 * C + 3 * C * qkv_bias
    return V * C + T * C + L * block + 2 * C + (0 if tied else V * C), block


V = 50257
study = {       # name: (T, C, L, biases in qkv, tied), and the parameters in the study's table
    "small, 1024 positions, untied": ((1024, 768, 12, False, False), 163_009_536),
    "small, 1024 positions, tied": ((1024, 768, 12, False, True), 124_412_160),
    "small, 256 positions, untied": ((256, 768, 12, False, False), 162_419_712),
    "small, 256 positions, tied": ((256, 768, 12, False, True), 123_822_336),
    "small, biases in qkv, untied": ((1024, 768, 12, True, False), 163_037_184),
    "small, as published (gpt2)": ((1024, 768, 12, True, True), 124_439_808),
    "medium (gpt2-medium)": ((1024, 1024, 24, True, True), 354_823_168),
    "large (gpt2-large)": ((1024, 1280, 36, True, True), 774_030_080),
    "XL (gpt2-xl)": ((1024, 1600, 48, True, True), 1_557_611_200),
}
for name, (sizes, expected) in study.items():
    print(f"{name:31}{count(V, *sizes)[0]:>15,}")
    assert count(V, *sizes)[0] == expected
assert (count(V, 1024, 768, 12, False, True)[1], count(V, 1024, 768, 12, True, True)[1]) == (7_085_568, 7_087_872)
for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"):
    config = tl.models.GPTConfig.preset(name)
    assert config.num_params() == count(V, config.block_size, config.n_embd, config.n_layer, True, True)[0]

# %% [markdown]
# Where they are: in the small model the tables take a third of it, in XL a twentieth.

# %%
shares = {}
for name, n_layer, C in (("gpt2", 12, 768), ("gpt2-xl", 48, 1600)):
    parts = [V * C, 1024 * C, n_layer * (4 * C * C + 4 * C), n_layer * (8 * C * C + 5 * C), (4 * n_layer + 2) * C]
    shares[name] = [round(100 * part / sum(parts), 2) for part in parts]
drawing.save("out/12_where_the_numbers_are.svg", drawing.bars(
    shares, ["token table", "position table", "attention", "mlp", "norms"], "percent of all numbers", width=480))

# %% [markdown]
# ## The small twin
#
# Same code, small sizes, seed 123. `tl.Generator` draws PyTorch's numbers, in the order in which the parts above are
# made, so the figures are those that PyTorch 2.13 computes for the same model.

# %%
tl.manual_seed(123)
twin = GPT2(V=257, T=16, C=48, n_head=3, n_layer=2)
ids, targets = np.array([[5, 58, 129, 50], [175, 32, 47, 26]]), np.array([[58, 129, 50, 175], [32, 47, 26, 208]])
loss = tl.F.cross_entropy(twin(ids), targets).item()
print(f"\ntwin of {twin.num_params():,} numbers: loss {loss:.6f} (PyTorch: 6.001679)")
assert abs(loss - 6.001679) < 2e-6
assert greedy(twin, ids[0], 10) == [177, 227, 43, 214, 177, 43, 146, 200, 231, 33]

# %% [markdown]
# `tl.models.GPT` is the same model with fused kernels, and with these settings it draws the same weights.

# %%


def study_config(V, T, C, n_head, n_layer):
    return tl.models.GPTConfig(vocab_size=V, block_size=T, n_embd=C, n_head=n_head, n_layer=n_layer, qkv_bias=False, tied=False,
                               norm_eps=1e-6, init_std=None)


tl.manual_seed(123)
packaged = tl.models.GPT(study_config(257, 16, 48, 3, 2))
assert np.allclose(packaged(ids).numpy(), twin(ids).numpy(), atol=1e-5) and packaged.num_params() == twin.num_params()

# %% [markdown]
# ## What an untrained model knows
#
# Nothing: its loss should be that of a die with V sides, ln V, and a little more for being sure of things by accident.
# The last norm gives numbers of variance 1, and the head's weights have variance 1/(3C), so logits have variance 1/3; a
# softmax of such noise costs about half of that, 1/6. (With GPT-2's own initial weights, 0.02, it is C · 0.0004 / 2 =
# 0.154.)

# %%
expected = math.log(257) + 1 / 6
rows = tl.Generator(0).randint(0, 257, (256, 17))
with tl.no_grad():
    first = tl.F.cross_entropy(twin(rows[:, :-1]), rows[:, 1:]).item()
print(f"twin on random ids: {first:.3f};  ln V = {math.log(257):.3f},  ln V + 1/6 = {expected:.3f}")
assert math.log(257) <= first <= math.log(257) + 0.25

# %% [markdown]
# ## The model of the study, in full
#
# 162,419,712 numbers of seed 123. The study prints for two rows of four tokens: loss 11.216713, perplexity 74,362.94;
# and from "A man told me" the twenty ids below, the likeliest each time. An untrained model is sure of its nonsense.

# %%
if not quick:
    tl.manual_seed(123)
    model = GPT2(V=V, T=256, C=768, n_head=12, n_layer=12)
    assert model.num_params() == 162_419_712
    ids, targets = np.array([[32, 582, 1297, 502], [1752, 326, 477, 262]]), np.array([[582, 1297, 502, 1752], [326, 477, 262, 2089]])
    with tl.no_grad():
        logits = model(ids)
        p = np.take_along_axis(tl.F.softmax(logits, axis=-1).numpy(), targets[..., None], axis=-1).ravel()
    loss = tl.F.cross_entropy(logits, targets).item()
    print(f"\nprobabilities of the targets: {'  '.join(f'{v:.4e}' for v in p)}")
    print(f"loss {loss:.6f}   perplexity {math.exp(loss):,.2f}   the mean of -log p: {-np.log(p).mean():.6f}")
    assert abs(loss - 11.216713) < 3e-6 and abs(math.exp(loss) - 74362.94) < 0.3
    assert np.allclose(p, [7.7823e-6, 1.6688e-5, 1.7775e-5, 1.2489e-5, 1.1684e-5, 1.5996e-5, 8.7344e-6, 2.2723e-5], rtol=1e-4)
    new = greedy(model, ids[0], 20)
    print("greedy:", *new)
    assert new == [24106, 40901, 46947, 45439, 41121, 10983, 37408, 33219, 13597, 384, 41274, 27228, 32767, 972, 16051, 1462, 6565, 26531,
                   19694, 30470]
    drawing.save("out/12_untrained_logits.svg", drawing.histogram(logits.numpy()[0, -1], "50,257 logits after 'A man told me', before training"))

# %% [markdown]
# Eight tokens are few, and their loss is far from ln V = 10.825. On a whole text the accidents even out. The study took
# the last 15 % of Chopin's *The Awakening* (its first chapters), eight windows of 256 tokens, and got 10.977006. With
# GPT-2's vocabulary and that text at hand (in the directory that TINYLLM_DATA names) the same figure comes out here;
# without them, four windows of random ids.

# %%
if not quick:
    data = tl.text.data_directory()
    chopin = data / "the-awakening-extract.txt"
    if chopin.is_file() and (data / "gpt2").is_dir():
        raw = chopin.read_text(encoding="utf-8")
        val_ids = tl.tokenizers.load(data / "gpt2").encode_array(raw[int(0.85 * len(raw)):])
        windows, what = np.stack([val_ids[i:i + 257] for i in range(0, 2048, 256)]), "Chopin, end of the extract"
    else:
        windows, what = tl.Generator(0).randint(0, V, (4, 257)), "random ids"
    with tl.no_grad():
        losses = [tl.F.cross_entropy(model(rows[:, :-1]), rows[:, 1:]).item() for rows in (windows[:len(windows) // 2], windows[len(windows) // 2:])]
    print(f"{what}: {np.mean(losses):.6f};  ln V = {math.log(V):.4f},  ln V + 1/6 = {math.log(V) + 1 / 6:.4f}")
    assert math.log(V) <= np.mean(losses) <= math.log(V) + 0.25
    assert what == "random ids" or abs(np.mean(losses) - 10.977006) < 2e-5
