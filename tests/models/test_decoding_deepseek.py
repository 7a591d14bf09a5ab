"""The compiled step of a DeepSeek: latent attention's absorbed way and experts read by choice, beside the layers."""

import numpy as np
import pytest

from families import text, toy
from tinyllm.engine import no_grad
from tinyllm.engine.state import fused
from tinyllm.models.decoding import step_for
from tinyllm.models.program import program_for
from tinyllm.weights.int8 import quantized

pytestmark = pytest.mark.usefixtures("kernels")
V2 = dict(scoring_func="softmax", norm_topk_prob=False)
CHANGES = {
    "softmax, no groups": V2,
    "softmax, gates that sum to 1": dict(V2, norm_topk_prob=True, num_experts_per_tok=3),
    "softmax, groups": dict(V2, n_group=4, topk_group=2),
    "sigmoid, no groups": {},
    "sigmoid, gates as they are": dict(norm_topk_prob=False, routed_scaling_factor=2.5),
    "sigmoid, groups": dict(n_group=2, topk_group=1),
    "one expert": dict(n_routed_experts=1, num_experts_per_tok=1, n_shared_experts=0),
    "all experts": dict(num_experts_per_tok=4),
    "no dense block": dict(first_k_dense=0),
    "dense blocks alone": dict(first_k_dense=2),
    "query by way of few numbers": dict(q_lora_rank=5, bias=True),
    "positions in halves": dict(rope_interleaved=False),
    "positions as trained": dict(rope_scaling=None),
    "positions divided": dict(rope_scaling={"rope_type": "linear", "factor": 2.0}),
    "sizes of eights": dict(kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=16, moe_ffn_dim=24),
    "three heads": dict(n_head=3, kv_lora_rank=9, v_head_dim=3),
    "a head of its own": dict(tied=False),
}


def stepped(model, ids, cache):
    """Logits (T, V) of a token at a time, compiled."""
    step = model.step(cache)
    return np.array([step(i).copy() for i in ids[0]])


def by_layers(model, ids, cache):
    """The same by the layers, as they are defined."""
    with no_grad(), fused(False):
        return np.array([model.unembed(model.hidden(ids[:, i:i + 1], cache)).numpy()[0, 0] for i in range(ids.shape[1])])


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_logits_and_latents_are_those_of_the_layers(changes, dtype, tolerance):
    model, ids = toy("deepseek-mtp", dtype, **dict(n_layer=2, mtp_depth=0, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1,
                                                   block_size=40) | changes).eval(), text(1, 40)
    ours, theirs = model.make_cache(1, 40), model.make_cache(1, 40)
    actual, expected = stepped(model, ids, ours), by_layers(model, ids, theirs)
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()
    assert ours.length == theirs.length
    for (kept,), (other,) in zip(ours.layers, theirs.layers):
        assert np.abs(kept - other).max() <= tolerance * np.abs(other).max()


@pytest.mark.parametrize("name", ["deepseek-v2", "deepseek-v3"])
def test_the_likeliest_text_is_that_of_the_layers(name):
    model = toy(name, np.float32, block_size=80).eval()
    compiled = model.generate([1, 2, 3], 64, temperature=0.0)
    with fused(False):
        defined = model.generate([1, 2, 3], 64, temperature=0.0)
    assert len(compiled) == 67 and np.array_equal(compiled, defined)


@pytest.mark.parametrize("name", ["deepseek-v2", "deepseek-v3"])
@pytest.mark.parametrize("rank", [12, 64, 192])
def test_int8_weights_stay_int8(name, rank):
    light = quantized(toy(name, np.float32, n_embd=32, kv_lora_rank=rank, moe_ffn_dim=16))
    cache, ids = light.make_cache(1, 12), text(1, 12)
    actual, expected = stepped(light, ids, cache), by_layers(light, ids, light.make_cache(1, 12))
    assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()
    written_out = {expert.up.quantized.shape for expert in light.blocks[1].mlp.experts}
    assert not any(array.dtype == np.float32 and array.shape in written_out for array in cache.step.arrays)


def test_experts_that_are_not_chosen_are_not_read():
    model = toy("deepseek-v3", n_group=1, topk_group=1, n_shared_experts=0).eval()
    mixture, ids = model.blocks[1].mlp, text(1, 12)
    mixture.router_bias.copy_(np.array([0.0, 9.0, 9.0, 0.0]))         # two of four, always the same
    before = stepped(model, ids, model.make_cache(1, 12))
    for n in (0, 3):
        for p in mixture.experts[n].parameters():
            p.copy_(np.full(p.shape, np.nan))
    assert np.isfinite(before).all() and np.array_equal(stepped(model, ids, model.make_cache(1, 12)), before)


def test_a_token_reads_all_matrices_but_those_of_experts_that_rest():
    model = toy("deepseek-v3").eval()
    program, _ = program_for(model, model.make_cache(1, 12))
    rests = sum(p.numpy().nbytes for expert in model.blocks[1].mlp.experts[:2] for p in expert.parameters())
    assert program.weights == sum(p.numpy().nbytes for p in model.parameters() if p.ndim == 2) - rests


def test_a_layer_that_is_told_to_expand_is_left_alone():
    model = toy("deepseek-v2").eval()
    assert step_for(model, model.make_cache(1, 12)) is not None
    model.blocks[0].attn.absorb = False
    assert step_for(model, model.make_cache(1, 12)) is None
