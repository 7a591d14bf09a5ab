# %% [markdown]
# # From probabilities to a text: ways of decoding
#
# A language model does not write. It gives each token of its vocabulary a score, and something has to choose: the best
# one, or one drawn by chance from all, or from those that are good enough. Here are the ways side by side, on one small
# model (trained first, in less than a minute), with the study's figures for temperature and top-k, and the mistake that
# hid in them.

# %%
import math
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing
from tinyllm.generate import Sampling, keep_min_p, keep_top_k, keep_top_p, probabilities, scale
from tinyllm.search import beam_search

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## A model that has something to say
#
# A small Llama on the tales, with a vocabulary of 2,048: nearly every word of theirs is one token.

# %%
text = tl.text.read(["tales"])
train_text, val_text = tl.text.split_position(text, 0.1)
tokenizer = tl.tokenizers.BPETokenizer.train(train_text, 512 if quick else 2048)
V = tokenizer.vocab_size
ids = tokenizer.encode_array(train_text)
steps = 20 if quick else 800
tl.manual_seed(0)
model = tl.models.Llama(tl.models.LlamaConfig(vocab_size=V, n_layer=3, n_head=4, n_embd=96, block_size=64))
trainer = tl.train.Trainer(model, tl.text.RandomWindows(ids, 64, 12, tl.Generator(1)), None,
                           tl.train.TrainConfig(steps=steps, lr=3e-3, min_lr=3e-4, warmup=steps // 10, shards=2))
losses = [trainer.train_step()["loss"] for _ in range(steps)]
model.eval()
print(f"{steps} steps, training loss {np.mean(losses[-20:]):.3f} nats per token")

tokens = [tokenizer.decode([i]) for i in range(V)]
prompt = tokenizer.encode("Then along came")
with tl.no_grad():
    logits = model(np.array([prompt])).numpy()[0, -1].astype(np.float64)       # (V,)
order = np.argsort(-logits)
print("after 'Then along came':", ", ".join(f"{tokens[i]!r} {logits[i]:.2f}" for i in order[:8]))

# %% [markdown]
# ## Temperature
#
# Divide the logits by τ before the softmax. Small τ: the best token takes all; large τ: all become alike. In words of
# probabilities: p^(1/τ), made to sum to 1 again.

# %%
panels = [drawing.next_tokens(logits, tokens, count=10, temperature=t) for t in (0.5, 1.0, 1.5, 2.5)]
drawing.save("out/14_temperature.html", drawing.page(
    "The next token after 'Then along came'", "# The twenty best logits",
    drawing.bars(logits[order[:20]], [repr(tokens[i]) for i in order[:20]], "logits"),
    "# Temperature", *panels))
for t in (0.5, 1.0, 1.5, 2.5):
    p = probabilities(scale(logits, t))
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum()
    print(f"temperature {t}: best token {p.max():.2f}, entropy {entropy:.2f} nats, like a fair choice among {math.exp(entropy):.1f}")

# %% [markdown]
# ## Cutting off the tail
#
# Thousands of bad tokens have a small probability each and a large one together. Three ways to cut them off:
#
#     top-k     keep the k best                       however good or bad they are
#     top-p     keep the best until they sum to p     many where the model is unsure, few where it is sure
#     min-p     keep those above min_p · the best     the same idea, by one comparison

# %%
for name, kept in (("top-k 5", keep_top_k(logits, 5)), ("top-p 0.9", keep_top_p(logits, 0.9)), ("min-p 0.1", keep_min_p(logits, 0.1))):
    p = probabilities(kept)
    print(f"{name:10} keeps {(p > 0).sum():3} tokens, which had {probabilities(logits)[p > 0].sum():.3f} of the probability")
drawing.save("out/14_filters.html", drawing.page("Four filters, one prediction", *[
    drawing.next_tokens(logits, tokens, count=12, title=title, **options) for title, options in (
        ("everything", {}), ("top-k 5", dict(top_k=5)), ("top-p 0.9", dict(top_p=0.9)), ("min-p 0.1", dict(min_p=0.1)))]))

# %% [markdown]
# The difference shows over a text: how many tokens does each keep, at each place of a tale the model has not seen?

# %%
tale = np.array(tokenizer.encode(val_text.split("\n\n")[1]))[:64]
with tl.no_grad():
    rows = model(tale[None]).numpy()[0].astype(np.float64)         # (T, V)
counts = {name: (probabilities(f(rows)) > 0).sum(-1) for name, f in (
    ("top-k 20", lambda r: keep_top_k(r, 20)), ("top-p 0.9", lambda r: keep_top_p(r, 0.9)), ("min-p 0.1", lambda r: keep_min_p(r, 0.1)))}
drawing.save("out/14_tokens_kept.svg", drawing.curves(counts, "tokens that may still be drawn, along a tale", 640, 260, log="y", x_label="position"))

# %% [markdown]
# ## The study's figures, and a mistake to learn from
#
# The study draws the next token of "A man once told me". It prints the ten best after top-k 10 at temperature 0.5; a
# logit is half the logarithm of such a probability, up to a constant, so the ten logits can be had back. Its plot of
# logits begins 6.77, 6.28, 5.95, 5.76, 5.64: that is them.

# %%
printed = np.array([.5158, .1955, .1018, .0691, .0545, .0231, .0191, .0077, .0075, .0059])
recovered = 0.5 * np.log(printed / printed[0]) + 6.77
print("\nrecovered logits:", *recovered.round(2))
assert np.allclose(recovered[:5], [6.77, 6.28, 5.95, 5.76, 5.64], atol=0.02)
assert np.allclose(probabilities(scale(recovered, 0.5)), printed, atol=2e-4)

# %% [markdown]
# For the best of its twenty tokens, " a", it prints .50, .23, .15 and .10 at temperatures 0.5, 1, 1.5 and 2.5. We have
# ten of the twenty; the others are no better than the tenth, which leaves a narrow range for each figure.

# %%
for t, figure in ((0.5, 0.50), (1.0, 0.23), (1.5, 0.15), (2.5, 0.10)):
    e = np.exp((recovered - recovered[0]) / t)
    low, high = e[0] / (e.sum() + 10 * e[-1]), e[0] / e.sum()
    print(f"temperature {t}: between {low:.3f} and {high:.3f}; the study prints {figure:.2f}")
    assert low - 0.005 <= figure <= high + 0.005
spread = math.sqrt(1000 * 0.23 * 0.77)
print(f"of 1000 draws at temperature 1 it drew ' a' 252 times: {(252 - 230) / spread:.1f} standard deviations from 230, nothing unusual")

# %% [markdown]
# For top-k it loops over the four temperatures and writes `logits = logits / t` inside the loop. The second division
# meets logits that have been divided already: the temperatures that really acted are the running products, 0.5, 0.5,
# 0.75 and 1.875.

# %%
temperatures = (0.5, 1.0, 1.5, 2.5)
real, divided = [], recovered
for t in temperatures:
    divided = divided / t                                           # the mistake: the name is used again
    real.append(np.ptp(recovered) / np.ptp(divided))
print("meant:", *temperatures, "  real:", *(f"{t:.3f}" for t in real))
assert np.allclose(real, np.cumprod(temperatures)) and np.allclose(real, [0.5, 0.5, 0.75, 1.875])
drawing.save("out/14_cumulative_temperature.html", drawing.page(
    "The same loop, right and wrong", "The ten tokens that the study's top-k keeps; the first is ' a'.",
    *[drawing.bars({"meant": probabilities(scale(recovered, meant)).round(4), "real": probabilities(scale(recovered, acted)).round(4)},
                   [f"token {k + 1}" for k in range(10)], f"meant {meant}, real {acted:g}") for meant, acted in zip(temperatures, real)]))

# %% [markdown]
# ## One prompt, many ways
#
# Greedy decoding is a draw at temperature 0. Beam search keeps the few likeliest texts instead of the one; its best is
# likelier than the greedy one or the same, and likely is not the same as lively.

# %%
new = 12 if quick else 40
ways = {
    "greedy": dict(temperature=0), "temperature 0.7": dict(temperature=0.7), "temperature 1": {}, "temperature 2": dict(temperature=2.0),
    "top-k 10": dict(top_k=10), "top-p 0.8": dict(top_p=0.8), "min-p 0.2, temperature 2": dict(min_p=0.2, temperature=2.0),
    "repetition penalty 1.3, greedy": dict(temperature=0, repetition_penalty=1.3),
}


def mean_logp(sequence):
    """Mean log-probability of the new tokens, under the model itself."""
    with tl.no_grad():
        rows = np.log(probabilities(model(np.array(sequence)[None]).numpy()[0]))
    return np.mean([rows[t - 1, sequence[t]] for t in range(len(prompt), len(sequence))])


lines, scores = [], {}
for name, options in ways.items():
    sequence = model.generate(prompt, new, seed=3, stop=(), **options)
    scores[name] = mean_logp(sequence)
    lines.append((name, tokenizer.decode(sequence)))
for beams in (2, 8):
    best = beam_search(model, prompt, new, beams=beams, stop=())[0]
    scores[f"{beams} beams"] = mean_logp(best.ids)
    assert math.isclose(scores[f"{beams} beams"], best.score, rel_tol=1e-3)
    lines.append((f"{beams} beams", tokenizer.decode(best.ids)))
for name, written in lines:
    print(f"\n{name}   (mean log p {scores[name]:.2f})\n    {written!r}")
shown = ["".join(c if c.isprintable() else "⏎" for c in written) for _, written in lines]
drawing.save("out/14_side_by_side.html", drawing.page(
    "One prompt, many ways", drawing.bars([round(v, 3) for v in scores.values()], list(scores), "mean log-probability of the new tokens", 560),
    *[part for (name, _), written in zip(lines, shown) for part in (f"# {name}", written)]))

# %% [markdown]
# With one beam the search is greedy decoding, token for token; and top-k of 1 is, too.

# %%
greedy = model.generate(prompt, new, temperature=0, stop=())
assert np.array_equal(beam_search(model, prompt, new, beams=1, stop=())[0].ids, greedy)
assert np.array_equal(model.generate(prompt, new, top_k=1, stop=()), greedy)

# %% [markdown]
# ## Does it draw what it says?
#
# 20,000 draws against the probabilities: the largest difference is of the size that chance allows, about √(p (1 - p) /
# n).

# %%
n = 2000 if quick else 20_000
p = probabilities(scale(logits, 1.0))
drawn = Sampling().draw(np.repeat(logits[None], n, axis=0), tl.Generator(0))
difference = np.abs(np.bincount(drawn, minlength=V) / n - p) / np.sqrt(p * (1 - p) / n + 1e-12)
best = order[:10]
print(f"\nten best tokens, {n} draws: largest difference {difference[best].max():.1f} standard deviations")
assert difference[best].max() < 4
