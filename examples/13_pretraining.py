# %% [markdown]
# # Pretraining: learning a text by heart, and stopping in time
#
# The study this project grew out of trains GPT-2 small, 162 million numbers, on the first chapters of Kate Chopin's
# *The Awakening*, 16 thousand tokens. It takes a quarter of an hour, and the lesson of it shows in a model a few
# hundred times smaller in seconds: the training loss falls and falls, and the loss on text that was kept back turns
# around. Here is that run in small: the loss by hand, both curves, the best point, early stopping, and what each remedy
# is worth. In full it trains five models, in about a minute and a half.

# %%
import math
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## The loss, by hand
#
# The model gives every token of its vocabulary a probability. Look at the one that the right token got, take -log, take
# the mean. These eight are the study's, from its untrained model; it prints a loss of 11.2167 and a perplexity (e to
# the loss) of 74,362.94: as if it chose among that many tokens alike, more than the 50,257 there are.

# %%
p = np.array([7.7823e-6, 1.6688e-5, 1.7775e-5, 1.2489e-5, 1.1684e-5, 1.5996e-5, 8.7344e-6, 2.2723e-5])
loss = -np.log(p).mean()
print(f"-log p: {'  '.join(f'{v:.3f}' for v in -np.log(p))}\nmean {loss:.4f}, perplexity {math.exp(loss):,.0f}")
assert abs(loss - 11.2167) < 1e-4 and abs(math.exp(11.216712951660156) - 74362.94) < 0.01
logits = np.random.default_rng(0).normal(size=(8, 50)).astype(np.float32)
by_hand = -np.log((np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))[np.arange(8), np.arange(8)]).mean()
assert math.isclose(tl.F.cross_entropy(tl.Tensor(logits), np.arange(8)).item(), by_hand, rel_tol=1e-6)

q = np.linspace(0.02, 1, 99)
drawing.save("out/13_minus_log_p.html", drawing.page(
    "The loss of one token", "A token that the model thought unlikely costs much, and pulls hard: the gradient of -log p is -1 / p.",
    drawing.curves({"-log p": (q, -np.log(q))}, "loss", x_label="p of the right token", y_label="nats"),
    drawing.curves({"1 / p": (q, 1 / q)}, "size of its gradient", x_label="p of the right token")))

# %% [markdown]
# ## The text, cut in two
#
# The first 85 % of the characters are trained on, the rest is kept back, as in the study. Its text is read if it lies
# in the directory that TINYLLM_DATA names; otherwise as many characters of the tales. A vocabulary of 512 is trained on
# the training side alone.

# %%
path = tl.text.data_directory() / "the-awakening-extract.txt"
if path.is_file():
    name, text = "The Awakening, first chapters", path.read_text(encoding="utf-8")
    assert (len(text), int(0.85 * len(text))) == (63_204, 53_723)
else:
    name, text = "the tales", tl.text.tales.corpus(63_000)
train_text, val_text = tl.text.split_position(text[:14_000] if quick else text, 0.15)
tokenizer = tl.tokenizers.BPETokenizer.train(train_text, 512)
train_ids, val_ids = tokenizer.encode_array(train_text), tokenizer.encode_array(val_text)
T, B = 64, 8
batches = tl.text.EpochWindows(train_ids, T, B, tl.Generator(0))
print(f"\n{name}: {len(train_ids):,} tokens to train on, {len(val_ids):,} kept back; {len(batches)} batches of {B} windows of {T} are one epoch")

# %% [markdown]
# ## Training
#
# AdamW and a constant rate, no clipping, no warm-up, PyTorch's initial weights and a head of its own: the study's
# recipe. Every window comes once an epoch. After each epoch the loss on all of the text that was kept back; the weights
# of the best point are set aside.

# %%
epochs = 2 if quick else 18
validation = list(tl.text.EvalWindows(val_ids, T, B))


def build(dropout=0.1, C=128):
    tl.manual_seed(123)
    return tl.models.GPT(tl.models.GPTConfig(vocab_size=512, n_layer=3, n_head=4, n_embd=C, block_size=T, dropout=dropout, tied=False,
                                            init_std=None))


def train(model, ids=train_ids, weight_decay=0.1):
    """(steps, training loss, loss on the text kept back) after each epoch, and the best weights."""
    batches = tl.text.EpochWindows(ids, T, B, tl.Generator(123))
    config = tl.train.TrainConfig(steps=epochs * len(batches), lr=1e-3, warmup=0, schedule="constant", clip=0, weight_decay=weight_decay,
                                   shards=2)
    trainer = tl.train.Trainer(model, batches, None, config)
    rows, best, weights = [], math.inf, None
    for epoch in range(epochs):
        losses = [trainer.train_step()["loss"] for _ in range(len(batches))]
        kept_back = tl.train.evaluate(model, validation)
        rows.append((trainer.step, np.mean(losses), kept_back))
        if kept_back < best:
            best, weights = kept_back, {path: array.copy() for path, array in model.state_dict().items()}
    return np.array(rows), weights


model = build()
print(f"{model.num_params():,} parameters; before training {tl.train.evaluate(model, validation):.3f} nats, ln 512 = {math.log(512):.3f}")
rows, best_weights = train(model)
best = rows[:, 2].argmin()
for k in sorted({*range(0, epochs, max(1, epochs // 8)), int(best), epochs - 1}):
    print(f"epoch {k + 1:3}   step {rows[k, 0]:5.0f}   training {rows[k, 1]:.3f}   kept back {rows[k, 2]:.3f}{'   <- best' if k == best else ''}")
assert quick or not path.is_file() or best < epochs - 1 and rows[-1, 1] < rows[best, 1] - 0.3

# %% [markdown]
# The study's run beside ours, from its printed figures: 120 steps, best at 6.707 at step 80, training loss 2.273 at the
# end. Its vocabulary is a hundred times larger, so its losses are higher; the shape is the same. `tinyllm train
# the-awakening --preset study` is that run, for a machine that has the time.

# %%
study = {"training": [6.996, 6.085, 5.864, 5.736, 5.250, 5.002, 4.590, 3.985, 3.598, 3.089, 2.582, 2.273],
         "kept back": [7.440, 7.111, 7.040, 7.013, 6.898, 6.870, 6.733, 6.707, 6.719, 6.719, 6.735, 6.833]}
assert min(study["kept back"]) == 6.707 and 10 * (study["kept back"].index(6.707) + 1) == 80
drawing.save("out/13_overfitting.html", drawing.page(
    "Learning by heart", drawing.curves({"training": (rows[:, 0], rows[:, 1]), "kept back": (rows[:, 0], rows[:, 2])}, f"this lesson: {name}",
                                        mark_lowest="kept back", x_label="step", y_label="nats per token"),
    drawing.curves({key: (range(10, 121, 10), row) for key, row in study.items()}, "the study: GPT-2 small, Chopin", mark_lowest="kept back",
                   x_label="step", y_label="nats per token")))

# %% [markdown]
# ## Early stopping
#
# Wait so many epochs for a new best, then stop: the rest of the run would have been wasted. (`tinyllm train
# --early-stop N` does this.)

# %%


def stopping_epoch(losses, patience):
    """After which epoch (from 1) a run that waits `patience` epochs for a new best would stop."""
    best, since = math.inf, 0
    for epoch, loss in enumerate(losses, 1):
        best, since = (loss, 0) if loss < best else (best, since + 1)
        if since == patience:
            return epoch
    return len(losses)


for patience in (1, 2, 4):
    stop = stopping_epoch(rows[:, 2], patience)
    saved = 100 * (1 - stop / epochs)
    print(f"patience {patience}: stops after epoch {stop:2}, best so far {rows[:stop, 2].min():.3f}, {saved:.0f} % of the work saved")
assert stopping_epoch([3.0, 2.0, 2.5, 1.9, 2.0, 2.1], 2) == 6

# %% [markdown]
# ## By heart
#
# How often is the token that the model finds likeliest the right one: in the text it was trained on, and in the text
# kept back? And what do the best and the last weights write behind a line from the middle of the book?

# %%


def share_right(ids):
    """Of the tokens of a text, the percentage that the model would have written itself."""
    with tl.no_grad():
        hits = [(model(x).argmax(axis=-1) == y)[y != tl.text.batches.IGNORE] for x, y in tl.text.EvalWindows(ids, T, 32)]
    return 100 * np.concatenate(hits).mean()


best_and_last = (("best", best_weights), ("last", {path: array.copy() for path, array in model.state_dict().items()}))
model.eval()
for title, weights in best_and_last:
    model.load_state_dict(weights)
    print(f"{title} weights: {share_right(train_ids):.0f} % of the training text right, {share_right(val_ids):.0f} % of the text kept back")
middle = len(train_ids) // 2
prompt = train_ids[middle:middle + 24]
print(f"\nprompt       …{tokenizer.decode(prompt)!r}\nthe text      {tokenizer.decode(train_ids[middle + 24:middle + 64])!r}")
for title, weights in best_and_last:
    model.load_state_dict(weights)
    print(f"{title}          {tokenizer.decode(model.generate(prompt, 40, temperature=0, stop=())[24:])!r}")

# %% [markdown]
# ## What helps
#
# The study ends by advising more data, early stopping and more regularisation. Each on its own, by the best loss on the
# text kept back:

# %%
runs = {
    "as above": rows,
    "dropout 0.3": train(build(dropout=0.3))[0],
    "weight decay 1": train(build(), weight_decay=1.0)[0],
    "half the width": train(build(C=64))[0],
    "half the text": train(build(), train_ids[:len(train_ids) // 2])[0],
}
for title, run in runs.items():
    k = run[:, 2].argmin()
    print(f"{title:15} best {run[k, 2]:.3f} after epoch {k + 1:2}, last {run[-1, 2]:.3f}, training {run[-1, 1]:.3f}")
drawing.save("out/13_remedies.svg", drawing.curves({title: (np.arange(1, epochs + 1), run[:, 2]) for title, run in runs.items()},
                                                   "loss on the text kept back", 560, 300, x_label="epoch", y_label="nats per token"))

# %% [markdown]
# More text moves the whole curve; everything else bends its end. That is why models are trained on more text than they
# can hold.
