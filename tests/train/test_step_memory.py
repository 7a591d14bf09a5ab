"""What a training step keeps: as much as the profile says, nothing for longer than the step, nothing for the garbage collector."""

import gc
import io
import json
import os
import subprocess
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

import tinyllm as tl
from tinyllm import cli
from tinyllm.engine import threads
from tinyllm.engine.random import Generator, manual_seed
from tinyllm.models import GPT, DeepSeek, DeepSeekConfig, GPTConfig, Llama, LlamaConfig
from tinyllm.text.batches import EvalWindows, RandomWindows
from tinyllm.train.loop import TrainConfig, Trainer
from tinyllm.train.profile import activations, profile, table

SIZES = dict(vocab_size=11, n_layer=1, n_head=2, n_embd=16, block_size=8, dropout=0.1)
LATENT = dict(kv_lora_rank=8, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=8, n_routed_experts=4, num_experts_per_tok=2, moe_ffn_dim=8, first_k_dense=0)
FAMILIES = {"gpt": lambda: GPT(GPTConfig(**SIZES)), "llama": lambda: Llama(LlamaConfig(**SIZES, n_kv_head=1, ffn_dim=24)),
            "deepseek": lambda: DeepSeek(DeepSeekConfig(**SIZES, **LATENT, scoring_func="sigmoid"))}


@pytest.fixture(autouse=True)
def former_threads():
    before = threads.num_threads()
    yield
    threads.set_num_threads(before)


def trainer(family="gpt", batch=4, validation=None, **settings):
    manual_seed(0)
    batches = RandomWindows(np.arange(300) % 11, 8, batch, Generator(1))
    config = TrainConfig(**{"steps": 1000, "batch": batch, "warmup": 0, **settings})
    return Trainer(FAMILIES[family](), batches, validation, config, out=io.StringIO())


@pytest.mark.parametrize("fused, recompute", [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_leaves_nothing_to_the_garbage_collector(family, shards, fused, recompute):
    """Its graph is gone the moment it is let go: reference counts free it, no cycle waits."""
    with tl.fused(fused):
        training = trainer(family, shards=shards, recompute=recompute)
        training.train_step()
        roots = []
        training.shards.before_backward = lambda loss: roots.append(weakref.ref(loss))
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                training.train_step()
            assert len(roots) == 5 * shards and all(root() is None for root in roots)
            assert gc.collect() == 0
        finally:
            gc.enable()


def peak_memory():
    """Most memory of this process, in bytes. `ru_maxrss` would not do: a process inherits that of the one that started it."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024


def thousand_steps(family):
    """Prints (objects alive, peak of the process in bytes) after 400 and after 1,000 steps of a run."""
    training = trainer(family, validation=EvalWindows(np.arange(100) % 11, 8, 4), shards=2, eval_every=50)
    training.out = open(os.devnull, "w")
    step = training.train_step

    def counted():
        if training.step in (400, 999):
            gc.collect()
            print(sys.getallocatedblocks(), peak_memory())
        return step()

    training.train_step = counted
    training.fit()


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("family", FAMILIES)
def test_memory_does_not_grow_over_a_thousand_steps(family):
    """Of 600 steps in a process of its own, two shards and evaluations included.

    An array or another object left behind by every second step would be 300 objects; Python's own stores of freed objects make
    some hundreds in the first steps. The peak may move by 3 MB, in which 600 graphs of a step have no place: the allocator takes
    memory in pieces of that size, and over 5,000 more steps the peak stays where it is.
    """
    code = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import test_step_memory; test_step_memory.thousand_steps({family!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (objects, peak), (objects_later, peak_later) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert objects_later - objects < 300
    assert peak_later - peak <= 3 << 20


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_what_the_forward_pass_has_left_allocated(family):
    """Beside NumPy's own count of its memory, which also has the graph's Python objects: a few hundred bytes an operation."""
    training = trainer(family)
    model = training.model
    ids = np.arange(1000 * 8).reshape(1000, 8) % 11
    model.loss(ids, ids).backward()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        loss = model.loss(ids, ids)
        model.auxiliary_losses()            # as in a step: lets go of what is kept for these terms, which are left out here
        allocated = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    measured = sum(size for size, _ in activations(loss, training.shards.flats[0].data).values())
    assert measured == pytest.approx(allocated, rel=0.01)


def test_blocks_that_are_computed_again_hold_their_input_alone():
    training = trainer(recompute=True)
    training.train_step()
    config = training.model.config
    assert profile(training)["ops"]["recompute"]["bytes"] == config.n_layer * 4 * config.block_size * config.n_embd * 4     # B·T·C floats


def test_weights_and_shared_arrays_are_counted_once():
    x = tl.Tensor(np.ones((50, 50), np.float32), requires_grad=True)
    y = x * 2.0
    loss = (tl.ops.exp(y) * tl.ops.exp(y)[:, :25].sum()).sum()
    assert activations(loss)["exp"] == (2 * 10_000, 2)      # each holds its output; the slice is no memory of its own
    assert sum(size for size, _ in activations(loss).values()) - 2 * 10_000 < 100
    weights = np.ones(2500, np.float32)
    w = tl.Tensor(np.frombuffer(weights.data, np.float32).reshape(50, 50), requires_grad=True)
    product = tl.ops.matmul(x, w)
    assert activations(product)["matmul"] == (20_000, 2) and activations(product, weights)["matmul"] == (10_000, 1)


def test_parameters_gradients_and_moments_are_buffers_of_one_size():
    threads.set_num_threads(2)
    training = trainer(shards=3)
    training.train_step()
    measured = profile(training)
    size = training.shards.flats[0].data.nbytes
    exact = 4 * training.model.num_params()
    assert measured["memory"]["parameters"] == size and exact <= size < exact + 64 * len(training.optimizer.parameters)
    assert measured["memory"]["gradients"] == 3 * size and measured["memory"]["optimizer"] == 2 * exact
    assert measured["at_once"] == 2 and measured["peak"] > sum(measured["memory"].values())
    ops = measured["ops"].values()
    assert measured["memory"]["activations"] == sum(op["bytes"] for op in ops)
    assert all(op["forward"] >= 0 and op["backward"] >= 0 for op in ops) and sum(op["backward"] for op in ops) > 0


def test_shards_that_wait_for_a_thread_hold_nothing():
    training = trainer(shards=2)
    training.train_step()
    sizes = {}
    for count in (1, 2):
        threads.set_num_threads(count)
        sizes[count] = profile(training)["memory"]["activations"]
    assert sizes[2] == 2 * sizes[1]


def test_looking_does_not_change_the_run():
    results = []
    for look in (None, lambda training: table(profile(training))):
        training = trainer("deepseek", shards=2, steps=5)
        training.fit(look)
        results.append((training.last_loss, [p.numpy().copy() for p in training.model.parameters()]))
    assert results[0][0] == results[1][0] and all(np.array_equal(a, b) for a, b in zip(results[0][1], results[1][1]))


def test_the_command_shows_a_table_and_keeps_the_numbers(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("one two three four " * 50)
    run = tmp_path / "run"
    assert cli.main(["train", str(tmp_path / "text.txt"), "--out", str(run), "--layers", "1", "--heads", "1", "--width", "8", "--block", "8",
                     "--steps", "3", "--sample", "0", "--profile"]) == 0
    shown, kept = capsys.readouterr().out, json.loads((run / "profile.json").read_text())
    assert "memory of a training step, measured after step 2" in shown
    assert f"activations  {kept['memory']['activations'] / 1e6:9,.2f} MB" in shown
    names = [line.split()[0] for line in shown.splitlines() if line.endswith(" ms")]
    shown_first = [name for name in kept["ops"] if name in names]
    assert shown_first == names[:len(shown_first)] and names[-1] == "in"
    assert list(kept["ops"]) == sorted(kept["ops"], key=lambda name: -kept["ops"][name]["bytes"])
