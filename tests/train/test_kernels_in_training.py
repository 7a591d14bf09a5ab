"""Whole models with kernels on, beside the same with definitions alone: gradients and loss curves."""

import numpy as np
import pytest

from tinyllm.bench import step
from tinyllm.engine.random import Generator, manual_seed
from tinyllm.engine.state import fused
from tinyllm.models import GPT, DeepSeek, DeepSeekConfig, GPTConfig, Llama, LlamaConfig
from tinyllm.text.batches import RandomWindows
from tinyllm.train.loop import TrainConfig, Trainer


def build(name, dtype):
    """The model of a benchmark, its weights drawn in float32."""
    family, sizes, _, _ = step.CONFIGS[name]
    manual_seed(0)
    model = {"gpt": lambda: GPT(GPTConfig(**sizes, bias=False, activation="gelu")), "llama": lambda: Llama(LlamaConfig(**sizes)),
             "deepseek": lambda: DeepSeek(DeepSeekConfig(**sizes, scoring_func="softmax", balance_alpha=0.0))}[family]()
    for p in model.parameters():
        p.data = p.data.astype(dtype)
    return model


@pytest.mark.parametrize("name, rows", [("S", 12), ("SL", 12), ("SD", 12), pytest.param("M", 16, marks=pytest.mark.slow)])
def test_gradients_of_the_first_step_are_those_of_float64_definitions(name, rows):
    """Relative to the largest gradient of each parameter."""
    sizes = step.CONFIGS[name][1]
    ids, targets = np.random.default_rng(0).integers(0, sizes["vocab_size"], (2, rows, sizes["block_size"]))
    fast, exact = build(name, np.float32), build(name, np.float64)
    fast.loss(ids, targets).backward()
    with fused(False):
        exact.loss(ids, targets).backward()
    for (path, p), q in zip(fast.named_parameters(), exact.parameters()):
        assert np.abs(p.grad - q.grad).max() <= 2e-6 * np.abs(q.grad).max(), path


FAMILIES = {
    "gpt": lambda: GPT(GPTConfig(vocab_size=20, n_layer=2, n_head=2, n_embd=32, block_size=16)),
    "llama": lambda: Llama(LlamaConfig(vocab_size=20, n_layer=2, n_head=4, n_kv_head=2, n_embd=32, block_size=16)),
    "deepseek": lambda: DeepSeek(DeepSeekConfig(vocab_size=20, n_layer=2, n_head=2, n_embd=32, block_size=16, n_routed_experts=4,
                                                scoring_func="softmax")),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_curves_agree_over_fifty_steps(family):
    """In float32, where rounding differs: the curves stay together while the loss falls by a third."""
    curves = []
    for kernels in (True, False):
        manual_seed(0)
        batches = RandomWindows(np.arange(2000) % 17, 16, 8, Generator(1))
        trainer = Trainer(FAMILIES[family](), batches, None, TrainConfig(steps=50, batch=8, lr=1e-3, warmup=5, shards=2))
        with fused(kernels):
            curves.append([trainer.train_step()["loss"] for _ in range(50)])
    assert curves[0][-1] < curves[0][0] * 2 / 3
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)
