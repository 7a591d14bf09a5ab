"""Models that compute their blocks again: the same bits, in less memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from families import TOYS, text, toy

from tinyllm.engine import no_grad
from tinyllm.engine.random import Generator, manual_seed
from tinyllm.models import GPT, GPTConfig
from tinyllm.nn import MoE
from tinyllm.text.batches import RandomWindows
from tinyllm.train.loop import TrainConfig, Trainer

ROOT = Path(__file__).resolve().parents[2]


def step(model, again):
    """(losses, gradients, loads of the experts) of one batch, auxiliary losses included."""
    manual_seed(7)
    model.recompute = again
    model.zero_grad()
    batch = text(3, 9)
    loss = model.loss(batch[:, :-1], batch[:, 1:])
    told = [loss.item()]
    for term in model.auxiliary_losses().values():
        told.append(term.item())
        loss = loss + term
    loss.backward()
    loads = [mixture.load.copy() for mixture in model.modules() if isinstance(mixture, MoE)]
    for mixture in model.modules():
        if isinstance(mixture, MoE):
            assert mixture.routing is None
            mixture.load[:] = 0
    return told, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, loads


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", TOYS)
def test_losses_and_gradients_are_the_same_bits(name, dropout, dtype):
    model = toy(name, dtype, dropout=dropout)
    for module in model.modules():
        if hasattr(module, "generator"):
            module.generator = None         # all draw from the default one
    (told, gradients, loads), (again, gradients_again, loads_again) = (step(model, again) for again in (False, True))
    assert told == again and gradients.keys() == gradients_again.keys()
    assert all(np.array_equal(gradients[name], gradients_again[name]) for name in gradients)
    assert all(np.array_equal(a, b) for a, b in zip(loads, loads_again)) and all(load.any() for load in loads)


@pytest.mark.parametrize("name", ["deepseek-v2", "deepseek-v3"])
def test_the_balance_of_experts_keeps_its_gradient(name):
    """With a balance alone: the routers move, and as they do without recomputing."""
    model, batch, gradients = toy(name, balance_alpha=1.0), text(2, 9), []
    for again in (False, True):
        model.recompute = again
        model.zero_grad()
        model.loss(batch[:, :-1], batch[:, 1:])
        model.auxiliary_losses()["balance"].backward()
        gradients.append([p.grad for name, p in model.named_parameters() if "router.weight" in name])
    assert gradients[0] and all(np.array_equal(a, b) and a.any() for a, b in zip(*gradients))


def test_nothing_is_computed_again_where_nothing_is_learned():
    model, batch = toy("gpt2"), text(2, 9)
    model.recompute = True
    with no_grad():
        assert model.loss(batch[:, :-1], batch[:, 1:]).node is None
    names = set()
    for training in (True, False):
        model.train(training)
        nodes = [model.loss(batch[:, :-1], batch[:, 1:]).node]
        for node in nodes:
            nodes += [parent for parent in node.parents if hasattr(parent, "parents") and parent not in nodes]
        names |= {(training, node.primitive.name) for node in nodes}
    assert (True, "recompute") in names and (False, "recompute") not in names


@pytest.mark.parametrize("shards", [1, 2])
def test_a_run_ends_with_the_same_weights(shards):
    results = []
    for again in (False, True):
        manual_seed(0)
        model = GPT(GPTConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=8, dropout=0.2))
        trainer = Trainer(model, RandomWindows(np.arange(200) % 11, 8, 6, Generator(1)), None,
                          TrainConfig(steps=3, batch=6, shards=shards, warmup=0, recompute=again))
        losses = [trainer.train_step()["loss"] for _ in range(3)]
        results.append((losses, [p.numpy().copy() for p in model.parameters()]))
    assert results[0][0] == results[1][0]
    assert all(np.array_equal(a, b) for a, b in zip(results[0][1], results[1][1]))


PEAK = """
import sys
import numpy as np
from tinyllm.models import GPT, GPTConfig
def peak():     # not ru_maxrss, which a process inherits from the one that started it
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
model = GPT(GPTConfig(vocab_size=64, n_layer=8, n_head=4, n_embd=128, block_size=128))
model.recompute = sys.argv[1] == "True"
ids = np.random.default_rng(0).integers(0, 64, (2, 32, 128))
few = ids[:, :1]
model.loss(*few).backward()             # compiled
before = peak()
model.loss(*ids).backward()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_peak_falls():
    """8 blocks of 4,096 rows: qkv, heads, two norms, two hidden layers of 4 · 128 and three sums each, 8 · 36 MB, against 8 · 2 + 36."""
    peak = {}
    for again in (False, True):
        result = subprocess.run([sys.executable, "-c", PEAK, str(again)], capture_output=True, text=True, check=True,
                                env={**os.environ, "PYTHONPATH": str(ROOT)})
        peak[again] = int(result.stdout) / 1024
    assert peak[True] < 0.5 * peak[False]
