# %% [markdown]
# # Residuals: a shortcut for gradients
#
# Backpropagation multiplies: what reaches the first layer has passed through every layer above it. If each passes on a tenth,
# five layers pass on a hundred-thousandth. A residual connection adds a layer's input to its output, `x + f(x)`, and so
# gives the gradient a second way down on which nothing is multiplied. Here is how much that is worth, on the smallest
# network that shows it.

# %%
import math
import os

import numpy as np

import tinyllm as tl
from tinyllm import F, drawing, nn

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## Five layers
#
# Widths 3, 3, 3, 3, 3, 1; each layer is a linear map and a GELU. The last one cannot have a shortcut: its output has another
# shape than its input.

# %%
def build():
    return [nn.Linear(3, size) for size in (3, 3, 3, 3, 1)]


def forward(layers, x, shortcuts):
    for layer in layers:
        y = F.gelu(layer(x), approximate="tanh")
        x = x + y if shortcuts and y.shape == x.shape else y
    return x


def gradient_sizes(layers, shortcuts):
    """Mean |dL/dW| of each layer, for the input (1, 0, -1) and L the squared distance of the output from 0."""
    loss = F.mse_loss(forward(layers, tl.Tensor([[1.0, 0.0, -1.0]]), shortcuts), np.zeros((1, 1), np.float32))
    loss.backward()
    return [float(np.abs(layer.weight.grad).mean()) for layer in layers]


# %% [markdown]
# ## The table
#
# Both networks are drawn from one stream of random numbers, seeded once, so the table is the study's to the last digit.

# %%
tl.manual_seed(0)
without, with_shortcuts = gradient_sizes(build(), False), gradient_sizes(build(), True)
print("mean |dL/dW|     without        with")
for number, (a, b) in enumerate(zip(without, with_shortcuts), 1):
    print(f"  layer {number}      {a:9.3e}   {b:9.3e}")
print(f"first layer over last: {without[0] / without[-1]:.4f} without, {with_shortcuts[0] / with_shortcuts[-1]:.4f} with")

# the study's figures
np.testing.assert_allclose(without, [2.174e-3, 1.820e-3, 2.399e-3, 1.913e-2, 2.638e-1], rtol=3e-4)
np.testing.assert_allclose(with_shortcuts, [2.480e-1, 3.982e-1, 3.304e-1, 3.638e-1, 2.195], rtol=3e-4)

table = drawing.bars({"without": without, "with shortcuts": with_shortcuts}, [f"layer {n}" for n in range(1, 6)],
                     "mean |dL/dW| of each layer", width=460, log=True)

# %% [markdown]
# ## Was that luck?
#
# One seed proves little, and the two networks above do not even have the same weights. So: the same weights with and without
# shortcuts, many seeds, and a network deep enough for the factors to pile up. The same random gradient is sent down from the
# output each time; what is drawn is the median over the seeds.

# %%
DEPTH, SEEDS = 24, 5 if quick else 40


def deep_sizes(seed, shortcuts):
    """Mean |dL/dW| of 24 layers of width 16, with the same weights for both kinds."""
    tl.manual_seed(seed)
    layers = [nn.Linear(16, 16) for _ in range(DEPTH)]
    x, g = tl.Generator(seed).randn(2, 1, 16)
    forward(layers, tl.Tensor(x), shortcuts).backward(g)
    return [np.abs(layer.weight.grad).mean() for layer in layers]


deep = {name: np.median([deep_sizes(seed, shortcuts) for seed in range(SEEDS)], axis=0)
        for name, shortcuts in (("without", False), ("with shortcuts", True))}
for name, sizes in deep.items():
    print(f"24 layers, {name:>14}: layer 1 {sizes[0]:.1e}, layer 24 {sizes[-1]:.1e}, ratio {sizes[0] / sizes[-1]:.1e}")
assert deep["without"][0] < 1e-3 * deep["without"][-1] and deep["with shortcuts"][0] > 0.1 * deep["with shortcuts"][-1]

# %% [markdown]
# ## Why: the sum has a 1 in it
#
# For `y = f(x)` the derivative is `f'(x)`; for `y = x + f(x)` it is `1 + f'(x)`. Multiplied out over L layers, the first is one
# product, the second is a sum over every subset of layers, and its largest term is the 1 of the empty subset: the straight
# way down. Look at it with the Jacobian of one layer, whose singular values say how much it stretches a gradient that passes.

# %%
tl.manual_seed(0)
layer, x0 = nn.Linear(16, 16), tl.Generator(1).randn(1, 16)
rows = []
for i in range(16):
    x = tl.Tensor(x0, requires_grad=True)
    F.gelu(layer(x), approximate="tanh").backward(np.eye(16, dtype=np.float32)[[i]])
    rows.append(x.grad[0])
jacobian = np.array(rows)
plain, residual = (np.linalg.svd(j, compute_uv=False) for j in (jacobian, np.eye(16) + jacobian))
print(f"singular values of f'(x):     {plain.min():.3f} to {plain.max():.3f}, geometric mean {math.exp(np.log(plain).mean()):.3f}")
print(f"singular values of 1 + f'(x): {residual.min():.3f} to {residual.max():.3f}, geometric mean {math.exp(np.log(residual).mean()):.3f}")
assert math.exp(np.log(residual).mean()) > 5 * math.exp(np.log(plain).mean())

# %%
drawing.save("out/09_residuals.html", drawing.page(
    "Residuals",
    "# Five layers", "The gradient of each layer's weights. Without shortcuts the early layers get a hundredth of the last one's.", table,
    "# Twenty-four layers, the same weights", "Without shortcuts the gradient shrinks by a factor a layer, a straight line on a logarithmic axis.",
    drawing.curves(deep, "mean |dL/dW|, median of the seeds", width=560, height=280, log="y", x_label="layer, from the input"),
    "# What one layer does to a gradient that passes", "Singular values of the layer's Jacobian. Far below 1 they wipe out, around 1 they let through.",
    drawing.curves({"f'(x)": plain, "1 + f'(x)": residual}, "singular values, largest first", width=560, height=260, floors={"passes unchanged": 1.0})))

# %% [markdown]
# A transformer block has two such shortcuts, around attention and around the MLP. What the blocks add to is called the residual
# stream; every layer reads from it and writes into it, and the gradient of the loss arrives at each undiminished.
