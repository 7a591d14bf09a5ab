# %% [markdown]
# # From GPT-2 to Llama, one change at a time
#
# Llama (Touvron et al. 2023) is GPT-2 with four parts exchanged: RMS norms for layer norms, rotary positions for a
# table, a gated feed-forward layer for the plain one, and from Llama 2 70B on, fewer heads of keys and values than of
# queries. Biases go, too. Here we exchange them one after the other, train each step of the way on the same batches,
# and end with `tl.models.Llama`, number for number. In full the lesson trains five models, in under a minute and a
# half.

# %%
import math
import os
import time

import numpy as np

import tinyllm as tl
from tinyllm import drawing
from tinyllm.nn import functional as F

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## 1. RMSNorm
#
# Layer norm takes off the mean and divides by the standard deviation. RMSNorm (Zhang and Sennrich 2019) leaves the mean
# where it is and divides by the root mean square: half the work, and for numbers with a mean near 0 nearly the same
# result.

# %%
x = tl.Tensor([2.0, -1.0, 0.5, -1.3])
print("layer norm", F.layer_norm(x, tl.Tensor(np.ones(4, np.float32)), None).numpy().round(3))
print("RMS norm  ", F.rms_norm(x, tl.Tensor(np.ones(4, np.float32))).numpy().round(3))

# %% [markdown]
# ## 2. Rotary positions
#
# A table of positions is added once, at the bottom. Rotary positions (Su et al. 2021) turn each pair of a query's and a
# key's numbers by an angle that grows with the place. In the product of two turned vectors only the difference of the
# angles is left: attention sees distances.

# %%
rng = np.random.default_rng(0)
query, key = rng.normal(size=(2, 1, 16))
rotary = tl.nn.RotaryPositions(16)


def score(i, j):
    turned = [rotary.at(np.array([place]), np.float64).turn(tl.Tensor(v)).numpy() for place, v in ((i, query), (j, key))]
    return float((turned[0] * turned[1]).sum())


print("score of places (5, 2), (25, 22), (105, 102):", *(f"{score(i, i - 3):.6f}" for i in (5, 25, 105)))
assert math.isclose(score(5, 2), score(105, 102), rel_tol=1e-9)
places = np.arange(64)
drawing.save("out/16_rotation.svg", drawing.curves(
    {f"pair {k}": (places, np.cos(places * rotary.frequencies[k])) for k in (0, 2, 4)}, "cosine of the angle a pair is turned by",
    x_label="position"))

# %% [markdown]
# ## 3. SwiGLU
#
# GPT-2's layer is C → 4C → C with a GELU between. The gated one has two maps up: one is a switch for the other,
# down(silu(gate x) ⊙ up x) (Shazeer 2020). Three maps of width 8C/3 cost what two of 4C do.

# %%
z = np.linspace(-5, 5, 201)
drawing.save("out/16_gates.svg", drawing.curves(
    {"gelu": (z, F.gelu(tl.Tensor(z), "tanh").numpy()), "silu": (z, F.silu(tl.Tensor(z)).numpy())}, "GELU and SiLU"))
print("width for C = 4096:", tl.nn.swiglu_width(4096, 256), "  numbers:", 3 * 4096 * tl.nn.swiglu_width(4096, 256), "against", 2 * 4096 * 4 * 4096)

# %% [markdown]
# ## 4. Grouped queries
#
# Several query heads share a head of keys and values (Ainslie et al. 2023). The loss moves little; the cache shrinks by
# the size of the group.
#
# ## All of it in one model
#
# Four switches. Everything else is the same: sizes, initial standard deviation, batches, rates.


# %%
class PlainMLP(tl.nn.Module):
    def __init__(self, C, bias, std):
        self.fc, self.proj = tl.nn.Linear(C, 4 * C, bias, std=std), tl.nn.Linear(4 * C, C, bias, std=std / math.sqrt(2 * LAYERS))

    def forward(self, x):
        return self.proj(F.gelu(self.fc(x), "tanh"))


C, HEADS, LAYERS, T = 64, 4, 3, 64


class Model(tl.models.LanguageModel):
    def __init__(self, vocab_size, rms=False, rope=False, swiglu=False, kv_heads=HEADS):
        self.config = tl.models.LlamaConfig(vocab_size=vocab_size, n_layer=LAYERS, n_head=HEADS, n_kv_head=kv_heads, n_embd=C, block_size=T)
        bias, std = not swiglu, 0.02                        # with the last of the old maps the biases go
        small = std / math.sqrt(2 * LAYERS)
        norm = (lambda: tl.nn.RMSNorm(C)) if rms else (lambda: tl.nn.LayerNorm(C))
        self.rotary = tl.nn.RotaryPositions(C // HEADS) if rope else None
        self.wte = tl.nn.Embedding(vocab_size, C, std=std)
        self.wpe = None if rope else tl.nn.Embedding(T, C, std=std)
        self.blocks = tl.nn.ModuleList(tl.nn.Block(
            norm(), tl.nn.Attention(C, HEADS, kv_heads, bias=bias, std=std, proj_std=small, layer=layer),
            norm(), tl.nn.SwiGLU(C, tl.nn.swiglu_width(C, 32), std=std, proj_std=small) if swiglu else PlainMLP(C, bias, std))
            for layer in range(LAYERS))
        self.norm, self.head = norm(), None                 # the head is the token table

    def forward(self, ids):
        x, places = self.wte(ids), np.arange(ids.shape[1])  # (B, T, C)
        if self.wpe is not None:
            x = x + self.wpe(places)
        rotation = self.rotary.at(places, x.dtype) if self.rotary else None
        for block in self.blocks:
            x = block(x, None, rotation)
        return self.unembed(self.norm(x))                   # (B, T, V)


text = tl.text.read(["tales"])
tokenizer = tl.tokenizers.CharTokenizer.train(text)
train_ids, val_ids = tl.text.split_position(tokenizer.encode_array(text), 0.1)
validation = list(tl.text.EvalWindows(val_ids, T, 16, limit=16 if quick else 128))
steps = 4 if quick else 600
changes = {"GPT-2": {}, "+ RMSNorm": dict(rms=True), "+ RoPE": dict(rope=True), "+ SwiGLU": dict(swiglu=True), "+ GQA": dict(kv_heads=2)}
options, curves, results = {}, {}, {}
print(f"\n{'':12}{'parameters':>11}{'kept a token':>14}{'loss':>8}{'seconds':>9}")
for name, change in changes.items():
    options |= change
    tl.manual_seed(0)
    model = Model(tokenizer.vocab_size, **options)
    batches = tl.text.RandomWindows(train_ids, T, 12, tl.Generator(1))
    trainer = tl.train.Trainer(model, batches, None, tl.train.TrainConfig(steps=steps, lr=3e-3, min_lr=3e-4, warmup=steps // 10, shards=2))
    began = time.perf_counter()
    losses = [trainer.train_step()["loss"] for _ in range(steps)]
    seconds = time.perf_counter() - began
    curves[name] = (range(steps // 6, steps), [np.mean(losses[max(0, k - 29):k + 1]) for k in range(steps // 6, steps)])
    results[name] = tl.train.evaluate(model, validation)
    print(f"{name:12}{model.num_params():>11,}{model.config.cached_per_token():>14}{results[name]:>8.3f}{seconds:>9.1f}")
print(f"{'the tales':12}{'':25}{tl.text.tales.entropy_per_char():>8.3f}  (entropy: no model can do better)")
drawing.save("out/16_training.svg", drawing.curves(curves, "training loss, one change after the other", 560, 300, x_label="step", y_label="nats"))
drawing.save("out/16_losses.svg", drawing.bars([round(v, 3) for v in results.values()], list(results), "loss on new text, nats per character"))

# %% [markdown]
# Rotary positions make the largest step: which letter stands one place back is what a small model needs most, and it is
# given. The gated layer helps, too. RMSNorm was chosen for speed and GQA for the cache; here they cost a little. One
# seed decides nothing between numbers that are close.
#
# ## What we have built is a Llama
#
# The last model and `tl.models.Llama` draw the same weights and give the same logits.

# %%
tl.manual_seed(7)
ours = Model(tokenizer.vocab_size, **options)
tl.manual_seed(7)
llama = tl.models.Llama(ours.config)
ids = val_ids[None, :T]
assert ours.num_params() == llama.num_params() == llama.config.num_params()
assert np.array_equal(ours(ids).numpy(), llama(ids).numpy())
print("\nthe last model equals tl.models.Llama, bit for bit")

# %% [markdown]
# ## The published ones

# %%
for name in ("llama-7b", "llama-2-70b", "llama-3-8b", "llama-3.1-405b", "llama-3.2-1b"):
    config = tl.models.LlamaConfig.preset(name)
    print(f"{name:15} {config.num_params():>15,} parameters  {config.n_layer:3} layers  {config.n_head:3} heads, {config.n_kv_head:2} of keys and "
          f"values  SwiGLU {config.ffn_dim:6,}  {config.kv_bytes_per_token():>8,} bytes of cache a token")
assert tl.models.LlamaConfig.preset("llama-7b").num_params() == 6_738_415_616
assert tl.models.LlamaConfig.preset("llama-3.1-405b").num_params() == 405_853_388_800
