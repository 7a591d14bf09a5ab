# %% [markdown]
# # GPT-3's layers: dense and banded in turn
#
# GPT-3 is GPT-2, larger, with one change to the model: every second layer looks back over a band of recent positions
# only, as in the Sparse Transformer (Child et al. 2019). The paper (Brown et al. 2020, section 2.1) says neither which
# layers are the dense ones nor how wide the band is; here both are settings. What does a band cut away, what does it
# cost, and does the model miss it? In full the lesson trains three small models, in about a minute.

# %%
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing
from tinyllm.models.gpt3 import GPT3Training

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## The mask
#
# Dense: query i sees keys j ≤ i. Banded with width w: i - w < j ≤ i.

# %%
T, w = 24, 6
i, j = np.arange(T)[:, None], np.arange(T)[None, :]
dense = j <= i
banded = dense & (j > i - w)
drawing.save("out/15_masks.html", drawing.page(
    "Who sees whom", "# A dense and a banded layer", "Row i is a query, column j a key; a band of 6 positions in a text of 24.",
    drawing.heatmap(dense, "dense", columns="key j", rows="query i"), drawing.heatmap(banded, "banded", columns="key j", rows="query i")))
print(f"{T} positions: dense {dense.sum()} scores, banded {banded.sum()}")

# %% [markdown]
# `window=` of `tl.nn.Attention` is this band. The mask, seen from inside: where the weights are not zero.

# %%
tl.manual_seed(0)
layer = tl.nn.Attention(16, n_head=2, window=w)
with tl.nn.attention.reading(layer) as weights:
    layer(tl.Tensor(np.random.default_rng(0).normal(size=(1, T, 16)).astype(np.float32)))
assert ((weights[0][0, 0] > 0) == banded).all()

# %% [markdown]
# ## How far a stack of them reaches
#
# One banded layer reaches w - 1 positions back, and what it finds there has itself looked back: L layers reach L (w -
# 1). A dense layer in the stack reaches everything at once. Which inputs can change the last position's result?

# %%


def reach(masks):
    """After each layer, the positions that have had a say in the last position's result: rows of booleans (T,)."""
    seen, rows = np.eye(T, dtype=bool), []
    for mask in masks:
        seen = (mask.astype(int) @ seen.astype(int)) > 0
        rows.append(seen[-1])
    return np.array(rows)


stacks = {"banded only": [banded] * 4, "banded, dense, …": [banded, dense] * 2, "dense, banded, …": [dense, banded] * 2}
for name, masks in stacks.items():
    rows = reach(masks)
    print(f"{name:18} positions in reach after 1, 2, 3, 4 layers: {rows.sum(1).tolist()}")
assert reach([banded] * 4).sum(1).tolist() == [1 + n * (w - 1) for n in (1, 2, 3, 4)]
drawing.save("out/15_reach.html", drawing.page(
    "How far the last position sees",
    *[drawing.heatmap(reach(masks), name, columns="position", rows="layer", side=14) for name, masks in stacks.items()]))

# %% [markdown]
# The model agrees: the gradient of the last logits with respect to each position's input is zero exactly where nothing
# is in reach.

# %%
config = tl.models.LlamaConfig(vocab_size=10, n_layer=4, n_head=2, n_embd=16, block_size=T, window=w)
tl.manual_seed(0)
model = tl.models.Llama(config)
x = tl.Tensor(np.random.default_rng(1).normal(size=(1, T, 16)).astype(np.float32), requires_grad=True)
stream, rotation = x, model.rotary.at(np.arange(T))
for block in model.blocks:
    stream = block(stream, None, rotation)
(stream[0, -1] ** 2).sum().backward()
touched = np.abs(x.grad[0]).sum(-1) > 0
assert (touched == reach([banded] * 4)[-1]).all()
print(f"by gradient, 4 banded layers: the last position sees {touched.sum()} of {T}")

# %% [markdown]
# ## What it costs
#
# The sizes of the paper's table 2.1, counted without building anything (with the vocabulary of 50,257 and a tied head),
# and the scores of one head over a full window of 2,048, for the width of 256 that tinyllm's presets chose.

# %%
sizes = {"gpt3-125m": 125_226_240, "gpt3-350m": 355_871_744, "gpt3-760m": 760_300_032, "gpt3-1.3b": 1_315_723_264, "gpt3-2.7b": 2_651_553_280,
         "gpt3-6.7b": 6_658_404_352, "gpt3-13b": 12_853_386_240, "gpt3-175b": 174_604_259_328}


def scores(T, window):
    """How many scores a head computes for T positions."""
    return T * (T + 1) // 2 if window is None else sum(min(t + 1, window) for t in range(T))


for name, expected in sizes.items():
    config = tl.models.GPTConfig.preset(name)
    assert config.num_params() == expected
    print(f"{name:10} {config.n_layer:3} layers of width {config.n_embd:6,} {config.num_params():>16,}")
windows = config.layer_windows()
kept = sum(scores(2048, window) for window in windows) / (len(windows) * scores(2048, None))
cache = sum(window or 2048 for window in windows) / (2048 * len(windows))
print(f"of 2,048 positions: {100 * kept:.0f} % of the scores of dense layers, {100 * cache:.0f} % of their cache")

# %% [markdown]
# Beside its matrices a block's attention is cheap for a short text and dear for a long one. Multiplications per token
# in one layer of the 175-billion model, matrices 12 C² and attention 2 C S for the S positions seen:

# %%
C, lengths = 12288, [2**k for k in range(9, 18)]
drawing.save("out/15_cost.svg", drawing.curves(
    {"matrices": (lengths, [12 * C * C / 1e9] * len(lengths)),
     "dense attention": (lengths, [2 * C * (S + 1) / 2 / 1e9 for S in lengths]),
     "band of 256": (lengths, [2 * C * scores(S, 256) / S / 1e9 for S in lengths])},
    "multiplications per token, one layer of GPT-3 175B", log="xy", x_label="length of the text", y_label="billions"))
share = 2 * C * 2049 / 2 / (12 * C * C)
print(f"at 2,048 positions dense attention is {100 * share:.1f} % of what the matrices cost; the band saves most of that in every second layer")

# %% [markdown]
# ## Does the model miss it?
#
# Three models on the tales, characters, 128 positions: all layers dense, and a band of 12 in every second layer, both
# ways round.

# %%
text = tl.text.read(["tales"])
tokenizer = tl.tokenizers.CharTokenizer.train(text)
train_ids, val_ids = tl.text.split_position(tokenizer.encode_array(text), 0.1)
validation = list(tl.text.EvalWindows(val_ids, 128, 8, limit=8 if quick else 96))
steps = 4 if quick else 450
curves, models = {}, {}
kinds = {"all dense": {}, "dense first": dict(band_width=12, dense_parity=0), "banded first": dict(band_width=12, dense_parity=1)}
for name, options in kinds.items():
    tl.manual_seed(0)
    config = tl.models.GPTConfig(vocab_size=tokenizer.vocab_size, n_layer=4, n_head=4, n_embd=64, block_size=128, **options)
    models[name] = model = tl.models.GPT(config)
    batches = tl.text.RandomWindows(train_ids, 128, 8, tl.Generator(1))
    trainer = tl.train.Trainer(model, batches, None, tl.train.TrainConfig(steps=steps, lr=3e-3, min_lr=3e-4, warmup=steps // 10, shards=2))
    losses = [trainer.train_step()["loss"] for _ in range(steps)]
    curves[name] = [np.mean(losses[max(0, k - 19):k + 1]) for k in range(steps)]
    windows = config.layer_windows()
    print(f"{name:13} windows {windows}: loss on new text {tl.train.evaluate(model, validation):.3f}, "
          f"{sum(scores(128, window) for window in windows):,} scores a head, cache of {model.make_cache(1, 128).nbytes:,} bytes")
drawing.save("out/15_training.svg", drawing.curves(curves, "training loss, dense and banded layers", x_label="step", y_label="nats"))

# %% [markdown]
# So early in training the band is a help, not a loss: it says from the start that the nearest letters matter most,
# which the dense model has to find out.
#
# What two layers of the third model look at, one banded and one dense:

# %%
sample = "\n" + text.split("\n")[2][:23]
weights = models["banded first"].eval().attention_weights(np.array([tokenizer.encode(sample)]))
letters = [{"\n": "⏎", " ": "␣"}.get(letter, letter) for letter in sample]
drawing.save("out/15_attention.html", drawing.page(
    "Attention of a banded and of a dense layer", "# Layer 1, banded: 12 positions", drawing.attention_grid(weights[0][0, :2], letters),
    "# Layer 2, dense", drawing.attention_grid(weights[1][0, :2], letters)))
assert all(np.triu(head, 1).max() == 0 and np.tril(head, -12).max() == 0 for head in weights[0][0])

# %% [markdown]
# ## How GPT-3 was trained
#
# Its appendix B gives a rate that climbs over 375 million tokens and falls along a cosine, and a batch that grows.
# `GPT3Training` has both as functions of the tokens seen.

# %%
recipe = GPT3Training.preset("gpt3-175b")
seen = np.linspace(0, 300e9, 301)
drawing.save("out/15_recipe.html", drawing.page(
    "The recipe of GPT-3 175B",
    drawing.curves({"rate": (seen / 1e9, [1e5 * recipe.lr_at(s) for s in seen])}, "learning rate · 100,000", x_label="billion tokens"),
    drawing.curves({"batch": (seen / 1e9, [recipe.batch_at(s) / 1e6 for s in seen])}, "tokens in a batch, millions", x_label="billion tokens")))
assert recipe.lr_at(375e6) == 6e-5 and np.isclose(recipe.lr_at(260e9), 6e-6) and recipe.batch_at(300e9) == 3_200_000
