# %% [markdown]
# # Gradient checking, and how a checker can be fooled
#
# A derivative can be tested without knowing any calculus: nudge each input both ways and see how far the output moves. It is the best
# test a learning machine can have, and it is easy to hold it wrong. Every mistake below was found in the tests of a public
# library. Each is an exercise: guess before you run the next cell.

# %%
import math
import os
import re

import numpy as np

import tinyllm as tl
from tinyllm import F, Primitive, drawing

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## How far to nudge
#
# The slope at x is close to `(f(x + h) - f(x - h)) / 2h`. With h too large the curve bends away in between (an error of the order h²); with
# h too small the two values agree in all but their last digits, and their difference is noise (an error of the order ε/h, where ε
# is the precision of a number). The best h lies where the two meet, near the cube root of ε.
#
# **Exercise 1.** float64 has ε ≈ 1e-16, float32 has 1e-7. Which h is best for each, and how exact can it be?

# %%
def slopes_by_nudging(f, x, h):
    """Central differences of f (a number) by each element of x."""
    slopes = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += x.dtype.type(h)
        down[i] -= x.dtype.type(h)
        slopes[i] = (f(up) - f(down)) / (up[i] - down[i])
    return slopes


def worst(a, b):
    """The largest difference, relative to the size of what is compared."""
    return float(np.abs(a - b).max() / np.abs(b).max())


logits, targets = tl.Generator(0).randn(4, 7, dtype=np.float64), np.array([1, 0, 6, 3])
exact = tl.Tensor(logits, requires_grad=True)
F.cross_entropy(exact, targets).backward()
steps, errors = 10.0 ** np.arange(-11, 0), {"float64": [], "float32": []}
for name in errors:
    loss = lambda x: F.cross_entropy(tl.Tensor(x), targets).item()
    errors[name] = [worst(slopes_by_nudging(loss, logits.astype(name), h), exact.grad) if name == "float64" or h > 1e-7 else math.nan for h in steps]
    best = int(np.nanargmin(errors[name]))
    print(f"{name}: best h {steps[best]:.0e}, where the error is {errors[name][best]:.0e}")
print(f"cube roots of ε: {np.finfo(np.float64).eps ** (1 / 3):.0e} and {np.finfo(np.float32).eps ** (1 / 3):.0e}")
assert min(errors["float64"]) < 1e-9 and np.nanmin(errors["float32"]) > 1e-6

# %% [markdown]
# So: check in float64. In single precision a check cannot tell a derivative that is off by a ten-thousandth from a right one, and
# `tl.gradcheck` refuses to try unless it is told to.
#
# ## A checker that is blind
#
# Below is softmax with three rules for its derivative: the right one, one that always answers 0, and one that is 7 times
# too large. A popular way to test is to call `softmax(x).sum().backward()` and compare with nudging the sum.
#
# **Exercise 2.** Which of the three pass?

# %%
def softmax_rows(a):
    powers = np.exp(a - a.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


class RightSoftmax(Primitive):
    """y = softmax of each row"""
    def forward(a): return softmax_rows(a)
    def grad_a(g, y): return y * (g - (g * y).sum(-1, keepdims=True))
    def samples(rng): yield (rng.normal(size=(2, 5)),)


class SilentSoftmax(Primitive):
    """Its rule says 0."""
    def forward(a): return softmax_rows(a)
    def grad_a(g, y): return 0 * g * y
    def samples(rng): yield (rng.normal(size=(2, 5)),)


class LoudSoftmax(Primitive):
    """Its rule is 7 times too large."""
    def forward(a): return softmax_rows(a)
    def grad_a(g, y): return 7 * y * (g - (g * y).sum(-1, keepdims=True))
    def samples(rng): yield (rng.normal(size=(2, 5)),)


def error(primitive, x, g):
    """The largest error of dL/dx where L = sum of (g · y), which sends g into the rule."""
    leaf = tl.Tensor(x, requires_grad=True)
    primitive.apply(leaf).backward(g)
    return float(np.abs(leaf.grad - slopes_by_nudging(lambda x: float((g * primitive.forward(x)).sum()), x, 1e-5)).max())


x = tl.Generator(1).randn(2, 5, dtype=np.float64)
ones, random = np.ones((2, 5)), tl.Generator(2).randn(2, 5, dtype=np.float64)
print("error of dL/dx         L = sum of y     L = sum of random · y     tl.gradcheck")
for primitive in (RightSoftmax, SilentSoftmax, LoudSoftmax):
    verdict = "ok" if tl.gradcheck(primitive, raise_on_failure=False).ok else "FAILED"
    print(f"{primitive.__name__:>15} {error(primitive, x, ones):16.1e} {error(primitive, x, random):20.1e} {verdict:>23}")
    assert error(primitive, x, ones) < 1e-9
print("what it has to say about the last:")
print(tl.gradcheck(LoudSoftmax, raise_on_failure=False).failures[0].describe())
assert tl.gradcheck(RightSoftmax).ok and error(SilentSoftmax, x, random) > 0.01 < error(LoudSoftmax, x, random)

# %% [markdown]
# All three. The outputs of a softmax sum to 1 whatever goes in, so the true gradient of the sum is 0, and 7 times 0 is 0. In
# the Jacobian, the table of every output by every input, each column sums to 0. The same happens to every norm: LayerNorm's
# outputs sum to 0.

# %%
p = softmax_rows(x[0])
jacobian = np.diag(p) - np.outer(p, p)          # dp_i/dx_j
np.testing.assert_allclose(jacobian.sum(0), 0, atol=1e-15)
columns_of_softmax = drawing.numbers(np.vstack([jacobian, jacobian.sum(0)]), [*(f"dp{i}" for i in range(1, 6)), "their sum"], [f"by x{j}" for j in range(1, 6)],
                                     "the Jacobian of a softmax")
for name, g in (("ones", np.ones((4, 8))), ("random numbers", tl.Generator(3).randn(4, 8, dtype=np.float64))):
    leaf = tl.Tensor(tl.Generator(4).randn(4, 8, dtype=np.float64), requires_grad=True)
    F.layer_norm(leaf).backward(g)
    print(f"LayerNorm's dL/dx, where dL/dy is {name}: {np.abs(leaf.grad).max():.0e}")

# %% [markdown]
# **Never sum.** Send random numbers into the rule, or better, one 1 at a time: that gives the whole Jacobian. This is what
# `tl.gradcheck` compares, element by element.
#
# ## Inputs at which nothing can be seen
#
# The test of a logarithm wants positive inputs, so its author wrote `x + 100000`, and allowed an error of 0.01.
#
# **Exercise 3.** The derivative of log is 1/x. Does the test notice if the rule says 0? If it says 100/x?

# %%
far = x + 100_000
truth = 1 / far
for name, answer in (("1/x", 1 / far), ("0", 0 * far), ("100/x", 100 / far)):
    off = np.abs(answer - truth).max()
    print(f"a rule that says {name:>5}: off by {off:.1e}, the test {'passes' if off < 1e-2 else 'fails'}")
    assert off < 1e-2
report = tl.gradcheck("log", [far], raise_on_failure=False)
print(report.failures[0].describe())
assert not report.ok and report.failures[0].status == "uninformative"

# %% [markdown]
# It notices neither. A sample whose derivatives are all tiny proves nothing, and so a good checker treats it as a failure.
#
# ## Averages that forgive
#
# A thousand derivatives, one of them with its sign flipped, and one that is no number at all.
#
# **Exercise 4.** Which of these tests fail? The correlation of the two is above 0.99. The 99% quantile of the error is small. And the largest
# error, found by `worst = max(worst, error)`, is below 1e-6.

# %%
right = tl.Generator(5).randn(1000, dtype=np.float64)
right[17] = 1.0
flipped = right.copy()
flipped[17] = -flipped[17]
print(f"one sign flipped: correlation {np.corrcoef(right, flipped)[0, 1]:.4f}, 99% quantile of the error {np.quantile(np.abs(right - flipped), 0.99):.0e}, "
      f"largest error {np.abs(right - flipped).max():.1f}")
broken = right.copy()
broken[17] = math.nan
largest = 0.0
for a, b in zip(right, broken):
    largest = max(largest, abs(a - b))
print(f"one NaN: the largest error by max(worst, error) is {largest}, by np.max {np.abs(right - broken).max()}")
assert np.corrcoef(right, flipped)[0, 1] > 0.99 and largest == 0.0

# %% [markdown]
# None of them fails. `max(0.0, nan)` is 0.0, because every comparison with NaN is false. So: **every** element within the tolerance, and
# anything that is not finite is a failure.
#
# ## Right derivative, wrong function
#
# **Exercise 5.** Here is a softmax whose author forgot something. Its gradient check passes, and should. What else has to be tested?

# %%
class ForgetfulSoftmax(Primitive):
    """y = exp(a) / (1 + sum of exp(a)): there is a 1 too many"""
    analytic = True

    def forward(a): return np.exp(a) / (1 + np.exp(a).sum(-1, keepdims=True))
    def grad_a(g, y): return y * (g - (g * y).sum(-1, keepdims=True))
    def samples(rng): yield (rng.normal(size=(2, 5)),)


print(tl.gradcheck(ForgetfulSoftmax).headline)
y = ForgetfulSoftmax.forward(x)
print(f"its rows sum to {y.sum(-1).round(3)}, and after adding 1 to every input to {ForgetfulSoftmax.forward(x + 1).sum(-1).round(3)}")
np.testing.assert_allclose(softmax_rows(x).sum(-1), 1)
np.testing.assert_allclose(softmax_rows(x + 1), softmax_rows(x))

# %% [markdown]
# A gradient check compares the backward with the *forward*, not the forward with the mathematics. So each function also needs a
# fact about its values: softmax rows sum to 1 and do not care for a shift; a cross entropy is never negative; a rotation keeps lengths.
#
# ## One random direction
#
# A model has too many parameters for a whole Jacobian. One looks along random directions v instead: is `g · v` what nudging
# all of x along v gives? Suppose one sign out of 100,000 is flipped.
#
# **Exercise 6.** How often does one random direction miss it, if an error of a thousandth is allowed? And 4 directions of ±1, at 1e-5?

# %%
trials, N = 2_000 if quick else 20_000, 100_000
rng = np.random.default_rng(0)


def missed(directions, normal, tolerance):
    """Share of trials in which no direction shows the flipped sign of one entry of a random gradient."""
    g = rng.normal(size=(trials, 1))
    v = rng.normal(size=(trials, directions)) if normal else rng.choice([-1.0, 1.0], size=(trials, directions))
    rest = rng.normal(size=(trials, directions)) * math.sqrt(N - 1)         # the sum over all other entries: a normal number
    return float((np.abs(2 * g * v) <= tolerance * np.abs(g * v + rest)).all(axis=1).mean())


for directions, normal, tolerance in ((1, True, 1e-3), (1, False, 1e-3), (4, False, 1e-3), (4, False, 1e-5)):
    print(f"{directions} direction{'s' if directions > 1 else ' '} of {'normal numbers' if normal else '±1':>14}, tolerance {tolerance:.0e}: "
          f"missed {missed(directions, normal, tolerance):6.2%}")
assert 0.15 < missed(1, True, 1e-3) < 0.25 and missed(4, False, 1e-5) < 0.001

# %% [markdown]
# A fifth of the time. It takes a small tolerance, directions in which no entry is small, and several of them: `tl.gradcheck` of
# a model takes 8 of ±1 at 1e-5 for each parameter by itself, and looks at single entries besides.
#
# ## Who checks the checker?
#
# Break every rule on purpose, in every small way (a sign flipped, a factor of 2, an operator exchanged, a sum made a mean, a transpose
# forgotten), and count how many of the broken ones are caught. This is possible because a rule is a line of text that is also what runs.
#
# **Exercise 7.** How many broken rules survive the sum of the outputs, with one per cent allowed? How many survive `tl.gradcheck`?

# %%
class RowNorm(Primitive):
    """y = (a - mean) / spread of each row, LayerNorm without eps"""
    def forward(a): return (a - a.mean(-1, keepdims=True)) / a.std(-1, keepdims=True)
    def grad_a(g, y, a): return (g - g.mean(-1, keepdims=True) - y * (g * y).mean(-1, keepdims=True)) / a.std(-1, keepdims=True)
    def samples(rng): yield (rng.normal(size=(3, 5)),)


class Product(Primitive):
    """y = a @ b"""
    def forward(a, b): return a @ b
    def grad_a(g, b): return g @ b.mT
    def grad_b(g, a): return a.mT @ g
    def samples(rng): yield rng.normal(size=(3, 3)), rng.normal(size=(3, 3))


SLIPS = [(r" \* ", " / "), (r" / ", " * "), (r" \+ ", " - "), (r" - ", " + "), (r" @ ", " * "), (r"\.mT", ""), (r"\.sum\(", ".mean("), (r"\.mean\(", ".sum("),
         (r"\by\b", "1.0"), (r"\bg\b", "(2 * g)"), (r"\bsin\b", "cos"), (r"\bcos\b", "sin")]


def broken_rules(primitive):
    """(input, text of a broken rule, a primitive that has it), for every slip at every place."""
    for rule in primitive.rule_list:
        texts = [f"-({rule.text})", f"2 * ({rule.text})"]
        texts += [rule.text[:place.start()] + replacement + rule.text[place.end():]
                  for pattern, replacement in SLIPS for place in re.finditer(pattern, rule.text)]
        for text in texts:
            space = {"forward": primitive.forward, "samples": primitive.samples, "name": "broken", "__doc__": text}
            space |= {f"grad_{other.name}": other.function for other in primitive.rule_list}
            space[f"grad_{rule.name}"] = eval(f"lambda {', '.join(rule.parameters)}: {text}", rule.function.__globals__)
            yield rule.name, text, type("Broken", (Primitive,), space)


def passes_by_sum(primitive):
    """The popular test: the gradient of the sum of all outputs, one per cent off allowed."""
    inputs = next(iter(primitive.samples(np.random.default_rng(0))))
    leaves = [tl.Tensor(x, requires_grad=True) for x in inputs]
    try:
        primitive.apply(*leaves).sum().backward()
    except (ValueError, TypeError):             # a shape that does not fit tells by itself
        return False
    for i, leaf in enumerate(leaves):
        total = lambda x: float(primitive.forward(*inputs[:i], x, *inputs[i + 1:]).sum())
        slopes = slopes_by_nudging(total, np.asarray(inputs[i]), 1e-5)
        if not (np.abs(leaf.grad - slopes) <= 1e-2 * np.maximum(1, np.abs(slopes))).all():
            return False
    return True


groups = {"elementwise": ("multiply", "divide", "exp", "log", "sqrt", "tanh", "sigmoid", "cos"), "matrix product": ("product",),
          "softmax": ("right_softmax",), "row norm": ("row_norm",)}
caught = {"sum of the outputs": [], "tl.gradcheck": []}
counts, survivors = [], []
for group, names in groups.items():
    broken, by_sum, by_check = [b for name in names for b in broken_rules(tl.primitives[name])], 0, 0
    for place, text, primitive in broken:
        with np.errstate(all="ignore"):
            seen = not passes_by_sum(primitive)
        by_sum += seen
        by_check += not tl.gradcheck(primitive, raise_on_failure=False).ok
        if not seen:
            survivors.append(f"{group}: dL/d{place} = {text}")
    counts.append(len(broken))
    caught["sum of the outputs"].append(by_sum)
    caught["tl.gradcheck"].append(by_check)
tl.primitives.pop("broken")                     # leave the registry as it was
print(f"{sum(counts)} broken rules: the sum of the outputs catches {sum(caught['sum of the outputs'])}, tl.gradcheck {sum(caught['tl.gradcheck'])}")
print("what the sum lets through:", *survivors, sep="\n  ")
assert caught["tl.gradcheck"] == counts and caught["sum of the outputs"][2] < counts[2] and caught["sum of the outputs"][3] < counts[3]

# %%
drawing.save("out/02_gradient_checking.html", drawing.page(
    "Gradient checking",
    "# How far to nudge",
    "To the right the curve bends away, to the left the digits run out. Single precision never gets far.",
    drawing.curves({name: (steps, line) for name, line in errors.items()}, "error of central differences, relative", width=560, height=300, log="xy",
                   x_label="h", mark_lowest=("float64", "float32")),
    "# Why the sum of a softmax shows nothing", "Each column sums to 0, whatever the input was.", columns_of_softmax,
    "# Who checks the checker?",
    "Rules broken on purpose, and the share of them that each test catches. The sum is blind where outputs always sum to the same.",
    drawing.bars({name: [100 * a / b for a, b in zip(own, counts)] for name, own in caught.items()}, list(groups), "% of the broken rules caught", width=560)))
