"""What `tinyllm bench fused` races: every fused operation on arrays of the sizes that models train with.

`prepared(name, seed)` draws what an operation is given; `own(name)` makes tinyllm's tensors of it and says what to do with
them. `_torch_operations.py` does the same in PyTorch.
"""

import numpy as np

CONFIGS = {     # operation: shapes of what it is given
    "gelu": [(4096, 1536)],
    "gelu_tanh": [(4096, 1536)],
    "silu": [(4096, 1024)],
    "swiglu": [(4096, 1024), (4096, 1024)],
    "softmax": [(4096, 1024)],
    "log_softmax": [(4096, 1024)],
    "cross_entropy": [(4096, 4096)],
    "linear_cross_entropy": [(1024, 128), (50257, 128)],
    "layer_norm": [(4096, 384), (384,), (384,)],
    "rms_norm": [(4096, 384), (384,)],
    "add_rms_norm": [(4096, 384), (4096, 384), (384,)],
    "rope": [(16, 6, 256, 64)],
    "attention": [(12, 4, 64, 32)] * 3,
    "attention_long": [(16, 6, 256, 64)] * 3,
    "self_attention": [(16, 256, 3 * 384)],
    "latent": [(12, 1, 64, 72), (64,)],
    "latent_attention": [(12, 64, 128), (12, 1, 64, 72), (224, 64)],
    "latent_absorbed": [(12, 8, 128), (12, 1, 256, 72), (224, 64)],
    "gates": [(4096, 64)],
    "experts": [(768, 128), (768, 2), *[(128, 128)] * 24],
    "linear": [(768, 128), (512, 128)],
    "embedding": [(4096, 384)],
    "dropout": [(4096, 384)],
    "adamw": [(4096, 384), *[(1152, 384), (384, 384), (1536, 384), (384, 1536)] * 6],
    "clip_grad_norm": [(4096, 384), *[(1152, 384), (384, 384), (1536, 384), (384, 1536)] * 6],
}
CHOICES = {"gates": (64, 6), "experts": (8, 2)}             # experts, and how many of them each row has
UPDATES = ("adamw", "clip_grad_norm")                       # of parameters that have gradients: nothing runs backward
UNCOMPILED = ("dropout", "clip_grad_norm")                  # the definition is all there is
HEADS, PACKED_HEADS, D_N, D_R, D_V, D_C = 4, 6, 24, 8, 32, 64     # of latent attention; `self_attention` has heads of 64
ADAMW = dict(lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)


def prepared(name, seed=0):
    """(arrays of the operation's shapes, whole numbers: targets, ids, or the experts chosen)."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in CONFIGS[name]]
    if name in CHOICES:
        experts, chosen = CHOICES[name]
        return arrays, rng.random((len(arrays[0]), experts)).argsort(axis=1)[:, :chosen].copy()
    classes = {"cross_entropy": 4096, "linear_cross_entropy": 50257}.get(name, 4096)
    return arrays, rng.integers(0, classes, len(arrays[0]))


def arithmetic(name):
    """Floating-point operations in the products of matrices, forward and backward; 0 where there are none."""
    first, *rest = CONFIGS[name]
    if name in ("linear", "linear_cross_entropy"):
        return 6 * first[0] * first[1] * rest[0][0]
    if name == "experts":
        return 6 * rest[0][0] * rest[0][1] * 3 * 128 * 128
    if name == "self_attention":
        return _attended(first[0], PACKED_HEADS, first[1], first[1], 2 * 64)
    if name in ("attention", "attention_long"):
        return _attended(*first[:3], first[2], 2 * first[3])
    if name in ("latent_attention", "latent_absorbed"):
        (B, T, _), S, absorbed = first, rest[0][2], name == "latent_absorbed"
        mapped = 6 * B * (T if absorbed else S) * D_C * HEADS * (D_N + D_V)
        return mapped + _attended(B, HEADS, T, S, 2 * D_C + D_R if absorbed else D_N + D_R + D_V)
    return 0


def _attended(B, H, T, S, sizes):
    """Scores and mixtures of T queries, the last of S positions; `sizes` of a key and a value together."""
    return 6 * B * H * (T * S - T * (T - 1) // 2) * sizes


def own(name):
    """(function, leaves): tinyllm's operation on tensors; an update is a function without arguments."""
    from .. import nn
    from ..engine import Tensor
    from ..nn import functional as F
    from ..optim import AdamW, clip_grad_norm
    from ..optim.flat import Flat
    arrays, ids = prepared(name)
    if name in UPDATES:
        leaves = [nn.Parameter(x) for x in arrays]
        flat = Flat(leaves)
        for p, gradient in zip(leaves, prepared(name, seed=1)[0]):
            p.grad = p.buffer
            p.grad[...] = gradient
        if name == "clip_grad_norm":
            return lambda: clip_grad_norm(leaves, 1.0), leaves
        optimizer = AdamW(leaves, **ADAMW)
        optimizer.lie_like(flat)
        return optimizer.step, leaves
    first = arrays[0].shape
    if name == "rope":
        rotation = F.rope_tables(*first[-2:])
    elif name.startswith("latent"):
        rotation = *F.rope_tables(first[-2], D_R), False
    operation = {
        "gelu_tanh": lambda x: F.gelu(x, "tanh"),
        "cross_entropy": lambda x: F.cross_entropy(x, ids),
        "linear_cross_entropy": lambda x, weight: F.linear_cross_entropy(x, weight, ids),
        "add_rms_norm": lambda x, branch, weight: F.add_rms_norm(x, branch, weight)[1],
        "rope": lambda x: F.rope(x, *rotation),
        "attention_long": F.attention,
        "self_attention": lambda qkv: F.self_attention(qkv, PACKED_HEADS),
        "latent": lambda x, weight: F.latent(x, weight, rotation),
        "latent_attention": lambda *x: F.latent_attention(*x, HEADS, rotation),
        "latent_absorbed": lambda *x: F.latent_attention(*x, HEADS, rotation, absorb=True),
        "gates": lambda x: F.gates(x, ids, normalise=True),
        "experts": lambda x, gates, *weights: F.experts(x, gates, ids, weights),
        "embedding": lambda x: F.embedding(ids, x),
        "dropout": lambda x: F.dropout(x, 0.1),
    }.get(name) or getattr(F, name)
    return operation, [Tensor(x, requires_grad=True) for x in arrays]
