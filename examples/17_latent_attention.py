# %% [markdown]
# # Latent attention, and what a cache costs
#
# A model that writes looks back at the keys and values of every token before. They are kept, not computed again, and so
# a long text fills the memory: not with weights, with cache. DeepSeek-V2 (2405.04434) found a way to keep one short
# vector per token instead of the keys and values of all heads, and to attend to that vector without ever unfolding it.
# In full the lesson trains four small models, in less than a minute.

# %%
import math
import os
import time

import numpy as np

import tinyllm as tl
from tinyllm import drawing

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## What is kept for each token
#
# Numbers per token and layer, for H heads of size D, of which K have keys and values of their own:
#
#     MHA    every head its own                       2 H D
#     GQA    K heads serve H                          2 K D
#     MQA    one head serves all                      2 D
#     MLA    a latent vector and a turned key         d_c + d_r          (512 + 64 in DeepSeek, with D = 128)
#
# Times layers, times 2 bytes:

# %%
published = {   # bytes per token
    "gpt2": 36_864, "llama-2-7b": 524_288, "llama-3-8b": 131_072, "llama-3-70b": 327_680, "llama-3.1-405b": 516_096,
    "deepseek-v2-lite": 31_104, "deepseek-v2": 69_120, "deepseek-v3": 70_272,
}
families = {"gpt": tl.models.GPTConfig, "lla": tl.models.LlamaConfig, "dee": tl.models.DeepSeekConfig}
print("bytes of cache per token, and gigabytes for a text of 131,072 tokens")
for name, expected in published.items():
    cost = families[name[:3]].preset(name).kv_bytes_per_token()
    print(f"{name:20}{cost:>10,}{cost * 131_072 / 1e9:>8.1f}")
    assert cost == expected

# %% [markdown]
# DeepSeek-V3 has 671 billion weights and a smaller cache than a Llama of 8 billion. The same model with other kinds of
# attention:

# %%
v3 = tl.models.DeepSeekConfig.preset("deepseek-v3")
heads, layers, D = v3.n_head, v3.n_layer, v3.v_head_dim
kinds = {
    "expanded keys, values": heads * (v3.qk_nope_head_dim + v3.qk_rope_head_dim + D) * layers * 2,
    "MHA": 2 * heads * D * layers * 2,
    "GQA, 8 heads": 2 * 8 * D * layers * 2,
    "MLA": v3.kv_bytes_per_token(),
    "MQA": 2 * D * layers * 2,
}
assert (kinds["expanded keys, values"], kinds["MHA"], kinds["MLA"], kinds["MQA"]) == (4_997_120, 3_997_696, 70_272, 31_232)
drawing.save("out/17_cache_of_v3.svg", drawing.bars(
    [round(v / 1000, 1) for v in kinds.values()], list(kinds), "DeepSeek-V3: kilobytes of cache per token, by kind of attention", width=520))
print(f"MLA is GQA with {v3.cached_per_token() / layers / (2 * D):.2f} heads: d_c + d_r = {v3.kv_lora_rank + v3.qk_rope_head_dim}, 2 D = {2 * D}")

# %% [markdown]
# ## Two ways to the same number
#
# Leave positions aside for a moment. Head h has a query map and, to unfold the latent c of each token, W_k and W_v.
#
#     naive       k = W_k c for every past token, score = q · k            then a mean of v = W_v c
#     absorbed    q · (W_k c) = (W_kᵀ q) · c, so turn the query once       then W_v on a mean of c
#
# Matrices may be multiplied in either order; which one is cheap depends on how many tokens are new.

# %%
rng = np.random.default_rng(0)
H, S, d_c, d_n, d_v = 4, 50, 32, 16, 16
c = rng.normal(size=(S, d_c))                                       # the cache: one vector for each past token
query = rng.normal(size=(H, d_n))                                   # the new token's
W_k, W_v = rng.normal(size=(H, d_n, d_c)), rng.normal(size=(H, d_v, d_c))


def softmax(scores):
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


keys, values = np.einsum("hnc,sc->hsn", W_k, c), np.einsum("hvc,sc->hsv", W_v, c)
naive = np.einsum("hs,hsv->hv", softmax(np.einsum("hn,hsn->hs", query, keys) / math.sqrt(d_n)), values)

latent_query = np.einsum("hn,hnc->hc", query, W_k)                  # (H, d_c): the query, in the latent's space
mixed = softmax(latent_query @ c.T / math.sqrt(d_n)) @ c            # (H, d_c): all heads share c as key and as value
absorbed = np.einsum("hc,hvc->hv", mixed, W_v)
print(f"\nnaive and absorbed differ by at most {np.abs(naive - absorbed).max():.1e}")
assert np.allclose(naive, absorbed, atol=1e-12)

# %% [markdown]
# ## Why the position needs numbers of its own
#
# Rotary positions turn each key by its place. Then the score is qᵀ R W_k c with a rotation R that depends on the
# distance, and it stands between the two matrices that were to be multiplied: there would be one product for every
# distance.

# %%
turn = tl.nn.RotaryPositions(d_n).at(np.arange(3), np.float64)
products = []
for distance in range(3):
    rows = tl.Tensor(np.repeat(W_k[0].T[:, None], 3, axis=1))       # (d_c, 3, d_n): W_k's columns, placed at positions 0, 1, 2
    products.append(turn.turn(rows).numpy()[:, distance].T)         # R W_k for this distance
for distance in (1, 2):
    change = np.linalg.norm(products[distance] - products[0]) / np.linalg.norm(products[0])
    print(f"R W_k at distance {distance} differs from W_k by {100 * change:.0f} %")
assert np.allclose(products[0], W_k[0])

# %% [markdown]
# So DeepSeek splits the key: d_n numbers from the latent, never turned, and d_r numbers that are turned, one vector for
# all heads, kept beside the latent. `tl.nn.LatentAttention` does all of it; `absorb` forces one way or the other.

# %%
tl.manual_seed(0)
with tl.default_dtype("float64"):
    layer = tl.nn.LatentAttention(64, n_head=4, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16)
    x = tl.Tensor(rng.normal(size=(2, 12, 64)))
    rotation = tl.nn.RotaryPositions(8).at(np.arange(12), np.float64)
    results = {}
    for layer.absorb in (False, True):
        results[layer.absorb] = layer(x, rotation=rotation).numpy()
print(f"the layer, both ways: differ by at most {np.abs(results[True] - results[False]).max():.1e}")
assert np.allclose(results[True], results[False], atol=1e-12)

# %% [markdown]
# ## Which way when
#
# Multiplications of one head of DeepSeek's size, for T new tokens behind S in all. A single new token: absorbed, by
# far. A whole prompt at once: naive. The layer counts both and takes the cheaper.

# %%
d_c, d_n, d_r, d_v = 512, 128, 64, 128
matrix = d_c * (d_n + d_v)
cost = {"naive": lambda T, S: S * matrix + T * S * (d_n + d_r + d_v), "absorbed": lambda T, S: T * matrix + T * S * (2 * d_c + d_r)}
S = 4096
news = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
lines = {name: (news, [f(T, S) for T in news]) for name, f in cost.items()}
drawing.save("out/17_which_way.svg", drawing.curves(lines, f"multiplications of one head, {S} tokens in all", log="xy", x_label="new tokens"))
first = next(T for T in range(1, S) if cost["naive"](T, S) < cost["absorbed"](T, S))
print(f"{S} tokens in all, one of them new: absorbed takes {cost['naive'](1, S) / cost['absorbed'](1, S):.0f} times fewer multiplications; "
      f"from {first} new ones on, naive is cheaper")

# %% [markdown]
# And on the clock: one token at a time behind a cache of 1,000, in a layer of 16 heads.

# %%
tl.manual_seed(0)
layer = tl.nn.LatentAttention(256, n_head=16, kv_lora_rank=64, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32)
past, reps = 200 if quick else 1000, 20
rotary, token = tl.nn.RotaryPositions(16), tl.Tensor(rng.normal(size=(1, 1, 256)).astype(np.float32))
for layer.absorb in (False, True):
    cache = tl.nn.KVCache(1, 1, 1, past + reps, 64 + 16, streams=1)
    with tl.no_grad():
        prompt = tl.Tensor(rng.normal(size=(1, past, 256)).astype(np.float32))
        layer(prompt, cache, rotary.at(np.arange(past)))
        cache.advance(past)
        seconds = []
        for _ in range(reps):
            began = time.perf_counter()
            layer(token, cache, rotary.at(cache.positions(1)))
            seconds.append(time.perf_counter() - began)
            cache.advance(1)
    print(f"{'absorbed' if layer.absorb else 'naive':9} {1e3 * np.median(seconds):6.2f} ms a token")

# %% [markdown]
# ## Does it learn as well?
#
# Four small models on the tales, alike but for their attention: the numbers they keep per token, and the loss they
# reach on text they have not seen. The latent has DeepSeek's proportions to a head of 16: d_c = 4 D and d_r = D / 2.

# %%
text = tl.text.read(["tales"])
tokenizer = tl.tokenizers.CharTokenizer.train(text)
train_ids, val_ids = tl.text.split_position(tokenizer.encode_array(text), 0.1)
steps = 4 if quick else 600
sizes = dict(vocab_size=tokenizer.vocab_size, n_layer=3, n_head=4, n_embd=64, block_size=64)
contenders = {
    "MHA": lambda: tl.models.Llama(tl.models.LlamaConfig(**sizes)),
    "GQA, 2 of 4": lambda: tl.models.Llama(tl.models.LlamaConfig(**sizes, n_kv_head=2)),
    "MQA": lambda: tl.models.Llama(tl.models.LlamaConfig(**sizes, n_kv_head=1)),
    "MLA, 64 + 8": lambda: tl.models.DeepSeek(tl.models.DeepSeekConfig(**sizes, kv_lora_rank=64, qk_rope_head_dim=8, first_k_dense=3)),
}
validation = list(tl.text.EvalWindows(val_ids, 64, 16, limit=16 if quick else 128))
curves = {}
print(f"\n{'':14}{'kept a token':>14}{'parameters':>12}{'loss':>8}    ({steps} steps)")
for name, build in contenders.items():
    tl.manual_seed(0)
    model = build()
    batches = tl.text.RandomWindows(train_ids, 64, 12, tl.Generator(1))
    trainer = tl.train.Trainer(model, batches, None, tl.train.TrainConfig(steps=steps, lr=3e-3, min_lr=3e-4, warmup=steps // 10, shards=2))
    losses = [trainer.train_step()["loss"] for _ in range(steps)]
    curves[name] = [np.mean(losses[max(0, i - 19):i + 1]) for i in range(steps)]
    loss = tl.train.evaluate(model, validation)
    print(f"{name:14}{model.config.cached_per_token():>14}{model.num_params():>12,}{loss:>8.3f}")
drawing.save("out/17_training.svg", drawing.curves({name: (range(steps // 4, steps), curve[steps // 4:]) for name, curve in curves.items()},
                                                   "training loss by kind of attention", x_label="step", y_label="nats"))

# %% [markdown]
# Here the order is that of the sizes of the caches but for MLA, which comes last: at width 64 there is little to
# compress. At its own size DeepSeek-V2 reports MLA at least as good as MHA, with a cache 57 times smaller in V3. One
# seed of a small model settles nothing: change the seed and see how far the four numbers move before believing in an
# order.
