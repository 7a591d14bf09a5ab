"""One training step (forward, backward, clipping, AdamW), and the same in PyTorch where it is installed.

    S   nanoGPT's Shakespeare model for a CPU: 4 layers, 4 heads, width 128, block 64, batch 12, 65 characters
    M   6 layers, 6 heads, width 384, block 256, batch 16, vocabulary 4096
    L   GPT-2 124M, batch 1 × 256
    SL, ML   the same sizes as Llama: RMSNorm, RoPE, SwiGLU, half as many key/value heads
    SD  S as DeepSeek: latent attention, 8 experts of which 2 are used, one shared

All without biases, with a tied head and the exact GELU. Arithmetic is counted as 6 · tokens · parameters in products, and
causal attention; its share is of the peak that the matmul micro-kernel reaches on operands in the first-level cache.
"""

import importlib.util

from . import _contest

_S = dict(vocab_size=65, n_layer=4, n_head=4, n_embd=128, block_size=64)
_M = dict(vocab_size=4096, n_layer=6, n_head=6, n_embd=384, block_size=256)
CONFIGS = {         # family, sizes, batch, steps a turn
    "S": ("gpt", _S, 12, 8),
    "M": ("gpt", _M, 16, 1),
    "L": ("gpt", dict(vocab_size=50257, n_layer=12, n_head=12, n_embd=768, block_size=256), 1, 1),
    "SL": ("llama", dict(_S, n_kv_head=2, ffn_dim=352), 12, 8),
    "ML": ("llama", dict(_M, n_kv_head=3, ffn_dim=1024), 16, 1),
    "SD": ("deepseek", dict(_S, kv_lora_rank=64, qk_nope_head_dim=24, qk_rope_head_dim=8, v_head_dim=32, ffn_dim=352, moe_ffn_dim=128,
                            n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2), 12, 4),
}
EVERYTHING = dict(names=tuple(CONFIGS), compiled=True)      # what `tinyllm bench --all` measures


def run(names=("S", "SL", "M"), threads=(1, 2), rounds=7, torch=None, compiled=False):
    """Rows of {config, threads, contender, ms, cpu_ms, tokens_per_second, gflops, peak_share, memory_mb, ratio, note}.

    `torch`: race against PyTorch (None: if it is installed), `compiled`: against torch.compile too. `ratio` is how many
    times as long the contender takes as tinyllm, in the same rounds.
    """
    torch = importlib.util.find_spec("torch") is not None if torch is None else torch
    peak = gemm_peak()
    rows = []
    for name in names:
        _, sizes, batch, steps = CONFIGS[name]
        tokens, work = batch * sizes["block_size"], arithmetic(name)
        for count in threads:
            contenders = {"tinyllm": _contest.Contender(__name__, "stepper", name=name, threads=count)}
            for kind, wanted in (("eager", torch), ("compile", torch and compiled)):
                if wanted:
                    contenders[f"torch {kind}"] = _contest.Contender(
                        "tinyllm.bench._torch", "stepper", sizes=sizes, batch=batch, threads=count, steps=steps, compiled=kind == "compile")
            turns, told = _contest.contest(contenders, rounds)
            for contender, results in turns.items():
                seconds = _contest.median(results) / steps
                rows.append({
                    "config": name, "threads": count, "contender": contender, "ms": 1e3 * seconds,
                    "cpu_ms": 1e3 * _contest.median(results, "cpu") / steps, "tokens_per_second": tokens / seconds,
                    "gflops": 1e-9 * work / seconds, "peak_share": 1e-9 * work / seconds / (peak * count),
                    "memory_mb": max(result["memory"] for result in results) / 2**20,
                    "ratio": _contest.ratio(results, turns["tinyllm"]), "cpu_ratio": _contest.ratio(results, turns["tinyllm"], "cpu"),
                    "note": _contest.note(told)})
    return rows


def table(rows):
    """The rows of `run` as text.

    >>> print(table([{"config": "S", "threads": 1, "contender": "tinyllm", "ms": 20.0, "cpu_ms": 20.0, "tokens_per_second": 38400.0,
    ...               "gflops": 190.0, "peak_share": 0.8, "memory_mb": 190.0, "ratio": 1.0, "cpu_ratio": 1.0, "note": ""}]))
    step threads contender             ms   cpu ms  tokens/s GFLOP/s   peak     MB  ratio (cpu)
    S          1 tinyllm             20.0     20.0     38400     190  80.0%    190   1.00  1.00
    """
    lines = ["step threads contender             ms   cpu ms  tokens/s GFLOP/s   peak     MB  ratio (cpu)"]
    for row in rows:
        lines.append(f"{row['config']:<4} {row['threads']:7} {row['contender']:<14} {row['ms']:9.1f} {row['cpu_ms']:8.1f} "
                     f"{row['tokens_per_second']:9.0f} {row['gflops']:7.0f} {row['peak_share']:6.1%} {row['memory_mb']:6.0f} "
                     f"{row['ratio']:6.2f} {row['cpu_ratio']:5.2f}")
    lines.extend(f"{note}" for note in dict.fromkeys(f"{row['config']}: {row['note']}" for row in rows if row["note"]))
    return "\n".join(lines)


def arithmetic(name):
    """Floating-point operations of one step: products forward and backward, and attention under the diagonal."""
    family, c, batch, _ = CONFIGS[name]
    C, T, L = c["n_embd"], c["block_size"], c["n_layer"]
    head = c["vocab_size"] * C
    if family == "gpt":
        layer, heads = 12 * C * C, 2 * C
    elif family == "llama":
        layer, heads = 2 * C * C + 2 * C * C * c["n_kv_head"] // c["n_head"] + 3 * C * c["ffn_dim"], 2 * C
    else:
        H, key = c["n_head"], c["qk_nope_head_dim"] + c["qk_rope_head_dim"]
        latent = C * H * key + C * (c["kv_lora_rank"] + c["qk_rope_head_dim"]) + \
            c["kv_lora_rank"] * H * (c["qk_nope_head_dim"] + c["v_head_dim"]) + H * c["v_head_dim"] * C
        expert = 3 * C * c["moe_ffn_dim"]
        used = (c["num_experts_per_tok"] + c["n_shared_experts"]) * expert + C * c["n_routed_experts"]
        layer, heads = latent + (3 * C * c["ffn_dim"] + (L - 1) * used) / L, H * (key + c["v_head_dim"])
    attention = batch * L * 3 * heads * T * (T + 1)         # 2 · size for scores and for values, half of T², three times
    return 6 * batch * T * (L * layer + head) + attention


def gemm_peak():
    """GFLOP/s of one core with the matmul micro-kernel on operands that never leave the cache."""
    from . import matmul
    return max(row["gflops"] for row in matmul.ladder(size=256, rounds=5))


def stepper(name, threads):
    """Get ready to train as `tinyllm train` does, in one shard for each thread; returns a function that makes a turn's steps."""
    import numpy as np

    from .. import models
    from ..engine.random import Generator, manual_seed
    from ..engine.threads import set_num_threads
    from ..text.batches import RandomWindows
    from ..train.loop import TrainConfig, Trainer
    family, sizes, batch, steps = CONFIGS[name]
    set_num_threads(threads)
    manual_seed(0)
    if family == "gpt":
        model = models.GPT(models.GPTConfig(**sizes, bias=False, activation="gelu"))
    elif family == "llama":
        model = models.Llama(models.LlamaConfig(**sizes))
    else:
        model = models.DeepSeek(models.DeepSeekConfig(**sizes, scoring_func="softmax", balance_alpha=0.0))
    ids = np.random.default_rng(0).integers(0, sizes["vocab_size"], 1 << 16)
    batches = RandomWindows(ids, sizes["block_size"], batch, Generator(0))
    trainer = Trainer(model, batches, None, TrainConfig(steps=10**9, batch=batch, shards=min(threads, batch)))

    def turn():
        for _ in range(steps):
            record = trainer.train_step()
        return {"loss": record["loss"]}

    for _ in range(2):
        turn()
    return turn
