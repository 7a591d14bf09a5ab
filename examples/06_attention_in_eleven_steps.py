# %% [markdown]
# # Attention in eleven steps
#
# Attention lets each token of a text take what it needs from the others. We start from six words with made-up embeddings and
# nothing but a dot product, and end with the layer that language models use. Every table is the study's, to the digits it printed.

# %%
import math

import numpy as np

import tinyllm as tl
from tinyllm import F, drawing, nn

WORDS = "These are random words and embeddings".split()
X = np.array([[.35, .15, .89], [.97, .80, .30], [.65, .34, .24], [.20, .87, .34], [.86, .13, .05], [.10, .20, .30]], np.float32)      # (T, C)


def show(what, numbers):
    print(f"{what:>34}  {np.array2string(np.asarray(numbers), precision=4, suppress_small=True, floatmode='fixed', prefix=' ' * 36, max_line_width=110)}")


def study(numbers, printed, digits=4):
    """Hold numbers to what the study printed, all its digits."""
    np.testing.assert_allclose(numbers, printed, rtol=0, atol=0.51 * 10.0 ** -digits)


# %% [markdown]
# ## 1. Scores: how alike are two tokens?
#
# The dot product of two vectors is large where they point the same way. Take the third word, "random", as the *query* and
# compare it with every word, itself too.

# %%
query = X[2]
scores = np.array([sum(q * k for q, k in zip(query, key)) for key in X])
show("1  scores of 'random'", scores)
study(scores, [.4921, .9745, .5957, .5074, .6152, .2050])

# %% [markdown]
# ## 2. Weights, the simple way
#
# We want shares of a whole. Divide by the sum:

# %%
shares = scores / scores.sum()
show("2  divided by their sum", shares)
study(shares, [.1452, .2875, .1757, .1497, .1815, .0605])

# %% [markdown]
# ## 3. Weights by softmax, and a first context vector
#
# A score may be negative, and shares may not. The exponential makes every score positive before they are divided: that is
# softmax. Its weights average the words' vectors into one *context vector*: what "random" has gathered.

# %%
def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))     # the shift changes no weight and keeps exp from overflowing
    return powers / powers.sum(-1, keepdims=True)


weights = softmax(scores)
context = weights @ X
show("3  softmax", weights)
show("   context of 'random'", context)
study(weights, [.1509, .2445, .1674, .1532, .1707, .1133])
study(context, [.5876, .4533, .3425])

# %% [markdown]
# ## 4. Every token at once
#
# Two loops over tokens are one matrix product: `X @ X.T` has the score of every pair.

# %%
by_loops = np.array([[query @ key for key in X] for query in X])
scores = X @ X.T                                                # (T, T)
np.testing.assert_allclose(by_loops, scores, rtol=1e-6)
weights = softmax(scores)                                       # each row sums to 1
contexts = weights @ X                                          # (T, C)
show("4  contexts of all six", contexts)
study(contexts[[0, 2, 5]], [[.5279, .4187, .4037], [.5876, .4533, .3425], [.5242, .4312, .3676]])
step_4 = drawing.numbers(weights, WORDS, WORDS, "4. weights without anything learned", top=0.5)

# %% [markdown]
# ## 5. Three learned matrices
#
# So far a word asks, answers and gives with the same vector. Let it learn three: a *query* (what I look for), a *key* (what I
# can be found by) and a *value* (what I hand over). Scores are divided by √D, D the size of a key: step 8 says why.

# %%
generator = tl.Generator(123)
Wq, Wk, Wv = (generator.randn(3, 2) for _ in range(3))          # (C, D)
show("5  Wq", Wq)
show("   Wk", Wk)
show("   Wv", Wv)
study(Wq, [[-.1115, .1204], [-.3696, -.2404], [-1.1969, .2093]])
study(Wk, [[-.9724, -.7550], [.3239, -.1085], [.2103, -.3908]])
study(Wv, [[.2350, .6653], [.3528, .9728], [-.0386, -.8861]])

queries, keys, values = X @ Wq, X @ Wk, X @ Wv                  # (T, D)
scores = queries @ keys.T
weights = softmax(scores / math.sqrt(2))
context = weights[2] @ values
show("   score of 'random' with itself", scores[2, 2])
show("   its weights", weights[2])
show("   its context", context)
study(scores[2, 2], .19979, digits=5)
study(weights[2], [.1547, .1828, .1755, .1425, .1949, .1497])
study(context, [.2618, .4683])
step_5 = drawing.numbers(weights, WORDS, WORDS, "5. weights by queries and keys, not yet trained", top=0.5)

# %% [markdown]
# ## 6. A layer
#
# The same as a module, twice: with bare matrices as parameters, and with linear layers, which draw better first weights and
# store them as (out, in). Given the same weights, transposed, both say the same.

# %%
class SelfAttention(nn.Module):
    """x (T, C) -> (T, D), every token seeing every token."""

    def __init__(self, Wq, Wk, Wv):
        self.Wq, self.Wk, self.Wv = nn.Parameter(Wq), nn.Parameter(Wk), nn.Parameter(Wv)

    def forward(self, x):
        query, key, value = x @ self.Wq, x @ self.Wk, x @ self.Wv
        return F.softmax(query @ key.T / math.sqrt(key.shape[-1])) @ value


class SelfAttentionOfLinears(nn.Module):
    """The same, with three linear layers without biases."""

    def __init__(self, n_in, n_out):
        self.query, self.key, self.value = (nn.Linear(n_in, n_out, bias=False) for _ in range(3))

    def forward(self, x):
        query, key, value = self.query(x), self.key(x), self.value(x)
        return F.softmax(query @ key.T / math.sqrt(key.shape[-1])) @ value


first = SelfAttention(Wq, Wk, Wv)
y = first(tl.Tensor(X)).numpy()
show("6  of parameters", y)
study(y[[0, 2, 5]], [[.2695, .5081], [.2618, .4683], [.2615, .4663]])

tl.manual_seed(123)
second = SelfAttentionOfLinears(3, 2)
own = second(tl.Tensor(X)).numpy()
show("   of linears, row 1", own[0])
study(own[0], [-.4850, -.1109])
for layer, W in zip((second.query, second.key, second.value), (Wq, Wk, Wv)):
    layer.weight.copy_(W.T)
np.testing.assert_allclose(second(tl.Tensor(X)).numpy(), y, rtol=1e-5)

# %% [markdown]
# ## 7. Not into the future
#
# A model that predicts the next word must not see it. Scores above the diagonal become -∞ *before* the softmax, so their
# weights are 0 and each row still sums to 1. (Zeroing the weights afterwards would need a second division.)

# %%
hidden = np.triu(np.ones((6, 6), bool), 1)
masked = softmax(np.where(hidden, -np.inf, scores / math.sqrt(2)))
show("7  masked weights", masked)
study(masked[1], [.4301, .5699, 0, 0, 0, 0])
study(masked[4], [.1927, .2039, .2033, .1883, .2118, 0])
np.testing.assert_allclose(masked[5], weights[5], rtol=1e-6)    # the last word sees all, as before
step_7 = drawing.numbers(np.where(hidden, np.nan, masked), WORDS, WORDS, "7. masked: what is grey lies ahead")

# %% [markdown]
# ## 8. Dropout, and why √D
#
# In training some weights are dropped at random and the others scaled by 1/(1 - p), so that a row's expected sum stays 1: a model
# must not lean on a single word. (Drop them once. To apply dropout twice keeps 0.81 of the weights at p = 0.1, not 0.9.)
#
# And the √D: a dot product of D random numbers has a standard deviation of √D. With large scores softmax picks one
# word and its gradient vanishes; divided by √D it stays soft, whatever D is.

# %%
keep = F.keep_mask((6, 6), 0.5, tl.Generator(7), np.float32)  # 0 or 2
dropped = masked * keep
show("8  after dropout, p = 0.5", dropped)
assert set(np.unique(keep)) == {0, 2}
for scores_of_three in ([8.0, 0.0, 0.0], [1.0, 0.0, 0.0]):
    p = softmax(np.array(scores_of_three))
    show(f"   softmax({scores_of_three})", p)
    show("   its slopes dp/ds", (np.diag(p) - np.outer(p, p))[0])
assert np.floor(p * 1000).tolist() == [576, 211, 211]           # the study's digits, which are cut here, not rounded
step_8 = drawing.numbers(np.where(hidden, np.nan, dropped), WORDS, WORDS, "8. each dropped with probability ½, the rest doubled")

sizes = [2, 8, 32, 128, 512]
largest = {"as they are": [], "divided by √D": []}
for D in sizes:
    q, k = tl.Generator(D).randn(2, 200, 1, D)
    s = (q @ tl.Generator(D + 1).randn(200, D, 16))[:, 0]       # 200 queries, 16 random keys each
    for name, scale in zip(largest, (1, math.sqrt(D))):
        largest[name].append(softmax(s / scale).max(-1).mean())
show("   largest of 16 weights, D = 512", [largest[name][-1] for name in largest])

# %% [markdown]
# ## 9. A batch of texts
#
# The last two axes are the text's; whatever stands before them comes along. The mask is cut to the length of the text.

# %%
class CausalAttention(nn.Module):
    """x (B, T, C) -> (B, T, D), no token seeing what follows it; at most `longest` tokens."""

    def __init__(self, n_in, n_out, longest, dropout=0.0):
        self.query, self.key, self.value = (nn.Linear(n_in, n_out, bias=False) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        self.add_buffer("hidden", np.triu(np.ones((longest, longest), bool), 1))        # not learned, but part of the layer

    def forward(self, x):
        T = x.shape[-2]
        query, key, value = self.query(x), self.key(x), self.value(x)
        scores = query @ key.mT / math.sqrt(key.shape[-1])                              # (B, T, T)
        weights = F.softmax(tl.ops.where(self.hidden[:T, :T], -np.inf, scores))
        return self.dropout(weights) @ value


batch = np.stack([X, X])                                        # (B, T, C)
causal = CausalAttention(3, 2, longest=10)
print(f"9  causal attention: {batch.shape} -> {causal(tl.Tensor(batch)).shape}")
assert causal(tl.Tensor(batch)).shape == (2, 6, 2)

# %% [markdown]
# ## 10. Several heads, side by side
#
# One head can look at one thing. Two heads with weights of their own look at two; their results are laid side by side.

# %%
tl.manual_seed(123)
heads = [CausalAttention(3, 2, longest=6) for _ in range(2)]
side_by_side = tl.ops.concatenate([head(tl.Tensor(batch)) for head in heads], axis=-1)
show("10  two heads, row 1", side_by_side.numpy()[0, 0])
assert side_by_side.shape == (2, 6, 4)
study(side_by_side.numpy()[0, 0], [-.4127, .2307, .4378, .0873])

# %% [markdown]
# ## 11. Multi-head attention, in one product
#
# Instead of many small layers, one map makes the queries of all heads and a reshape tells them apart; a last linear map mixes
# what the heads found. H heads of size C/H cost what one head of size C costs: `3 T C² + 2 T² C` multiplications.

# %%
class MultiHeadAttention(nn.Module):
    """x (B, T, n_in) -> (B, T, n_out) in `n_head` heads of size n_out / n_head."""

    def __init__(self, n_in, n_out, n_head):
        self.n_head = n_head
        self.query, self.key, self.value = (nn.Linear(n_in, n_out, bias=False) for _ in range(3))
        self.proj = nn.Linear(n_out, n_out)

    def forward(self, x):
        B, T, _ = x.shape
        query, key, value = (layer(x).reshape(B, T, self.n_head, -1).transpose(0, 2, 1, 3) for layer in (self.query, self.key, self.value))
        y, self.weights = F.attention(query, key, value, return_weights=True)           # (B, H, T, D), (B, H, T, T)
        return self.proj(y.transpose(0, 2, 1, 3).reshape(B, T, -1))


tl.manual_seed(123)
layer = MultiHeadAttention(3, 2, n_head=2)
y = layer(tl.Tensor(batch)).numpy()[0]
show("11  two heads of size 1", y)
study(y, [[.3145, .5066], [.2842, .3614], [.2712, .3817], [.2544, .3887], [.2535, .3958], [.2488, .4286]])

# %% [markdown]
# This is `tl.nn.Attention`, but for two things: there the three maps are one matrix, and the weights are never written down,
# because a kernel goes through them block by block. Give it our weights and it says the same.

# %%
ours, theirs = MultiHeadAttention(8, 8, n_head=2), nn.Attention(8, n_head=2, qkv_bias=False)
theirs.qkv.weight.copy_(np.concatenate([m.weight.numpy() for m in (ours.query, ours.key, ours.value)]))
theirs.proj.weight.copy_(ours.proj.weight.numpy())
theirs.proj.bias.copy_(ours.proj.bias.numpy())
x = tl.Tensor(tl.Generator(0).randn(2, 6, 8))
np.testing.assert_allclose(theirs(x).numpy(), ours(x).numpy(), rtol=1e-5, atol=1e-6)
print("the same from tl.nn.Attention: yes")

# %%
drawing.save("out/06_attention.html", drawing.page(
    "Attention in eleven steps",
    "Row by row: how much the word on the left looks at each word above. Every row sums to 1 (until dropout).",
    step_4, step_5, step_7, step_8,
    "# Why the scores are divided by √D",
    "The largest of 16 weights for random queries and keys. Undivided, one word takes all as D grows; divided, it does not depend on D.",
    drawing.curves({name: (sizes, own) for name, own in largest.items()}, "largest weight, mean of 200 queries", log="x", x_label="size D of a key",
                   floors={"all alike": 1 / 16}),
    "# Two heads of step 11",
    "The first weights are random, so the heads do not look for anything yet. After training they will.",
    drawing.attention_grid(layer.weights.numpy()[0], WORDS)))
