"""Drawing text token by token, one row, with a cache: tokens a second.

    260K       the sizes of llama2.c's stories260K: 5 layers, 8 heads, 4 key/value heads, width 64, vocabulary 512
    15M        those of stories15M: 6 layers, 6 heads, width 288, vocabulary 32000
    GPT-12M    a GPT of 6 layers, 6 heads, width 384, vocabulary 4096, 256 positions
    DS         a DeepSeek of 4 layers, 4 heads, width 128, 8 experts of which 2 are used, vocabulary 65: the step's SD
    GPT        GPT-2's small one, 124M: 12 layers, 12 heads, width 768, vocabulary 50257
    110M       the sizes of stories110M: 12 layers, 12 heads, width 768, vocabulary 32000
    15M-T2, 110M-T2     on two threads; all others are on one

Weights are random, for speed does not depend on them. `step` is the model's compiled step and the likeliest token; `generate` the
same from `model.generate`; `sample` draws at temperature 0.8 from the 40 best tokens that make up 0.9 of the probability; `int8` is
`step` with weights of 8 bits; `layers` is the same token by the model's layers, one after the other. The others are the same model in PyTorch with a cache, where PyTorch is installed, and llama2.c's own
program where $LLAMA2C_RUN names it (it is given the same weights in its own format).
"""

import importlib.util
import os
import re
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from . import _contest
from .step import CONFIGS as STEPS

OWN, WIDE = ("step", "generate", "sample", "torch", "llama2.c"), ("step", "int8")
CONFIGS = {     # preset, tokens a turn, threads, who takes part
    "260K": ("stories260k", 500, 1, OWN), "15M": ("stories15m", 100, 1, OWN), "15M-T2": ("stories15m", 100, 2, ("step", "torch")),
    "GPT-12M": ("gpt-12m", 200, 1, ("step", "generate", "sample", "torch")),
    "DS": ("deepseek-2m", 200, 1, ("step", "generate", "sample", "layers")), "GPT": ("gpt2", 30, 1, WIDE),
    "110M": ("stories110m", 30, 1, WIDE), "110M-T2": ("stories110m", 30, 2, WIDE),
}
SIZES = {       # of those that are no presets
    "gpt-12m": dict(vocab_size=4096, n_layer=6, n_head=6, n_embd=384, block_size=256), "deepseek-2m": dict(STEPS["SD"][1], block_size=256),
}
BEGIN = 1       # the token that begins a text, by which llama2.c's program also knows that one has ended


def run(names=tuple(CONFIGS), rounds=7, torch=None, program=None):
    """Rows of {config, contender, tokens_per_second, gigabytes_per_second, ratio, note}.

    `ratio` is how many times as long the contender takes as the first one; `program`: llama2.c's (None: $LLAMA2C_RUN).
    """
    torch = importlib.util.find_spec("torch") is not None if torch is None else torch
    program = program or os.environ.get("LLAMA2C_RUN")
    absent = {"torch": not torch, "llama2.c": not program}
    rows = []
    for name in names:
        preset, count, threads, who = CONFIGS[name]
        with tempfile.TemporaryDirectory() as place:
            path = str(Path(place, "weights.bin"))
            if program and "llama2.c" in who:
                write_weights(preset, path)
            contenders = {}
            for contender in who:
                if not absent.get(contender):
                    function, more = MAKERS[contender]
                    more = {**more, "program": program, "path": path} if contender == "llama2.c" else {**more, "threads": threads}
                    module = "tinyllm.bench._torch_decode" if contender == "torch" else __name__
                    contenders[contender] = _contest.Contender(module, function, {"OMP_NUM_THREADS": str(threads)}, preset=preset, count=count,
                                                               **more)
            turns, told = _contest.contest(contenders, rounds)
        for contender, results in turns.items():
            seconds = _contest.median(results) / count
            rows.append({"config": name, "contender": contender, "tokens_per_second": 1 / seconds,
                         "gigabytes_per_second": read_bytes(preset, contender == "int8") / seconds / 1e9,
                         "ratio": _contest.ratio(results, turns["step"]), "note": _contest.note(told)})
    return rows


def table(rows):
    """The rows of `run` as text.

    >>> print(table([{"config": "260K", "contender": "step", "tokens_per_second": 9000.0, "gigabytes_per_second": 9.4, "ratio": 1.0,
    ...               "note": ""}]))
    decode  contender    tokens/s   GB/s  ratio
    260K    step             9000    9.4   1.00
    """
    lines = ["decode  contender    tokens/s   GB/s  ratio"]
    for row in rows:
        lines.append(f"{row['config']:<7} {row['contender']:<10} {row['tokens_per_second']:10.0f} {row['gigabytes_per_second']:6.1f} "
                     f"{row['ratio']:6.2f}")
    lines.extend(dict.fromkeys(f"{row['config']}: {row['note']}" for row in rows if row["note"]))
    return "\n".join(lines)


def config_of(preset):
    """The configuration, of a text that never ends."""
    from ..models import DeepSeekConfig, GPTConfig, LlamaConfig
    if preset in SIZES:
        return (DeepSeekConfig if preset.startswith("deepseek") else GPTConfig)(**SIZES[preset])
    family = GPTConfig if preset in GPTConfig.presets else LlamaConfig
    return family.preset(preset, eos_token_id=None, dropout=0.0)


def build(preset, int8=False):
    """The model, its weights drawn from seed 0; the row of BEGIN is 0, which cannot be the likeliest token and end the text."""
    from ..engine.random import manual_seed
    from ..models import GPT, DeepSeek, Llama
    from ..weights.int8 import quantized
    manual_seed(0)
    config = config_of(preset)
    model = next(family for family in (GPT, Llama, DeepSeek) if type(config).__name__ == f"{family.__name__}Config")(config).eval()
    model.wte.weight.data[BEGIN] = 0
    return quantized(model) if int8 else model


def read_bytes(preset, int8):
    """Bytes of weights that a token reads: all but the rows of the tables that it does not look up, and the experts not chosen."""
    config = config_of(preset)
    numbers = config.num_params() - (config.block_size * config.n_embd if hasattr(config, "norm_first") else 0)
    if hasattr(config, "n_routed_experts"):
        rest = config.n_routed_experts - config.num_experts_per_tok
        numbers -= (config.n_layer - config.first_k_dense) * rest * 3 * config.n_embd * config.moe_ffn_dim
    return numbers * (1 + 4 / 64 if int8 else 4)


def write_weights(preset, path):
    """Write the model and a vocabulary in llama2.c's formats, as `path` and, beside it, tokenizer.bin."""
    from ..tokenizers.llama import LlamaTokenizer
    from ..weights.llama2c import save, save_tokenizer
    model = build(preset)
    save(model, path)
    words = [b"word%d" % n for n in range(model.config.vocab_size)]
    save_tokenizer(LlamaTokenizer(words, [0.0] * len(words)), Path(path).with_name("tokenizer.bin"))


def stepper(preset, count, threads, int8=False, layers=False):
    """A turn is `count` compiled steps, each with the likeliest token; with `layers` as many passes through the model's layers."""
    from ..engine import no_grad
    from ..engine.threads import set_num_threads
    set_num_threads(threads)
    model = build(preset, int8)

    def turn():
        cache, token = model.make_cache(1, count), BEGIN
        step = (lambda id: model.unembed(model.hidden(np.array([[id]]), cache)).numpy()) if layers else model.step(cache)
        with no_grad():
            for _ in range(count):
                token = step(token).argmax()

    turn()
    return turn


def generator(preset, count, threads, **options):
    """A turn is one call of `generate`."""
    from ..engine.threads import set_num_threads
    set_num_threads(threads)
    model = build(preset)

    def turn():
        model.generate(np.array([BEGIN]), count, seed=0, **options)

    turn()
    return turn


def llama2c(preset, path, count, program):
    """llama2.c's program, greedy; its own figure of tokens a second, which leaves loading and the first token out."""
    def turn():
        began, busy, own = time.perf_counter(), _contest.busy_seconds(), child_seconds()
        told = subprocess.run([program, path, "-t", "0", "-n", str(count), "-z", str(Path(path).with_name("tokenizer.bin"))],
                              capture_output=True, text=True, errors="replace")
        passed = time.perf_counter() - began
        rate = re.search(r"achieved tok/s: ([0-9.]+)", told.stderr)
        if rate is None:
            raise RuntimeError(f"{program} said nothing of its speed after {passed:.1f} s: {told.stderr[-300:]}")
        others = _contest.busy_seconds() - busy - (child_seconds() - own)
        return {"seconds": count / float(rate[1]), "foreign": max(0.0, others) / (passed * (os.cpu_count() or 1))}

    turn()
    return turn


def child_seconds():
    """Processor time of the programs this one has run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


MAKERS = {      # contender: the function that makes its turn, and arguments
    "step": ("stepper", {}), "int8": ("stepper", {"int8": True}), "layers": ("stepper", {"layers": True}), "generate": ("generator", {"temperature": 0.0}),
    "sample": ("generator", {"temperature": 0.8, "top_k": 40, "top_p": 0.9}), "torch": ("stepper", {}), "llama2.c": ("llama2c", {}),
}
