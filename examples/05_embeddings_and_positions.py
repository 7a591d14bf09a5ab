# %% [markdown]
# # Embeddings and positions
#
# An id is a name, not a quantity: token 7 is not more than token 6. So each id gets a vector of its own, a row of a table that is
# learned. That says *what* a token is. *Where* it stands has to be said as well, and there are three well-known ways.

# %%
import math

import numpy as np

import tinyllm as tl
from tinyllm import F, drawing, nn

# %% [markdown]
# ## A table of six rows
#
# The table begins with random numbers. Row 0 of the study's, with its seed:

# %%
tl.manual_seed(123)
embedding = nn.Embedding(6, 3)
table = embedding.weight.numpy()                                # (V, C)
print(table)
np.testing.assert_allclose(table[0], [.3374, -.1778, -.1690], atol=5.1e-5)      # the study's figures

# %% [markdown]
# Looking up is picking rows. It is also a product with a matrix of zeros and ones, and that is why it can be learned: the gradient
# of a row is the sum of what arrives at every place where it was used. Rows that were not used get nothing.

# %%
ids = np.array([2, 5, 2])
rows = embedding(ids)
one_hot = np.eye(6, dtype=np.float32)[ids]                      # (T, V)
assert np.array_equal(rows.numpy(), table[ids]) and np.array_equal(one_hot @ table, table[ids])
g = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)     # what arrives at the three places
rows.backward(g)
print("gradient of the table:", embedding.weight.grad, sep="\n")
assert np.array_equal(embedding.weight.grad, one_hot.T @ g)
by_hand = drawing.numbers(one_hot, [f"token {i}" for i in ids], [f"row {j}" for j in range(6)], "which row each token takes", digits=0)

# %% [markdown]
# ## Without positions, order is lost
#
# Attention averages over a *set*. Shuffle the tokens and each gets the very same result as before: "dog bites man" is "man bites dog".
# (A causal mask alone gives the order away a little, since the first token sees one token and the last sees all.)

# %%
x = tl.Generator(0).randn(5, 8)                                 # (T, C)
order = np.array([3, 0, 4, 1, 2])


def attend(x):
    return F.attention(x, x, x, causal=False).numpy()


print(f"attention of shuffled tokens differs from the shuffled attention by {np.abs(attend(x[order]) - attend(x)[order]).max():.0e}")
np.testing.assert_allclose(attend(x[order]), attend(x)[order], rtol=1e-5, atol=1e-6)

# %% [markdown]
# ## 1. Learned positions (GPT-2)
#
# A second table, with a row for each position. Token row plus position row is what enters the model. Simple, and strictly limited: there
# is no row for position 1,024 of a model trained on 1,024, and what was learned at position 10 says nothing about position 500.

# %%
tl.manual_seed(123)
tokens, positions = nn.Embedding(50_257, 256), nn.Embedding(4, 256)
batch = tl.Generator(1).randint(0, 50_257, (8, 4))              # (B, T)
what, where = tokens(batch), positions(np.arange(4))            # (B, T, C), (T, C)
print(f"{what.shape} + {where.shape} = {(what + where).shape}; {tokens.num_params() + positions.num_params():,} numbers to learn")
assert (what + where).shape == (8, 4, 256)      # the study's shapes
shuffled = attend(x[order] + positions.weight.numpy()[:1, :8] * np.arange(5)[:, None])
assert np.abs(shuffled - attend(x + positions.weight.numpy()[:1, :8] * np.arange(5)[:, None])[order]).max() > 0.01     # now order counts

# %% [markdown]
# ## 2. Sinusoids (Vaswani et al. 2017)
#
# Nothing learned: position t gets the sines and cosines of t at several speeds, from a full turn every 6 positions to one in tens of thousands.
# Like the hands of a clock: fast ones tell neighbours apart, slow ones tell early from late.
#
#     p(t, 2i) = sin(t f_i),   p(t, 2i + 1) = cos(t f_i),   f_i = 10000^(-2i/C)

# %%
C = 64
f = 10_000.0 ** (-np.arange(0, C, 2) / C)                       # (C/2,)
angles = np.arange(128)[:, None] * f                            # (T, C/2)
p = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(128, C)
print(f"one turn takes from {2 * math.pi / f[0]:.1f} to {2 * math.pi / f[-1]:,.0f} positions")

# sin a sin b + cos a cos b = cos(a - b): how alike two positions are depends on their distance alone
likeness = p @ p.T                                              # (T, T)
by_distance = np.cos(np.arange(128)[:, None] * f).sum(-1)
np.testing.assert_allclose(likeness, by_distance[np.abs(np.arange(128)[:, None] - np.arange(128))], atol=1e-9)
print("likeness at distance 0, 1, 2, 10, 100:", by_distance[[0, 1, 2, 10, 100]].round(1))

# %% [markdown]
# ## 3. Rotation (RoPE, Su et al. 2021; Llama, DeepSeek)
#
# The neatest way adds nothing to the tokens. Take the numbers of a query or key in pairs; a pair is a point in a plane. Turn it by the
# angle t f_i before the dot product. Two points turned by the same angle keep their dot product, so the score of a query at t and a key at s
# depends on t - s only: *relative* positions, from an operation that each token does by itself.

# %%
D = 64
rotary = nn.RotaryPositions(D)
q, k = tl.Generator(2).randn(2, D).astype(np.float64)


def turned(vector, position):
    return rotary.at(np.array([position]), np.float64).turn(tl.Tensor(vector[None])).numpy()[0]


a, b = q[0], q[D // 2]                                          # pair 0: element 0 with element D/2
print(f"pair 0 at position 0: ({a:.3f}, {b:.3f}), at position 1: ({turned(q, 1)[0]:.3f}, {turned(q, 1)[D // 2]:.3f})")
np.testing.assert_allclose(turned(q, 1)[[0, D // 2]], [a * math.cos(1) - b * math.sin(1), a * math.sin(1) + b * math.cos(1)])
np.testing.assert_allclose(np.linalg.norm(turned(q, 777)), np.linalg.norm(q))           # turning keeps lengths
np.testing.assert_allclose(turned(q, 0), q)
for t, s in ((5, 3), (105, 103), (10_005, 10_003)):
    print(f"score of a query at {t:6,} and a key at {s:6,}: {turned(q, t) @ turned(k, s):.6f}")
np.testing.assert_allclose(turned(q, 5) @ turned(k, 3), turned(q, 10_005) @ turned(k, 10_003))

# %% [markdown]
# With equal content, nearer is stronger: the pairs all agree at distance 0 and drift apart with it. How fast is set by θ, the 10,000 in the
# speeds. A larger one makes every turn but the first slower, so that far-apart tokens still know each other; Llama 3 takes 500,000.

# %%
distances = np.unique(np.geomspace(1, 4096, 200).astype(int))
fades = {}
for theta in (10_000, 500_000):
    speeds = nn.RotaryPositions(D, theta).frequencies
    fades[f"θ = {theta:,}"] = distances, np.cos(distances[:, None] * speeds).mean(-1)
    print(f"θ = {theta:,}: the slowest pair takes {2 * math.pi / speeds[-1]:,.0f} positions for a turn; "
          f"score at distance 1,000 is {np.cos(1_000 * speeds).mean():.2f} of the score at 0")

# %%
around = {f"pair {i}": (np.cos(np.arange(8) * rotary.frequencies[i]), np.sin(np.arange(8) * rotary.frequencies[i])) for i in (0, 4, 8, 16)}
drawing.save("out/05_embeddings_and_positions.html", drawing.page(
    "Embeddings and positions",
    "# Looking up", "A row of zeros with a single 1 picks a row of the table.", by_hand,
    drawing.numbers(table, [f"row {i}" for i in range(6)], ["x", "y", "z"], "the table"),
    drawing.numbers(embedding.weight.grad, [f"row {i}" for i in range(6)], ["x", "y", "z"], "its gradient: only rows in use", digits=0),
    "# Sinusoids", "Sines on the left, cosines on the right, each from fast to slow. How alike two positions are depends on their distance alone: a stripe along "
    "the diagonal.", drawing.heatmap(np.hstack([p[:64, 0::2], p[:64, 1::2]]), "the first 64 positions", rows="position", columns="feature", side=6, most=64),
    drawing.heatmap(likeness[:64, :64], "likeness of positions", rows="position", columns="position", side=6, most=64),
    "# Rotation", "The point (1, 0) turned by positions 0 to 7. Pair 0 goes a radian each time, later pairs less and less.",
    drawing.curves(around, "where each pair points", width=420, height=420),
    drawing.curves(fades, "score against distance, equal content", log="x", x_label="distance", height=420)))
