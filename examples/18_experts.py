# %% [markdown]
# # A mixture of experts
#
# Two thirds of a Transformer's weights are in its feed-forward layers, and every token works through all of them. A
# mixture keeps several small layers, the experts, and lets a router send each token to a few: many weights, little
# work. Left to itself a router finds a favourite and starves the rest, so it needs a rule; and once all have work, one
# may ask what each of them has become good at. In full the lesson trains four models, in about a minute and a half.

# %%
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## The router, by hand
#
# One score for each expert, a softmax, the k best. Their results are added, weighted by their scores (the gates). Where
# only the k best work, the others cost nothing.

# %%
tl.manual_seed(0)
layer = tl.nn.MoE(8, 16, n_routed_experts=4, num_experts_per_tok=2).eval()
x = tl.Generator(1).randn(1, 3, 8)                                      # (B, T, C): three tokens
scores = tl.F.softmax(layer.router(tl.Tensor(x)), axis=-1).numpy()[0]   # (T, E)
by_hand = []
for token, row in zip(x[0], scores):
    chosen = np.argsort(-row)[:2]
    by_hand.append(sum(row[e] * layer.experts[e](tl.Tensor(token[None])).numpy()[0] for e in chosen))
    print("scores", row.round(2), " chosen", chosen)
assert np.allclose(layer(tl.Tensor(x)).numpy()[0], by_hand, atol=1e-6)

# %% [markdown]
# The gate is how the router learns: an expert that helps gets a larger gate. An expert that is not chosen gets no
# gradient, from this token, at all.
#
# ## What is there, and what works
#
# DeepSeek-V3 has 256 experts in each of its later layers, and one shared by all tokens; a token visits 8. Counted by
# configuration:

# %%
for name, changes in (("deepseek-v2-lite", {}), ("deepseek-v3", dict(n_group=1, topk_group=1))):
    config = tl.models.DeepSeekConfig.preset(name)
    active = tl.models.DeepSeekConfig.preset(name, n_routed_experts=config.num_experts_per_tok, **changes)      # the experts one token meets
    print(f"{name:17} {config.num_params() / 1e9:6.1f} billion parameters, {active.num_params() / 1e9:5.1f} at work for a token "
          f"({100 * active.num_params() / config.num_params():.0f} %)")
assert tl.models.DeepSeekConfig.preset("deepseek-v3").num_params() == 671_026_419_200

# %% [markdown]
# ## Three routers, one dense model
#
# Eight experts, two for each token, on the tales:
#
#     no rule          softmax scores, nothing else
#     balance loss     + α E Σ f_i P_i: the share of tokens of an expert, times its mean score (V2; Switch Transformer)
#     bias             a number added to each score for the choice alone, raised after every step for experts with too little work (V3)
#     dense            one layer as wide as two experts: as much work for each token, a quarter of the weights

# %%
text = tl.text.read(["tales"])
tokenizer = tl.tokenizers.CharTokenizer.train(text)
train_ids, val_ids = tl.text.split_position(tokenizer.encode_array(text), 0.1)
T, B, E, k, width = 64, 12, 8, 2, 48
validation = list(tl.text.EvalWindows(val_ids, T, 16, limit=8 if quick else 96))
probe = next(tl.text.RandomWindows(val_ids, T, 32, tl.Generator(5)))
steps, every = (8, 4) if quick else (500, 10)
sizes = dict(vocab_size=tokenizer.vocab_size, n_layer=2, n_head=4, n_embd=64, block_size=T, first_k_dense=0, n_routed_experts=E,
             num_experts_per_tok=k, n_shared_experts=0, moe_ffn_dim=width, norm_topk_prob=False)
kinds = {
    "no rule": dict(scoring_func="softmax", balance_alpha=0.0),
    "balance loss": dict(scoring_func="softmax", balance_alpha=0.02),
    "bias": dict(scoring_func="sigmoid", balance_alpha=0.0, bias_update_rate=0.005, norm_topk_prob=True),
    "dense": dict(first_k_dense=2, ffn_dim=k * width),
}


def choices(model):
    """Which experts each token of the probe goes to, in each layer: (L, B, T, k)."""
    with tl.no_grad():
        model.train().loss(*probe)
    chosen = np.array([block.mlp.routing[1] for block in model.blocks])
    model.auxiliary_losses()                                            # lets go of the routing
    return chosen


def shares(chosen):
    """The share of the work that falls on each expert, in each layer: (L, E), 1 / E for all if it is even."""
    return np.array([np.bincount(layer.ravel(), minlength=E) / layer.size for layer in chosen])


models, history, curves = {}, {}, {}
print(f"\n{'':13}{'parameters':>11}{'at work':>9}{'loss':>8}   largest and smallest share of an expert")
for name, kind in kinds.items():
    tl.manual_seed(0)
    config = tl.models.DeepSeekConfig(**{**sizes, **kind})
    models[name] = model = tl.models.DeepSeek(config)
    batches = tl.text.RandomWindows(train_ids, T, B, tl.Generator(1))
    trainer = tl.train.Trainer(model, batches, None, tl.train.TrainConfig(steps=steps, lr=3e-3, min_lr=3e-4, warmup=steps // 10, shards=2))
    losses, mixed = [], name != "dense"
    for step in range(steps):
        losses.append(trainer.train_step()["loss"])
        if mixed and step % every == 0:
            history.setdefault(name, []).append(shares(choices(model)))
    curves[name] = (range(steps // 6, steps), [np.mean(losses[max(0, i - 29):i + 1]) for i in range(steps // 6, steps)])
    at_work = model.num_params() - mixed * 2 * (E - k) * 3 * 64 * width
    loads = [f"layer {i + 1}: {100 * row.max():.0f} and {100 * row.min():.0f} %" for i, row in enumerate(shares(choices(model)))] if mixed else []
    print(f"{name:13}{model.num_params():>11,}{at_work:>9,}{tl.train.evaluate(model, validation):>8.3f}   {', '.join(loads)}")
drawing.save("out/18_training.svg", drawing.curves(curves, "training loss", x_label="step", y_label="nats"))

# %% [markdown]
# ## Balance over time
#
# The busiest expert's share of the work, in the second layer; 12.5 % is even.

# %%
at = range(0, steps, every)
drawing.save("out/18_balance.html", drawing.page(
    "Who does the work", drawing.curves({name: (at, [100 * rows[1].max() for rows in past]) for name, past in history.items()},
                                        "share of the busiest expert (12.5 % is even)", 560, x_label="step", y_label="percent"),
    "Each row is an expert, each column a moment of training, from left to right; the stronger the colour, the more tokens (layer 2).",
    *[drawing.heatmap(np.array([rows[1] for rows in past]).T, name, side=9, rows="expert", columns="time", most=60)
      for name, past in history.items()]))
last = {name: past[-1][1] for name, past in history.items()}
assert quick or last["bias"].max() < last["no rule"].max() and last["balance loss"].max() < last["no rule"].max()

# %% [markdown]
# Without a rule one expert does a third of the work or more (half is the most it can get, with two for each token), and
# some do next to none: weights paid for and not used. The bias evens the load and takes nothing from the loss; the
# balance loss does it by pulling at the scores themselves, and pays.
#
# ## What have they become good at?
#
# The tokens here are letters. For each kind of letter: where does the router with the bias send it?

# %%
letters = list(tokenizer.decode(range(tokenizer.vocab_size)))
kind_of = np.array(["vowel" if c in "aeiou" else "capital" if c.isupper() else "consonant" if c.isalpha() else "blank" if c == " " else
                    "line break" if c == "\n" else "mark" for c in letters])
groups = ["vowel", "consonant", "capital", "blank", "mark", "line break"]


def where(chosen):
    """Of each kind of letter, the share that goes to each expert: (kinds, E)."""
    kind = kind_of[probe[0]]                                            # (B, T)
    return np.array([np.bincount(chosen[kind == group].ravel(), minlength=E) / max(1, (kind == group).sum() * k) for group in groups])


chosen = choices(models["bias"])
names = [f"{e}" for e in range(E)]
drawing.save("out/18_specialists.html", drawing.page(
    "Which letters go to which expert",
    "Each row sums to 1. With no speciality at all every square would show the expert's share of the work, about 0.12.",
    *[drawing.numbers(where(layer), groups, names, f"layer {i + 1}", top=0.6) for i, layer in enumerate(chosen)]))


def bits(chosen):
    """How much an expert's number tells about the letter, in bits: the mutual information."""
    joint = np.zeros((len(letters), E))
    np.add.at(joint, (np.repeat(probe[0].ravel(), k), chosen.ravel()), 1)
    joint /= joint.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    return float((joint[joint > 0] * np.log2(joint[joint > 0] / independent[joint > 0])).sum())


print()
for i, layer in enumerate(chosen):
    shuffled = bits(np.random.default_rng(0).permutation(layer.reshape(-1, k)))
    print(f"layer {i + 1}: knowing the expert tells {bits(layer):.2f} bits about the letter (by chance {shuffled:.2f}, at most {np.log2(E):.0f})")
    for e in range(E):
        mine = probe[0][(layer == e).any(-1)]
        every_letter = np.bincount(probe[0].ravel(), minlength=len(letters))
        own = np.bincount(mine, minlength=len(letters))
        favourites = np.argsort(-np.where(every_letter >= 12, own / np.maximum(every_letter, 1), 0))[:8]
        print(f"   expert {e}: {len(mine):4} tokens; comes first for " + " ".join(f"{letters[f]!r}" for f in favourites if own[f]))
assert quick or bits(chosen[0]) > 5 * bits(np.random.default_rng(0).permutation(chosen[0].reshape(-1, k)))

# %% [markdown]
# The specialities are of letters and places, not of subjects: experts of large models, too, turn out to know about
# kinds of words and punctuation rather than about history or law (Jiang et al. 2024 looked at Mixtral's).
#
# Try: `n_shared_experts=1` (what is common moves there), k = 1, or a bias rate ten times larger.
