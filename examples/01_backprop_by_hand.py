# %% [markdown]
# # Backpropagation by hand, on three numbers
#
# A neural network learns by asking, for each of its numbers: if I nudge this one, how much does the loss move? That ratio
# is a derivative, and backpropagation is the bookkeeping that finds all of them in one pass. Here we do it by
# hand for a network small enough to hold in the head, and then let tinyllm do the same.

# %%
import math

import tinyllm as tl
from tinyllm import drawing

x, w, b = 2.0, -0.5, 0.25       # an input, a weight, a bias
target = 1.0

# %% [markdown]
# ## Forward
#
# One neuron: multiply, add, squash. The loss is the squared distance to the target.

# %%
h = w * x                       # -1.0
z = h + b                       # -0.75
y = math.tanh(z)                # -0.6351
loss = (y - target) ** 2        # 2.6737
print(f"h = {h:.4f}   z = {z:.4f}   y = {y:.4f}   loss = {loss:.4f}")

# %% [markdown]
# ## Backward
#
# We walk the same four lines from the last to the first. At each one we multiply what has arrived by a derivative we know:
#
#     loss = (y - target)²      d loss/dy = 2 (y - target)
#     y = tanh z                dy/dz = 1 - y²
#     z = h + b                 dz/dh = 1, dz/db = 1
#     h = w x                   dh/dw = x

# %%
dy = 2 * (y - target)
dz = dy * (1 - y * y)
dh, db = dz, dz
dw = dh * x
print(f"dy = {dy:.4f}   dz = {dz:.4f}   dh = {dh:.4f}   db = {db:.4f}   dw = {dw:.4f}")

# %% [markdown]
# ## The same, by the engine
#
# `backward` does those lines in that order. The text of each rule it applies can be read: it is the code that runs.

# %%
with tl.default_dtype("float64"):
    W, B = tl.Tensor(w, requires_grad=True, name="w"), tl.Tensor(b, requires_grad=True, name="b")
    L = ((W * x + B).tanh() - target) ** 2
L.backward()
print(f"by the engine:   dw = {W.grad:.4f}   db = {B.grad:.4f}")
for name in ("power", "tanh", "add", "multiply"):
    print(f"{name:>9}:  dL/da = {tl.primitives[name].rules['a']}")
assert math.isclose(W.grad, dw) and math.isclose(B.grad, db)

# %% [markdown]
# ## And by no calculus at all
#
# Nudge `w` a little both ways and look at the loss. This is what `tl.gradcheck` does for every number of everything.

# %%
eps = 1e-5
loss_at = lambda w: (math.tanh(w * x + b) - target) ** 2
print(f"by nudging:      dw = {(loss_at(w + eps) - loss_at(w - eps)) / (2 * eps):.4f}")

# %% [markdown]
# ## Learn
#
# The gradient says which way is up; a step of the other sign makes the loss smaller. Twenty of them:

# %%
path = []                       # (w, loss) before each step
for step in range(20):
    W.grad = B.grad = None
    L = ((W * x + B).tanh() - target) ** 2
    L.backward()
    path.append((W.item(), L.item()))
    for parameter in (W, B):
        parameter.data -= 0.1 * parameter.grad
    if step % 5 == 4:
        print(f"step {step + 1:2}   loss {L.item():.4f}   w {W.item():.4f}   b {B.item():.4f}")

# %% [markdown]
# ## The picture
#
# The loss for every `w`, with `b` held where it began. At our `w` the line of slope `dw` touches it: that is all a derivative is. The steps leave
# from there, long where the slope is steep and ever shorter as it flattens; they end below the curve because `b` moves too.

# %%
ws = [-1.2 + 0.02 * k for k in range(101)]
touching = [w - 0.35, w + 0.35]
drawing.save("out/01_loss_and_slope.svg", drawing.curves({
    "loss, b held": (ws, [loss_at(v) for v in ws]),
    f"slope {dw:.2f} at w = {w:g}": (touching, [loss + dw * (v - w) for v in touching]),
    "fifteen steps": tuple(zip(*path[:16])),
}, "", 560, 300, x_label="w", y_label="loss"))
