# %% [markdown]
# # Normalisation: LayerNorm, BatchNorm, RMSNorm
#
# A deep network multiplies many matrices, and what flows through it easily grows without bound or fades to nothing. A norm brings
# numbers back to a standard size: subtract a mean, divide by a spread. The three below differ in *over which numbers* the mean and
# the spread are taken, and in whether the mean is subtracted at all.

# %%
import math

import numpy as np

import tinyllm as tl
from tinyllm import F, drawing, nn

# %% [markdown]
# ## LayerNorm, by hand
#
# Two examples of five features. Each *row* gets mean 0 and variance 1 (the biased variance: divided by n, not n - 1); `eps` keeps
# a row of equal numbers from being divided by 0. The study's eps is 1e-6; GPT-2's is 1e-5.

# %%
x = tl.Generator(123).randn(2, 5)                               # (B, C)
mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
y = (x - mean) / np.sqrt(variance + 1e-6)
print("row means      ", mean.ravel(), "  variances ", variance.ravel())
print("after: means   ", y.mean(-1).round(6), "  variances ", y.var(-1).round(4))

# the study's figures
np.testing.assert_allclose(mean.ravel(), [-.3596, -.2606], atol=5.1e-5)
np.testing.assert_allclose(variance.ravel(), [.2015, .2673], atol=5.1e-5)
np.testing.assert_allclose(F.layer_norm(x, eps=1e-6).numpy(), y, rtol=1e-5, atol=1e-6)     # the library's is the same

# %% [markdown]
# ## Which axis?
#
# LayerNorm looks along a row: all features of one token. BatchNorm looks down a column: one feature of all examples in the
# batch. RMSNorm looks along a row as LayerNorm does, but leaves the mean where it is and divides by the root of the mean square.

# %%
def layer_norm(x, eps=1e-5):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)


def batch_norm(x, eps=1e-5):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + eps)


def rms_norm(x, eps=1e-5):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


# four examples of six features; the third example is loud, the last feature is always large
batch = tl.Generator(1).randn(4, 6).astype(np.float64) * [[1], [1], [4], [1]] + [0, 0, 0, 0, 0, 5]
norms = {"LayerNorm": layer_norm, "BatchNorm": batch_norm, "RMSNorm": rms_norm}
results = {name: norm(batch) for name, norm in norms.items()}
for name, y in results.items():
    print(f"{name:>9}: row means {y.mean(1).round(2)}  row sizes {np.sqrt((y * y).mean(1)).round(2)}\n"
          f"{'':>9}  column means {y.mean(0).round(2)}  column sizes {np.sqrt((y * y).mean(0)).round(2)}")
np.testing.assert_allclose(F.rms_norm(batch).numpy(), results["RMSNorm"])

# %% [markdown]
# ## Why language models do not use BatchNorm
#
# Normalise one example in the company of two different batches. LayerNorm gives the same both times. BatchNorm does not: what
# a sentence means would depend on its neighbours in the batch, and a batch of one would be all zeros. (Which is why BatchNorm keeps running
# means for later use: then training and use are two different functions.)

# %%
other = np.concatenate([batch[:1], tl.Generator(2).randn(3, 6)])
for name, norm in norms.items():
    print(f"{name:>9}: first example changes by {np.abs(norm(batch)[0] - norm(other)[0]).max():.3f}; alone it is {norm(batch[:1])[0].round(2)}")
assert np.array_equal(layer_norm(batch)[0], layer_norm(other)[0]) and not batch_norm(batch[:1]).any()

# %% [markdown]
# ## What a norm forgets
#
# LayerNorm forgets the size and the level of its input: norm(5x + 2) = norm(x). RMSNorm forgets the size alone. And what a
# function forgets, its gradient cannot see: it has no part along that direction. So a gradient step never wastes itself on making a
# vector merely longer.

# %%
with tl.default_dtype("float64"):
    for name, norm in (("layer_norm", F.layer_norm), ("rms_norm", F.rms_norm)):
        v = tl.Tensor(batch, requires_grad=True)
        norm(v, eps=0).backward(tl.Generator(3).randn(4, 6, dtype=np.float64))
        along_size, along_level = (v.grad * batch).sum(-1), v.grad.sum(-1)
        unit = np.abs(v.grad).max()
        print(f"{name:>10}: gradient along x {np.abs(along_size).max() / unit:.0e}, along (1, …, 1) {np.abs(along_level).max() / unit:.0e}")
np.testing.assert_allclose(layer_norm(5 * batch + 2, eps=0), layer_norm(batch, eps=0))
np.testing.assert_allclose(rms_norm(5 * batch, eps=0), rms_norm(batch, eps=0))

# %% [markdown]
# A wide row of random numbers has a mean close to 0 already, so RMSNorm does almost what LayerNorm does and has less to do (Zhang
# and Sennrich 2019). Llama and DeepSeek use it.

# %%
row = tl.Generator(4).randn(1, 768).astype(np.float64)
print(f"768 random features: LayerNorm and RMSNorm differ by at most {np.abs(layer_norm(row) - rms_norm(row)).max():.3f}")

# %% [markdown]
# ## What it is good for
#
# Thirty layers of linear maps and ReLUs, their weights a little too large or a little too small. Without a norm the numbers
# explode or vanish, by the same factor in each layer. With one, the scale of the weights does not matter.

# %%
DEPTH, WIDTH = 30, 128
depths = {1.4: {}, 0.7: {}}
for scale in depths:
    for name, norm in (("no norm", lambda h: h), ("LayerNorm", F.layer_norm), ("RMSNorm", F.rms_norm)):
        generator = tl.Generator(5)
        h, sizes = tl.Tensor(generator.randn(16, WIDTH)), []
        for _ in range(DEPTH):
            W = tl.Tensor(generator.normal(0, scale * math.sqrt(2 / WIDTH), (WIDTH, WIDTH)))
            h = F.relu(norm(h) @ W)
            sizes.append(float(np.sqrt((h.numpy() ** 2).mean())))
        depths[scale][name] = sizes
        print(f"{name:>9}, weights × {scale}: size after layer 1 {sizes[0]:.2f}, after layer {DEPTH} {sizes[-1]:.2e}")
assert depths[1.4]["no norm"][-1] > 1e3 and depths[0.7]["no norm"][-1] < 1e-3
assert all(0.3 < size < 3 for lines in depths.values() for name in ("LayerNorm", "RMSNorm") for size in lines[name])

# %% [markdown]
# ## The layer
#
# After the norm each feature gets a learned scale (and, in LayerNorm, a learned shift), so that the network may undo what it does
# not want. They start at 1 and 0: at first the layer is the bare norm.

# %%
print(nn.LayerNorm(768), nn.RMSNorm(768), sep="\n")
assert nn.LayerNorm(768).num_params() == 2 * 768 and nn.RMSNorm(768).num_params() == 768

# %%
features, examples = [f"feature {j}" for j in range(1, 7)], [f"example {i}" for i in range(1, 5)]
pictures = [drawing.numbers(numbers, examples, features, title, digits=2, top=3)
            for title, numbers in (("before", batch), ("LayerNorm: each row", results["LayerNorm"]),
                                   ("BatchNorm: each column", results["BatchNorm"]), ("RMSNorm: each row, mean kept", results["RMSNorm"]))]
drawing.save("out/07_normalisation.html", drawing.page(
    "Normalisation",
    "# Which axis?",
    "Example 3 is loud, feature 6 is always large. LayerNorm and RMSNorm quiet the loud example and leave the large feature; BatchNorm levels the features "
    "and leaves the loud example.", *pictures,
    "# Thirty layers",
    "Without a norm, weights 1.4 times the right size make the numbers grow by that factor in each layer, and weights of 0.7 of it let them fade.",
    *(drawing.curves(lines, f"size of the numbers, weights × {scale}", log="y", x_label="layer") for scale, lines in depths.items())))
