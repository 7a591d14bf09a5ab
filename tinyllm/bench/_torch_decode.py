"""The contenders of `tinyllm bench decode` in PyTorch: Llama and GPT token by token, with a cache that is allocated once.

Needs the [parity] extra.
"""

import numpy as np
import torch
from torch.nn import functional as F

from .decode import BEGIN, build


def llama(model, count):
    """A function of (token, its place, keys (L, K, T, D), values) that gives the logits and writes into the cache."""
    config, state = model.config, {name: torch.from_numpy(x.copy()) for name, x in model.state_dict().items()}
    H, K, D = config.n_head, config.n_kv_head, config.head_dim
    cos, sin, _ = (torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in model.rotary.at(np.arange(count)))

    def rotate(x, at):
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * cos[at] - b * sin[at], a * sin[at] + b * cos[at]), -1).flatten(-2)

    def norm(x, weight):
        return F.rms_norm(x, weight.shape, weight, config.norm_eps)

    def step(token, at, keys, values):
        x = state["wte.weight"][token]
        for n in range(config.n_layer):
            name = f"blocks.{n}."
            heads = F.linear(norm(x, state[name + "norm1.weight"]), state[name + "attn.qkv.weight"]).view(-1, D)
            keys[n, :, at], values[n, :, at] = rotate(heads[H:H + K], at), heads[H + K:]
            y = F.scaled_dot_product_attention(rotate(heads[:H], at)[None, :, None], keys[None, n, :, :at + 1],
                                               values[None, n, :, :at + 1], enable_gqa=H != K)
            x = x + F.linear(y.reshape(-1), state[name + "attn.proj.weight"])
            h = norm(x, state[name + "norm2.weight"])
            h = F.silu(F.linear(h, state[name + "mlp.gate.weight"])) * F.linear(h, state[name + "mlp.up.weight"])
            x = x + F.linear(h, state[name + "mlp.down.weight"])
        return F.linear(norm(x, state["norm.weight"]), state["wte.weight"])
    return step


def gpt(model, count):
    """The same for a GPT with pre-norm, all of whose layers are dense."""
    config, state = model.config, {name: torch.from_numpy(x.copy()) for name, x in model.state_dict().items()}
    H, D = config.n_head, config.n_embd // config.n_head

    def linear(x, name):
        return F.linear(x, state[name + ".weight"], state.get(name + ".bias"))

    def norm(x, name):
        return F.layer_norm(x, x.shape, state[name + ".weight"], state.get(name + ".bias"), config.norm_eps)

    def step(token, at, keys, values):
        x = state["wte.weight"][token] + state["wpe.weight"][at]
        for n in range(config.n_layer):
            name = f"blocks.{n}."
            q, keys[n, :, at], values[n, :, at] = linear(norm(x, name + "norm1"), name + "attn.qkv").view(3, H, D)
            y = F.scaled_dot_product_attention(q[None, :, None], keys[None, n, :, :at + 1], values[None, n, :, :at + 1])
            x = x + linear(y.reshape(-1), name + "attn.proj")
            h = F.gelu(linear(norm(x, name + "norm2"), name + "mlp.fc"), approximate="tanh")
            x = x + linear(h, name + "mlp.proj")
        return F.linear(norm(x, "norm"), state["wte.weight"])
    return step


def tokens(preset, count):
    """A function that draws `count` tokens, each the likeliest."""
    model = build(preset)
    config = model.config
    kv_heads = getattr(config, "n_kv_head", config.n_head)
    step = (llama if hasattr(config, "n_kv_head") else gpt)(model, count)

    def draw():
        keys, values = torch.zeros(2, config.n_layer, kv_heads, count, config.n_embd // config.n_head)
        drawn, token = [], torch.tensor(BEGIN)
        with torch.inference_mode():
            for at in range(count):
                token = step(token, at, keys, values).argmax()
                drawn.append(token)
        return [int(token) for token in drawn]
    return draw


def stepper(preset, count, threads):
    """A turn draws `count` tokens."""
    torch.set_num_threads(threads)
    draw = tokens(preset, count)

    def turn():
        draw()

    turn()
    return turn
