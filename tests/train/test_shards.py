"""Shards: the gradients of the whole batch, the same bits on any number of threads, one buffer for everything."""

import numpy as np
import pytest

from tinyllm.engine import no_grad, threads
from tinyllm.engine.random import Generator, manual_seed
from tinyllm.models import GPT, DeepSeek, DeepSeekConfig, GPTConfig
from tinyllm.optim import AdamW, clip_grad_norm
from tinyllm.optim.flat import Flat
from tinyllm.text.batches import IGNORE, RandomWindows
from tinyllm.train.loop import TrainConfig, Trainer, evaluate
from tinyllm.train.shards import Shards


@pytest.fixture(autouse=True)
def former_threads():
    before = threads.num_threads()
    yield
    threads.set_num_threads(before)


def gpt(dropout=0.0):
    manual_seed(0)
    return GPT(GPTConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=8, dropout=dropout))


def batch(rows=7):
    rng = np.random.default_rng(0)
    return rng.integers(0, 11, (rows, 8)), rng.integers(0, 11, (rows, 8))


def float64(model):
    for p in model.parameters():
        p.data = p.data.astype(np.float64)
    return model


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_gradients_are_those_of_the_whole_batch(count):
    """Rows that do not divide evenly, more shards than rows, targets that do not count: in float64 to the last places."""
    ids, targets = batch()
    targets[0] = IGNORE
    targets[3, :5] = IGNORE
    whole = float64(gpt())
    loss = whole.loss(ids, targets)
    loss.backward()
    shards = Shards(float64(gpt()), count)
    shards.begin()
    assert shards.gradients(ids, targets) == pytest.approx(loss.item(), rel=1e-14)
    shards.finish()
    for p, expected in zip(shards.models[0].parameters(), whole.parameters()):
        np.testing.assert_allclose(p.grad, expected.grad, rtol=1e-9, atol=1e-15)


def test_two_half_weighted_batches_are_one_of_both():
    ids, targets = batch(8)
    shards = Shards(float64(gpt()), 2)
    shards.begin()
    for part in (slice(4), slice(4, 8)):
        shards.gradients(ids[part], targets[part], 0.5)
    shards.finish()
    whole = float64(gpt())
    whole.loss(ids, targets).backward()
    for p, expected in zip(shards.models[0].parameters(), whole.parameters()):
        np.testing.assert_allclose(p.grad, expected.grad, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_run_has_the_same_bits_on_any_number_of_threads(dropout):
    results = []
    for count in (1, 2, 3):
        threads.set_num_threads(count)
        model = gpt(dropout)
        batches = RandomWindows(np.arange(200) % 11, 8, 6, Generator(1))
        trainer = Trainer(model, batches, None, TrainConfig(steps=4, batch=6, shards=3, warmup=0))
        losses = [trainer.train_step()["loss"] for _ in range(4)]
        results.append((losses, [p.numpy().copy() for p in model.parameters()]))
    for losses, parameters in results[1:]:
        assert losses == results[0][0]
        assert all(np.array_equal(a, b) for a, b in zip(parameters, results[0][1]))


def test_shards_draw_masks_of_their_own():
    shards = Shards(gpt(dropout=0.5), 2)
    ids, targets = batch(1)
    shards.gradients(np.repeat(ids, 2, axis=0), np.repeat(targets, 2, axis=0))
    first, second = (flat.grad for flat in shards.flats)
    assert not np.array_equal(first, second)


def test_a_shard_without_targets_leaves_no_gradient_behind():
    ids, targets = batch(4)
    targets[2:] = IGNORE
    shards = Shards(gpt(), 2)
    for _ in range(2):      # the second time the buffers hold the first time's numbers
        shards.begin()
        shards.gradients(ids, targets)
        assert all(p.grad is None for p in shards.models[1].parameters())
        shards.finish()
    whole = gpt()
    whole.loss(ids, targets).backward()
    for p, expected in zip(shards.models[0].parameters(), whole.parameters()):
        np.testing.assert_allclose(p.grad, expected.grad, rtol=1e-4, atol=1e-7)


def test_experts_are_counted_over_all_shards():
    manual_seed(0)
    config = DeepSeekConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=8, kv_lora_rank=8, qk_nope_head_dim=4,
                            qk_rope_head_dim=4, v_head_dim=8, n_routed_experts=4, num_experts_per_tok=2, moe_ffn_dim=8, scoring_func="sigmoid")
    shards = Shards(DeepSeek(config), 3)
    shards.gradients(*batch())
    shards.finish()
    first, *others = ([mixture.load.tolist() for mixture in mixtures] for mixtures in shards.mixtures)
    assert [sum(load) for load in first] == [7 * 8 * 2] * len(first) and first      # every token chose two
    assert not np.any(others)
    before = shards.mixtures[0][0].router_bias.numpy().copy()
    shards.models[0].after_step()
    for mixtures in shards.mixtures:
        np.testing.assert_allclose(mixtures[0].router_bias.numpy(), before - 0.001 * np.sign(np.array(first[0]) - 28), rtol=1e-6)


def test_parameters_and_gradients_are_views_of_one_buffer():
    model = gpt()
    values = [p.numpy().copy() for p in model.parameters()]
    flat = Flat(model.parameters())
    for p, value in zip(model.parameters(), values):
        assert np.array_equal(p.numpy(), value) and np.shares_memory(p.numpy(), flat.data)
        assert p.numpy().ctypes.data % 64 == 0 and p.numpy().flags.writeable
    model.loss(*batch()).backward()
    assert all(np.shares_memory(p.grad, flat.grad) for p in model.parameters())
    total = flat.grad @ flat.grad
    assert clip_grad_norm(model.parameters(), 1e9) == pytest.approx(np.sqrt(total), rel=1e-5)
    flat.data[:] = 1
    assert all((p.numpy() == 1).all() for p in model.parameters())


def test_a_parameter_that_the_loss_did_not_touch_has_no_gradient_and_does_not_move():
    model = gpt()
    Flat(model.parameters())
    optimizer = AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    unused = model.wpe.weight.numpy()[4:].copy()
    before = model.blocks[1].norm1.weight.numpy().copy()
    (model.wte.weight * 2).sum().backward()
    assert model.wpe.weight.grad is None and model.wte.weight.grad is not None
    optimizer.step()
    assert np.array_equal(model.wpe.weight.numpy()[4:], unused) and np.array_equal(model.blocks[1].norm1.weight.numpy(), before)


def test_a_locked_parameter_locks_no_other():
    model = gpt()
    Flat(model.parameters())
    loss = (model.wte.weight * model.wte.weight).sum()
    assert not model.wte.weight.numpy().flags.writeable and model.wpe.weight.numpy().flags.writeable
    loss.backward()
    assert model.wte.weight.numpy().flags.writeable


def test_flat_wants_one_dtype():
    model = gpt()
    model.wte.weight.data = model.wte.weight.data.astype(np.float64)
    with pytest.raises(ValueError, match="float32, float64 dtype; expected one"):
        Flat(model.parameters())


def test_evaluation_does_not_depend_on_threads_and_leaves_no_graph():
    model, pairs = gpt(), [batch(2), batch(3)]
    results = set()
    for count in (1, 2):
        threads.set_num_threads(count)
        results.add(evaluate(model, pairs))
    with no_grad():
        expected = (model.loss(*pairs[0]).item() * 16 + model.loss(*pairs[1]).item() * 24) / 40
    assert len(results) == 1 and results.pop() == pytest.approx(expected, rel=1e-6)


def test_a_step_that_is_left_out_counts_for_no_expert():
    """The routers' biases move by what the experts were given in steps that counted."""
    manual_seed(0)
    model = DeepSeek(DeepSeekConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=8, kv_lora_rank=8, qk_nope_head_dim=4,
                                    qk_rope_head_dim=4, v_head_dim=8, n_routed_experts=4, num_experts_per_tok=2, moe_ffn_dim=8))
    trainer = Trainer(model, RandomWindows(np.arange(100) % 11, 8, 4, Generator(0)), None, TrainConfig(steps=5, skip_bad_steps=1, shards=2))
    original = model.loss
    model.loss = lambda ids, targets: original(ids, targets) * float("nan")
    assert trainer.train_step()["skipped"]
    mixtures = trainer.shards.mixtures[0]
    assert mixtures and all((mixture.load == 0).all() for mixture in mixtures)
