"""The kernels of a step are found without a step of the model itself, compiled once, and counted."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tinyllm import models
from tinyllm.engine import STATE
from tinyllm.engine.random import default_generator
from tinyllm.train.compiling import step_kernels

SIZES = dict(vocab_size=11, n_layer=2, n_head=2, n_embd=8, block_size=4)
FAMILIES = {"gpt": lambda: models.GPT(models.GPTConfig(**SIZES, dropout=0.1)), "llama": lambda: models.Llama(models.LlamaConfig(**SIZES)),
            "deepseek": lambda: models.DeepSeek(models.DeepSeekConfig(**SIZES, kv_lora_rank=4, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=4,
                                                                      n_routed_experts=4, num_experts_per_tok=2, moe_ffn_dim=8))}

@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_needs_no_kernel_that_was_not_found(family, tmp_path):
    """In a new process: once those found are there, a training step compiles no other."""
    program = (f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
               "import numpy as np\n"
               "from test_compiling import FAMILIES\n"
               "from tinyllm.engine.random import Generator\n"
               "from tinyllm.fused import kernels\n"
               "from tinyllm.text.batches import RandomWindows\n"
               "from tinyllm.train.compiling import step_kernels\n"
               "from tinyllm.train.loop import TrainConfig, Trainer\n"
               f"model = FAMILIES[{family!r}]()\n"
               "for kernel, dtype in step_kernels(model, 2): kernel.compiled(dtype)\n"
               "late, compile = [], kernels._compile\n"
               "kernels._compile = lambda made, *rest: late.append(made.__name__) or compile(made, *rest)\n"
               "Trainer(model, RandomWindows(np.arange(50) % 11, 4, 4, Generator(0)), None, TrainConfig(steps=1, batch=4, shards=2)).train_step()\n"
               "print(late)")
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "TINYLLM_FUSED": "1"}, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_looking_for_kernels_draws_nothing():
    model, before = FAMILIES["gpt"](), default_generator().get_state()
    weights = {name: array.copy() for name, array in model.state_dict().items()}
    step_kernels(model, 2)
    assert str(default_generator().get_state()) == str(before)
    assert all(p.grad is None for p in model.parameters())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, weights[name])


def test_definitions_need_no_kernels():
    before, STATE.fused = STATE.fused, False
    try:
        assert step_kernels(FAMILIES["llama"]()) == []
    finally:
        STATE.fused = before


def test_it_is_said_once_how_many_and_where(tmp_path):
    """With an empty cache elsewhere, told through numba's variable; read from the cache, kernels need no word."""
    program = ("import numpy as np\nfrom tinyllm.models import Llama, LlamaConfig\nfrom tinyllm.train import compiling\n"
               "compiling.step_kernels = lambda model, shards: found[:2]\n"
               "from tinyllm.fused.softmax import softmax_rows, softmax_rows_backward\n"
               "found = [(softmax_rows, np.dtype(np.float64)), (softmax_rows_backward, np.dtype(np.float64))]\n"
               "compiling.compile_kernels(None)")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "TINYLLM_FUSED": "1"}
    said = [subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stderr for _ in range(2)]
    assert said == [f"compiling kernels (once), 2 of them\ncompiled kernels are kept in {tmp_path}\n", ""]
