"""Drawing text token by token, one row, greedily, with a cache: tokens a second.

    260K    the sizes of llama2.c's stories260K: 5 layers, 8 heads, 4 key/value heads, width 64, vocabulary 512
    15M     those of stories15M: 6 layers, 6 heads, width 288, vocabulary 32000

Weights are random, for speed does not depend on them. `model` is the model's own step; `generate` what `model.generate`
makes of it, with its choice of each token. Contenders are the same Llama in PyTorch with a cache, where PyTorch is
installed, and llama2.c's own program where $LLAMA2C_RUN names it (it is given the weights in its own format).
"""

import importlib.util
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from . import _contest

CONFIGS = {"260K": ("stories260k", 200), "15M": ("stories15m", 60)}     # preset, tokens a turn


def run(names=("260K", "15M"), rounds=7, torch=None, program=None):
    """Rows of {config, contender, tokens_per_second, gigabytes_per_second, ratio, note}, on one thread.

    `ratio` is how many times as long the contender takes as the first one; `program`: llama2.c's (None: $LLAMA2C_RUN).
    """
    torch = importlib.util.find_spec("torch") is not None if torch is None else torch
    program = program or os.environ.get("LLAMA2C_RUN")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            preset, count = CONFIGS[name]
            path = str(Path(place, f"{preset}.bin"))
            numbers = write_weights(preset, path)
            makers = {"model": ("stepper", {}), "generate": ("generator", {})}
            makers |= {"torch": ("torch_stepper", {})} if torch else {}
            makers |= {"llama2.c": ("llama2c", {"program": program})} if program else {}
            contenders = {who: _contest.Contender(__name__, function, {"OMP_NUM_THREADS": "1"}, preset=preset, path=path, count=count, **more)
                          for who, (function, more) in makers.items()}
            turns, told = _contest.contest(contenders, rounds)
            for who, results in turns.items():
                seconds = _contest.median(results) / count
                rows.append({"config": name, "contender": who, "tokens_per_second": 1 / seconds,
                             "gigabytes_per_second": 4e-9 * numbers / seconds, "ratio": _contest.ratio(results, turns["model"]),
                             "note": _contest.note(told)})
    return rows


def table(rows):
    """The rows of `run` as text.

    >>> print(table([{"config": "260K", "contender": "model", "tokens_per_second": 9000.0, "gigabytes_per_second": 9.4, "ratio": 1.0,
    ...               "note": ""}]))
    decode contender    tokens/s   GB/s  ratio
    260K   model            9000    9.4   1.00
    """
    lines = ["decode contender    tokens/s   GB/s  ratio"]
    for row in rows:
        lines.append(f"{row['config']:<6} {row['contender']:<10} {row['tokens_per_second']:10.0f} {row['gigabytes_per_second']:6.1f} "
                     f"{row['ratio']:6.2f}")
    lines.extend(dict.fromkeys(f"{row['config']}: {row['note']}" for row in rows if row["note"]))
    return "\n".join(lines)


def build(preset):
    """The model, its weights drawn from seed 0."""
    from ..engine.random import manual_seed
    from ..models import Llama, LlamaConfig
    manual_seed(0)
    return Llama(LlamaConfig.preset(preset, eos_token_id=None)).eval()


def write_weights(preset, path):
    """Write the model in llama2.c's format; how many numbers a token reads."""
    from ..weights.llama2c import save
    model = build(preset)
    save(model, path)
    return model.num_params()


def stepper(preset, path, count):
    """A turn is `count` forward steps, each with the likeliest token."""
    from ..engine import no_grad
    from ..engine.threads import set_num_threads
    set_num_threads(1)
    model = build(preset)

    def turn():
        cache, ids = model.make_cache(1, count), np.array([[1]])
        with no_grad():
            for _ in range(count):
                ids[0, 0] = model(ids, cache=cache).numpy().argmax()

    turn()
    return turn


def generator(preset, path, count):
    """A turn is one call of `generate`."""
    from ..engine.threads import set_num_threads
    set_num_threads(1)
    model = build(preset)

    def turn():
        model.generate(np.array([1]), count, temperature=0.0)

    turn()
    return turn


def torch_stepper(preset, path, count):
    """The same Llama in PyTorch, keys and values written into a cache that is allocated once."""
    import torch
    from torch.nn import functional as F
    torch.set_num_threads(1)
    model = build(preset)
    config, state = model.config, {name: torch.from_numpy(x.copy()) for name, x in model.state_dict().items()}
    H, K, D = config.n_head, config.n_kv_head, config.head_dim
    cos, sin, _ = (torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in model.rotary.at(np.arange(count)))

    def rotate(x, at):
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * cos[at] - b * sin[at], a * sin[at] + b * cos[at]), -1).flatten(-2)

    def norm(x, weight):
        return F.rms_norm(x, weight.shape, weight, config.norm_eps)

    def turn():
        keys, values = torch.zeros(2, config.n_layer, K, count, D)
        token = torch.tensor(1)
        with torch.inference_mode():
            for at in range(count):
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
                token = F.linear(norm(x, state["norm.weight"]), state["wte.weight"]).argmax()

    turn()
    return turn


def llama2c(preset, path, count, program):
    """llama2.c's program, greedy; its own figure of tokens a second, which leaves loading out."""
    def turn():
        began = time.perf_counter()
        told = subprocess.run([program, path, "-t", "0", "-n", str(count), "-z", str(Path(program).with_name("tok.bin"))],
                              capture_output=True, text=True)
        rate = re.search(r"achieved tok/s: ([0-9.]+)", told.stderr)
        if rate is None:
            raise RuntimeError(f"{program} said nothing of its speed after {time.perf_counter() - began:.1f} s: {told.stderr[-300:]}")
        return {"seconds": count / float(rate[1])}

    turn()
    return turn
