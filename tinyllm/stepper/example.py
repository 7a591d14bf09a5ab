"""What there is to step through without writing anything, and what the exercise decks ask about: small functions.

The worked example is a network of two layers on three numbers, which a person can follow with a pencil. Every function takes
its leaves as arguments and returns the loss; `LEAVES` holds the numbers.
"""

import numpy as np

from .. import ops
from ..nn import functional as F


def network(x, W1, b1, W2, b2):
    """x (1, 3) → linear to 2, tanh → linear to 2 → softmax and cross-entropy; the right class is number 1.

    The first layer is written out; the second is the library's, W2 (out, in), which s steps into.
    """
    u = x @ W1 + b1
    h = ops.tanh(u)
    z = F.linear(h, W2, b2)
    loss = F.cross_entropy(z, np.array([1]))
    return loss


def chain(x, w, b):
    """One neuron on one number: the chain rule link by link."""
    u = w * x
    v = u + b
    s = ops.tanh(v)
    e = s - 0.5
    loss = e * e
    return loss


def broadcasting(A, row, column):
    """A matrix, a row and a column: what was stretched forward collects backward."""
    B = A * row
    C = B + column
    m = C.mean()
    loss = m * m
    return loss


def products(X, W, V):
    """Two matrix products, where only the shapes say which transpose is right."""
    H = X @ W
    R = ops.relu(H)
    Y = R @ V
    loss = (Y * Y).mean()
    return loss


def classifier(X, W):
    """Logits, softmax, the probability of the right class, its logarithm."""
    z = X @ W
    p = F.softmax(z)
    right = p[np.arange(2), np.array([0, 2])]
    surprise = -ops.log(right)
    loss = surprise.mean()
    return loss


def norms(X, weight, bias, scale):
    """LayerNorm, then RMSNorm: the gradient cannot point along what a norm takes out."""
    n = F.layer_norm(X, weight, bias)
    r = F.rms_norm(n * n, scale)
    loss = (r * np.array([1.0, -2.0, 0.5])).sum()
    return loss


def attention(q, k, v):
    """One head over three tokens, none of which sees those after it."""
    y = F.attention(q, k, v)
    loss = (y * y).sum()
    return loss


def clipped(logp, old, advantage):
    """PPO's clipped loss over four tokens: two of them have left the trust region."""
    ratio = ops.exp(logp - old)
    free = ratio * advantage
    held = ops.clip(ratio, 0.8, 1.2) * advantage
    gain = ops.minimum(free, held)
    loss = -gain.mean()
    return loss


LEAVES = {      # what is learned is in capitals here: name -> (numbers, learned)
    network: {"x": ([[1.0, -0.5, 2.0]], False), "W1": ([[0.5, -0.3], [0.8, 0.2], [-0.4, 0.6]], True), "b1": ([0.1, -0.1], True),
              "W2": ([[0.7, -0.5], [-0.2, 0.9]], True), "b2": ([0.0, 0.2], True)},
    chain: {"x": (1.5, True), "w": (0.6, True), "b": (-0.2, True)},
    broadcasting: {"A": ([[1.0, 2.0, -1.0], [0.5, -1.5, 3.0]], True), "row": ([0.5, -1.0, 2.0], True), "column": ([[1.0], [-2.0]], True)},
    products: {"X": ([[1.0, -2.0], [0.5, 1.5], [-1.0, 0.3]], True), "W": ([[0.4, -0.7, 0.2], [0.9, 0.3, -0.5]], True),
               "V": ([[1.0, -0.4], [0.6, 0.8], [-0.3, 1.2]], True)},
    classifier: {"X": ([[1.0, -1.0], [0.5, 2.0]], True), "W": ([[0.3, -0.2, 0.8], [0.1, 0.7, -0.4]], True)},
    norms: {"X": ([[1.0, 2.0, 4.0], [-1.0, 0.5, 0.3]], True), "weight": ([1.0, 0.5, 2.0], True), "bias": ([0.1, -0.2, 0.3], True),
            "scale": ([1.0, 2.0, 0.5], True)},
    attention: {"q": ([[[1.0, 0.2], [-0.5, 0.8], [0.3, 1.1]]], True), "k": ([[[0.4, -0.6], [1.2, 0.1], [-0.7, 0.9]]], True),
                "v": ([[[1.0, 0.0], [0.5, -1.0], [-0.2, 0.7]]], True)},
    clipped: {"logp": ([-1.0, -0.5, -2.0, -1.2], True), "old": ([-1.1, -1.0, -1.7, -1.15], False), "advantage": ([1.0, 0.8, -0.5, -1.0], False)},
}

DECKS = {       # name: (function, what it practises)
    "chain": (chain, "the chain rule on single numbers"),
    "broadcasting": (broadcasting, "sums over stretched axes"),
    "matmul": (products, "matrix products and their transposes"),
    "softmax-cross-entropy": (classifier, "softmax, logarithm, the right class"),
    "norms": (norms, "LayerNorm and RMSNorm"),
    "attention": (attention, "scores, softmax, a weighted mean"),
    "clip": (clipped, "the clipped loss of PPO and GRPO"),
}
