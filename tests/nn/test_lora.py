"""Adapters: nothing changes at first, only they learn, merging is exact both ways."""

import numpy as np
import pytest

import tinyllm as tl
from tinyllm.engine.random import Generator
from tinyllm.engine.state import default_dtype, no_grad
from tinyllm.errors import UserError
from tinyllm.models import GPT, DeepSeek, DeepSeekConfig, GPTConfig, Llama, LlamaConfig
from tinyllm.nn import lora
from tinyllm.optim import AdamW

SIZES = dict(vocab_size=11, n_layer=2, n_head=2, n_embd=8, block_size=8, init_std=0.3)
LATENT = dict(kv_lora_rank=4, qk_nope_head_dim=4, qk_rope_head_dim=2, v_head_dim=4, n_routed_experts=4, moe_ffn_dim=6)
MODELS = [(GPT, GPTConfig, {}), (Llama, LlamaConfig, {"n_kv_head": 1}), (DeepSeek, DeepSeekConfig, LATENT)]
IDS = Generator(1).randint(0, 11, (2, 7))


def made(model, config, options):
    with default_dtype(np.float64):
        return model(config(**SIZES, **options), Generator(0))


def stirred(adapters):
    for i, p in enumerate(adapters.parameters()):
        p.copy_(Generator(i).normal(0, 0.5, p.shape, dtype=np.float64))
    return adapters


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind[0].__name__)
@pytest.mark.parametrize("targets", ["all", ("proj", "up")])
def test_fresh_adapters_change_nothing_and_only_they_learn(kind, targets):
    model = made(*kind)
    before, frozen = model(IDS).numpy(), {name: p.numpy().copy() for name, p in model.named_parameters()}
    adapters = lora(model, rank=2, targets=targets)
    assert np.array_equal(model(IDS).numpy(), before)
    assert set(p for p in model.parameters() if p.requires_grad) == set(adapters.parameters())
    optimizer = AdamW(adapters.parameters(), lr=0.05)
    losses = []
    for _ in range(40):
        loss = model.loss(IDS[:, :-1], IDS[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    state = model.state_dict()
    assert all(np.array_equal(state[name], array) for name, array in frozen.items())


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind[0].__name__)
def test_merged_the_model_computes_the_same_and_unmerged_it_is_what_it_was(kind):
    model = made(*kind)
    original = {name: array.copy() for name, array in model.state_dict().items()}
    plain = model(IDS).numpy()
    adapters = stirred(lora(model, rank=3, targets="all", alpha=6))
    beside = model(IDS).numpy()
    assert np.abs(beside - plain).max() > 1e-3
    adapters.merge()
    adapters.merge()
    np.testing.assert_allclose(model(IDS).numpy(), beside, rtol=1e-10, atol=1e-12)
    adapters.unmerge()
    assert all(np.array_equal(model.state_dict()[name], array) for name, array in original.items())
    assert np.array_equal(model(IDS).numpy(), beside)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind[0].__name__)
def test_gradients_of_adapters_are_those_of_finite_differences(kind):
    model = made(*kind)
    stirred(lora(model, rank=1, targets=("blocks.1.attn.qkv", "blocks.1.attn.kv_up", "experts.0.gate", "experts.1.down", "blocks.0.mlp.up")))
    report = tl.gradcheck(model, [IDS[:, :-1], IDS[:, 1:]])
    assert report.ok and all(row.name.endswith(("lora_a", "lora_b")) for row in report.rows)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind[0].__name__)
def test_adapters_serve_the_cache_too(kind):
    """Also where a layer uses the matrix itself: latent attention's absorbed steps, the experts' grouped products."""
    model = made(*kind).eval()
    stirred(lora(model, rank=2, targets="all"))
    with no_grad():
        whole, cache = model(IDS).numpy(), model.make_cache(2, 7)
        parts = [model(part, cache=cache).numpy() for part in np.split(IDS, range(1, 7), axis=1)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-9, atol=1e-11)


def test_an_adapter_is_scaled_by_alpha_over_rank():
    model = made(*MODELS[0])
    adapters = stirred(lora(model, rank=2, targets="blocks.1.mlp.fc", alpha=10))
    layer = model.blocks[1].mlp.fc
    delta = layer.matrix().numpy() - layer.weight.numpy()
    np.testing.assert_allclose(delta, 5 * layer.lora_b.numpy() @ layer.lora_a.numpy(), rtol=1e-10)
    assert adapters.num_params() == 2 * (8 + 32)


def test_removed_the_model_is_plain_again():
    model = made(*MODELS[1])
    names = list(model.state_dict())
    adapters = stirred(lora(model, rank=2, targets=("qkv",)))
    beside = model(IDS).numpy()
    adapters.remove(merge=True)
    assert list(model.state_dict()) == names and all(p.requires_grad for p in model.parameters())
    np.testing.assert_allclose(model(IDS).numpy(), beside, rtol=1e-10, atol=1e-12)


def test_routers_biases_stay_out_of_learning():
    model = made(*MODELS[2])
    lora(model, rank=2).remove()
    assert not any(p.requires_grad for name, p in model.named_parameters() if name.endswith("router_bias"))


def test_adapters_are_saved_alone(tmp_path):
    model, other = made(*MODELS[0]), made(*MODELS[0])
    adapters = stirred(lora(model, rank=2))
    adapters.save(tmp_path / "adapters.safetensors")
    assert (tmp_path / "adapters.safetensors").stat().st_size < 8 * adapters.num_params() + 2000
    lora(other, rank=2).load(tmp_path / "adapters.safetensors")
    assert np.array_equal(other(IDS).numpy(), model(IDS).numpy())
    with pytest.raises(UserError, match=r"blocks.0.attn.qkv.lora_a: \(2, 8\) given, \(3, 8\) expected"):
        lora(made(*MODELS[0]), rank=3).load(tmp_path / "adapters.safetensors")


def test_mistakes_are_explained():
    model = made(*MODELS[0])
    with pytest.raises(UserError, match="no Linear layer is called q_proj; this model has fc, proj, qkv"):
        lora(model, 2, targets="q_proj")
    with pytest.raises(UserError, match="rank=0"):
        lora(model, 0)
    lora(model, 2)
    with pytest.raises(UserError, match="has adapters already"):
        lora(model, 2)
