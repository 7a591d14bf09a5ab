"""The compiled step of a token beside the layers it stands for."""

import numpy as np
import pytest

from families import TOYS, text, toy
from tinyllm.engine import no_grad, threads
from tinyllm.engine.random import Generator
from tinyllm.engine.state import fused
from tinyllm.models import Llama, LlamaConfig, decoding, program
from tinyllm.models.decoding import step_for
from tinyllm.nn.lora import lora
from tinyllm.weights.int8 import quantized

pytestmark = pytest.mark.usefixtures("kernels")


def one_by_one(model, ids, prompt=3):
    """(logits (1, T, V) of a prompt and then of a token at a time, the cache)."""
    cache = model.make_cache(1, ids.shape[1])
    with no_grad():
        first = model(ids[:, :prompt], cache=cache).numpy()
        rest = [model(ids[:, i:i + 1], cache=cache).numpy() for i in range(prompt, ids.shape[1])]
    return np.concatenate([first, *rest], axis=1), cache


def whole(model, ids):
    with no_grad(), fused(False):
        return model(ids).numpy()


def assert_close(actual, expected, tolerance):
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_logits_are_those_of_the_definitions_on_the_whole_text(name, dtype, tolerance):
    model = toy(name, dtype).eval()
    stepped, cache = one_by_one(model, text(1, 12))
    assert cache.step is not None and cache.length == 12
    assert_close(stepped, whole(model, text(1, 12)), tolerance)


@pytest.mark.parametrize("changes", [{"n_kv_head": 1, "tied": False}, {"rope_interleaved": True}, {"head_dim": 10}, {"head_dim": 16},
                                     {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, {"ffn_dim": 40}])
def test_llamas_of_other_shapes(changes):
    model = toy("llama", **changes).eval()
    assert_close(one_by_one(model, text(1, 12))[0], whole(model, text(1, 12)), 1e-12)


@pytest.mark.parametrize("head_dim", [4, 8, 48])
def test_attention_in_eights_and_what_is_left_over(head_dim):
    model = toy("llama", head_dim=head_dim, block_size=100).eval()
    assert_close(one_by_one(model, text(1, 100))[0], whole(model, text(1, 100)), 1e-12)


@pytest.mark.parametrize("name", ["gpt2", "llama3", "qwen"])
@pytest.mark.parametrize("width", [16, 32, 64])
def test_int8_weights_stay_int8(name, width):
    light = quantized(toy(name, np.float32, n_embd=width))
    stepped, cache = one_by_one(light, text(1, 12))
    assert any(array.dtype == np.int8 for array in cache.step.arrays)
    assert_close(stepped, whole(light, text(1, 12)), 1e-5)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("name, changes", [("llama3", dict(n_kv_head=2)), ("deepseek-v3", dict(kv_lora_rank=64, moe_ffn_dim=96))])
def test_the_number_of_threads_changes_no_bit(monkeypatch, name, changes, int8):
    model = toy(name, np.float32, n_embd=256, ffn_dim=320, **changes).eval()
    model, before = quantized(model) if int8 else model, threads.num_threads()
    monkeypatch.setattr(decoding, "SHARED", 0)
    monkeypatch.setattr(program, "PIECE", 4e3)
    monkeypatch.setattr(decoding, "AGAIN", 2)
    try:
        results = []
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            results += [one_by_one(model, text(1, 12))[0] for _ in range(20)]
    finally:
        threads.set_num_threads(before)
    assert all(np.array_equal(result, results[0]) for result in results)


def test_a_small_model_is_left_to_one_thread():
    small, large = (Llama(LlamaConfig(vocab_size=11, n_layer=1, n_head=4, n_embd=n, block_size=8), Generator(0)).eval() for n in (64, 512))
    assert step_for(small, small.make_cache(1, 8)).team is None
    assert step_for(large, large.make_cache(1, 8)).team is not None


@pytest.mark.parametrize("name", ["gpt2", "llama", "deepseek-v3"])
def test_adapted_maps_are_left_to_the_layers(name):
    model = toy(name)
    lora(model, 2)
    stepped, cache = one_by_one(model.eval(), text(1, 12))
    assert cache.step is None
    assert_close(stepped, whole(model, text(1, 12)), 1e-10)


@pytest.mark.parametrize("name", TOYS)
def test_a_model_of_your_own_is_left_to_its_layers(name):
    model = toy(name).eval()

    class Louder(type(model)):
        def hidden(self, ids, cache=None):
            return super().hidden(ids, cache) * 2.0

    expected = 2 * whole(model, text(1, 12))
    model.__class__ = Louder
    logits, cache = one_by_one(model, text(1, 12))
    assert model.step(cache) is None
    assert_close(logits, expected, 1e-12)


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("part", ["block", "mlp"])
def test_a_layer_of_your_own_is_left_to_itself(name, part):
    model = toy(name).eval()
    layer = model.blocks[0] if part == "block" else model.blocks[0].mlp

    class Louder(type(layer)):
        def forward(self, *inputs):
            return super().forward(*inputs) * 2.0

    layer.__class__ = Louder
    logits, cache = one_by_one(model, text(1, 12))
    assert model.step(cache) is None
    assert_close(logits, whole(model, text(1, 12)), 1e-12)


def test_rows_with_padding_and_definitions_are_left_to_the_layers():
    model = toy("llama").eval()
    assert step_for(model, model.make_cache(2, 12)) is None
    assert step_for(model, model.make_cache(1, 12, pad=np.array([2]))) is None
    with fused(False):
        assert step_for(model, model.make_cache(1, 12)) is None


@pytest.mark.parametrize("name", ["gpt2", "llama", "deepseek-v2"])
def test_what_is_wrong_is_said_as_by_the_layers(name):
    model = toy(name).eval()
    cache = model.make_cache(1, 2)
    with no_grad():
        with pytest.raises((ValueError, IndexError), match="99"):
            model(np.array([[99]]), cache=cache)
        model(np.array([[1]]), cache=cache)
        model(np.array([[1]]), cache=cache)
        with pytest.raises(ValueError, match="2 positions, 2 filled"):
            model(np.array([[1]]), cache=cache)


def test_a_cache_that_was_cropped_or_took_another_row_goes_on():
    model, ids = toy("llama").eval(), text(1, 8)
    expected = whole(model, ids)
    cache = model.make_cache(1, 8)
    with no_grad():
        for _ in range(2):
            for i in range(8):
                logits = model(ids[:, i:i + 1], cache=cache).numpy()
                assert_close(logits[:, 0], expected[:, i], 1e-12)
            cache.crop(0)
        model(ids[:, :3], cache=cache)
        cache.select(np.array([0, 0]))
        cache.select(np.array([1]))
        assert_close(model(ids[:, 3:4], cache=cache).numpy()[:, 0], expected[:, 3], 1e-12)
