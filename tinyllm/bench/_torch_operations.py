"""The operations of `tinyllm bench fused` in PyTorch: its own function where it has one, else as one writes it there."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from ._operations import ADAMW, D_C, D_N, D_R, D_V, HEADS, PACKED_HEADS, UPDATES, prepared
from ._torch import rotate


def angles(length, size):
    """cos and sin (T, D/2)."""
    turned = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(0, size, 2) / size))
    return turned.cos(), turned.sin()


def attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def self_attention(qkv):
    B, T, _ = qkv.shape
    heads = qkv.view(B, T, 3 * PACKED_HEADS, -1).transpose(1, 2)
    return attention(*heads.split(PACKED_HEADS, dim=1)).transpose(1, 2).reshape(B, T, -1)


def add_rms_norm(x, branch, weight):
    return F.rms_norm(x + branch, weight.shape, weight, 1e-5)


def latent(x, weight, cos, sin):
    c, r = x.split((D_C, D_R), dim=-1)
    return torch.cat((F.rms_norm(c, weight.shape, weight, 1e-6), rotate(r, cos, sin)), -1)


def latent_attention(query, latent, weight, cos, sin):
    """Keys and values of every head expanded."""
    (B, T, _), S = query.shape, latent.shape[2]
    q_n, q_r = query.view(B, T, HEADS, -1).transpose(1, 2).split((D_N, D_R), dim=-1)
    c, r = latent.split((D_C, D_R), dim=-1)
    k, v = F.linear(c, weight).view(B, S, HEADS, -1).transpose(1, 2).split((D_N, D_V), dim=-1)
    y = attention(torch.cat((q_n, rotate(q_r, cos, sin)), -1), torch.cat((k, r.expand(B, HEADS, S, D_R)), -1), v)
    return y.transpose(1, 2).reshape(B, T, -1)


def latent_absorbed(query, latent, weight, cos, sin):
    """All heads' queries in one product with the latents that they share."""
    (B, T, _), S = query.shape, latent.shape[2]
    q_n, q_r = query.view(B, T, HEADS, -1).transpose(1, 2).split((D_N, D_R), dim=-1)
    W_k, W_v = weight.view(HEADS, D_N + D_V, D_C).split((D_N, D_V), dim=1)
    q = torch.cat((q_n @ W_k, rotate(q_r, cos, sin)), -1).reshape(B, HEADS * T, -1)
    shared = latent.view(B, S, -1)
    scores = (q @ shared.mT).view(B, HEADS, T, S) / math.sqrt(D_N + D_R)
    later = torch.ones(T, S, dtype=torch.bool).triu(S - T + 1)
    weights = scores.masked_fill(later, -torch.inf).softmax(-1)
    y = (weights.view(B, HEADS * T, S) @ shared[..., :D_C]).view(B, HEADS, T, D_C) @ W_v.mT
    return y.transpose(1, 2).reshape(B, T, -1)


def gates(x, chosen):
    picked = x.softmax(-1).gather(-1, chosen)
    return picked / picked.sum(-1, keepdim=True)


def experts(x, gates, chosen, weights):
    y = torch.zeros_like(x)
    for e in range(len(weights) // 3):
        gate, up, down = weights[3 * e:3 * e + 3]
        row, place = (chosen == e).nonzero(as_tuple=True)
        rows = x[row]
        part = F.linear(F.silu(F.linear(rows, gate)) * F.linear(rows, up), down)
        y = y.index_add(0, row, part * gates[row, place, None])
    return y


def theirs(name):
    """(function, leaves), as `_operations.own` gives them."""
    arrays, ids = prepared(name)
    leaves, ids = [torch.from_numpy(x).requires_grad_() for x in arrays], torch.from_numpy(ids)
    if name in UPDATES:
        for p, gradient in zip(leaves, prepared(name, seed=1)[0]):
            p.grad = torch.from_numpy(gradient)
        if name == "clip_grad_norm":
            return lambda: nn.utils.clip_grad_norm_(leaves, 1.0), leaves
        return torch.optim.AdamW(leaves, **ADAMW, fused=True).step, leaves
    first = arrays[0].shape
    cos, sin = angles(first[-2], first[-1] if name == "rope" else D_R) if len(first) > 2 else (None, None)
    return {
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "silu": F.silu,
        "swiglu": lambda a, b: F.silu(a) * b,
        "softmax": lambda x: x.softmax(-1),
        "log_softmax": lambda x: x.log_softmax(-1),
        "cross_entropy": lambda x: F.cross_entropy(x, ids),
        "linear_cross_entropy": lambda x, weight: F.cross_entropy(F.linear(x, weight), ids),
        "layer_norm": lambda x, w, b: F.layer_norm(x, w.shape, w, b),
        "rms_norm": lambda x, w: F.rms_norm(x, w.shape, w, 1e-5),
        "add_rms_norm": add_rms_norm,
        "rope": lambda x: rotate(x, cos, sin),
        "attention": attention,
        "attention_long": attention,
        "self_attention": self_attention,
        "latent": lambda x, weight: latent(x, weight, cos, sin),
        "latent_attention": lambda *x: latent_attention(*x, cos, sin),
        "latent_absorbed": lambda *x: latent_absorbed(*x, cos, sin),
        "gates": lambda x: gates(x, ids),
        "experts": lambda x, gates, *weights: experts(x, gates, ids, weights),
        "linear": F.linear,
        "embedding": lambda x: F.embedding(ids, x),
        "dropout": lambda x: F.dropout(x, 0.1),
    }[name], leaves
