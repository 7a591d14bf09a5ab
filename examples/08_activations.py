# %% [markdown]
# # Activations: ReLU, GELU, SiLU, and the slope of a loss
#
# Two linear maps in a row are one linear map. What makes a network more than that is a bend between them, applied to each number by
# itself. The bend's *derivative* matters as much as the bend: it is what gradients are multiplied by on their way down.

# %%
import math

import numpy as np

import tinyllm as tl
from tinyllm import F, drawing, nn

# %% [markdown]
# ## Four bends
#
#     ReLU(x) = max(x, 0)                         a switch: on or off
#     GELU(x) = x · Φ(x)                          Φ(x) = (1 + erf(x/√2)) / 2, the chance that a normal number is below x
#     its tanh form, which GPT-2 uses             x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))
#     SiLU(x) = x · σ(x)                          σ(x) = 1 / (1 + e⁻ˣ); Llama's choice, also called swish
#
# The last three are soft switches: x times a number between 0 and 1 that grows with x. (Hendrycks and Gimpel 2016)

# %%
bends = {"ReLU": F.relu, "GELU": F.gelu, "GELU, tanh form": lambda x: F.gelu(x, approximate="tanh"), "SiLU": F.silu}
grid = np.linspace(-5, 5, 500)
values, slopes = {}, {}
for name, bend in bends.items():
    x = tl.Tensor(grid, requires_grad=True)
    y = bend(x)
    y.backward(np.ones(500))                # each output depends on its own input alone, so this gives every slope
    values[name], slopes[name] = y.numpy(), x.grad

print("     x" + "".join(f"{name:>18}" for name in bends))
for at in (-3.0, -1.0, 0.0, 1.0, 3.0):
    print(f"{at:6.1f}" + "".join(f"{bend(tl.Tensor(np.array(at))).item():18.4f}" for bend in bends.values()))

by_hand = [a * (1 + math.erf(a / math.sqrt(2))) / 2 for a in grid]
np.testing.assert_allclose(values["GELU"], by_hand, rtol=1e-12, atol=1e-15)
np.testing.assert_allclose(values["SiLU"], grid / (1 + np.exp(-grid)), rtol=1e-12)

# %% [markdown]
# ## Are the slopes right?
#
# We need not trust a formula: nudge and look. ReLU has no slope at 0, where it bends; tinyllm takes 0 there, and a checker
# that lands on the spot says so instead of calling the rule wrong.

# %%
for name, bend in bends.items():
    print(f"{name:>16}: " + tl.gradcheck(bend, np.array([-2.0, -0.5, 0.7, 3.0]), raise_on_failure=False).headline)
print("at the bend:      " + tl.gradcheck(F.relu, np.array([0.0]), raise_on_failure=False).failures[0].describe())

# %% [markdown]
# ## What to see in them
#
# * The soft ones dip below 0 before they rise. GELU's lowest value is near -0.17, SiLU's near -0.28.
# * Their slopes go above 1 for a while, and below 0 left of the dip: a soft bend is not monotone.
# * GELU(x) - GELU(-x) = x, and the same holds for all of them: each bend is the straight line x/2 plus an even function.
# * GELU and its tanh form cannot be told apart on a plot.

# %%
for name in bends:
    print(f"{name:>16}: lowest {values[name].min():+.4f} at x = {grid[values[name].argmin()]:+.2f}, slope from {slopes[name].min():+.4f} to {slopes[name].max():+.4f}")
    np.testing.assert_allclose(values[name] - values[name][::-1], grid, atol=1e-12)
difference = values["GELU, tanh form"] - values["GELU"]
print(f"GELU and its tanh form differ by at most {np.abs(difference).max():.1e}")

# %% [markdown]
# ## The slope on its way down
#
# ReLU passes a gradient or stops it. A unit that is off for *every* example gets no gradient at all and stays off: it is dead.
# Push the biases of a layer down, as one too large a step can, and count the units that could no longer learn.

# %%
tl.manual_seed(0)
x = tl.Tensor(tl.Generator(1).randn(64, 32))
layer = nn.Linear(32, 128)
layer.bias.copy_(np.full(128, -1.5, np.float32))
for name, bend in bends.items():
    layer.zero_grad()
    bend(layer(x)).backward(tl.Generator(2).randn(64, 128))
    sizes = np.abs(layer.weight.grad).max(axis=1)       # of each unit's weights
    print(f"{name:>16}: {(sizes == 0).mean():5.1%} of the units get no gradient, the median unit's largest is {np.median(sizes):.4f}")

# %% [markdown]
# ## Where they stand
#
# In a transformer's MLP: up to four times the width, a bend, down again. GPT-2's has 8 d² + 5 d parameters. Llama's *gates*: one
# map goes through SiLU and multiplies another, so the switch need not be made of the number that it switches (SwiGLU, Shazeer 2020).

# %%
d = 768
mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.Linear(4 * d, d))
width = nn.swiglu_width(d, multiple_of=256)          # two thirds of 4 d, rounded up, since there are three maps
print(f"GPT-2's MLP, d = {d}: {mlp.num_params():,} parameters; Llama's, {width:,} wide: {nn.SwiGLU(d, width).num_params():,}")
assert mlp.num_params() == 8 * d * d + 5 * d

# %% [markdown]
# ## One more curve: -log p
#
# The loss of a language model is -log p, where p is what it gave to the word that came. Sure and right costs nothing; sure and wrong
# costs without bound. Its slope in p, -1/p, is steep where p is small: mistakes teach most.
#
# But p comes out of a softmax, whose slopes shrink in the same place. The two cancel: by the *logit* the slope is p - 1, never beyond ±1.
# That is why the two are one operation, `F.cross_entropy`, and why a network can begin with p = 1/50,257 and not explode.

# %%
p = np.linspace(0.01, 0.99, 200)
loss, by_p = -np.log(p), 1 / p
logit = tl.Tensor(np.stack([np.log(p / (1 - p)), np.zeros(200)], axis=1), requires_grad=True)     # two words; the first came
F.cross_entropy(logit, np.zeros(200, int)).backward(np.array(200.0))     # the loss is a mean of 200
by_logit = np.abs(logit.grad[:, 0])
np.testing.assert_allclose(by_logit, 1 - p, atol=1e-9)
for at in (0.01, 0.1, 0.5, 0.99):
    print(f"p = {at:4.2f}: loss {-math.log(at):.3f}, slope by p {-1 / at:8.2f}, slope by the logit {at - 1:5.2f}")

# %%
middle = np.abs(grid) < 3
drawing.save("out/08_activations.html", drawing.page(
    "Activations",
    drawing.curves({"ReLU": (grid, values["ReLU"])}, "ReLU", x_label="x"),
    drawing.curves({"ReLU'": (grid, slopes["ReLU"])}, "its derivative", x_label="x"),
    "# Soft bends", "Two of the four lines cover each other: GELU and its tanh form.",
    drawing.curves({name: (grid[middle], values[name][middle]) for name in bends}, "values", x_label="x", height=300),
    drawing.curves({name: (grid, slopes[name]) for name in bends}, "derivatives", x_label="x", height=300),
    drawing.curves({"tanh form - exact": (grid, difference * 1e4)}, "GELU: what the tanh form gets wrong, times 10,000", x_label="x"),
    "# The loss and its slope", "By p the slope has no bound, by the logit it has.",
    drawing.curves({"-log p": (p, loss)}, "the loss", x_label="p, what the model gave to the word that came"),
    drawing.curves({"1/p": (p, by_p), "1 - p, by the logit": (p, by_logit)}, "size of its slope", log="y", x_label="p")))
