"""Llama and DeepSeek beside transformers, with the same random weights: logits, loss, the gradient of every parameter.

transformers computes norms, routers and rotary tables in float32 whatever the model's dtype, so all of it is float32 here
and the bar is 1e-4 of the largest number.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import torch.nn.functional as TF  # noqa: E402

from tinyllm.engine.random import Generator  # noqa: E402
from tinyllm.engine.state import no_grad  # noqa: E402
from tinyllm.models import DeepSeek, DeepSeekConfig, Llama, LlamaConfig  # noqa: E402
from tinyllm.weights.names import pieces  # noqa: E402


def in_their_names(arrays, config):
    """Our arrays by transformers' names; the matrices of a layer's experts are one array there."""
    theirs, experts = {}, {}
    for piece in pieces(config):
        if piece.ours not in arrays:
            continue
        array = piece.take(arrays[piece.ours])
        if ".experts." in piece.theirs:
            prefix, number, part, _ = piece.theirs.rsplit(".", 3)
            experts.setdefault(prefix, {})[int(number), part] = array
        else:
            theirs[piece.theirs] = array
    for prefix, parts in experts.items():
        number = range(1 + max(i for i, _ in parts))
        theirs[prefix + ".gate_up_proj"] = np.stack([np.concatenate([parts[i, "gate_proj"], parts[i, "up_proj"]]) for i in number])
        theirs[prefix + ".down_proj"] = np.stack([parts[i, "down_proj"] for i in number])
    return theirs


def assert_equal_models(ours, theirs):
    for i, p in enumerate(ours.parameters()):
        p.copy_(p.numpy() + Generator(i).normal(0, 0.05, p.shape))
    state = in_their_names(ours.state_dict(), ours.config)
    missing, unexpected = theirs.load_state_dict({key: torch.tensor(value) for key, value in state.items()}, strict=False)
    assert not unexpected and all("lm_head" in key for key in missing)
    ids = Generator(5).randint(0, ours.config.vocab_size, (3, 17))
    logits = theirs(torch.tensor(ids[:, :-1])).logits
    loss = TF.cross_entropy(logits.flatten(0, 1), torch.tensor(ids[:, 1:]).flatten())
    loss.backward()
    close(ours(ids[:, :-1]).numpy(), logits.detach().numpy(), "logits")
    mine = ours.loss(ids[:, :-1], ids[:, 1:])
    mine.backward()
    assert mine.item() == pytest.approx(loss.item(), rel=1e-5)
    gradients = {name: np.zeros(p.shape, np.float32) if p.grad is None else p.grad for name, p in ours.named_parameters() if p.requires_grad}
    checked = 0
    for name, gradient in in_their_names(gradients, ours.config).items():
        close(gradient, dict(theirs.named_parameters())[name].grad.numpy(), name)
        checked += 1
    assert checked == sum(p.requires_grad for p in theirs.parameters())
    with no_grad():
        cache = ours.make_cache(3, 16)
        parts = [ours(part, cache=cache).numpy() for part in np.split(ids[:, :-1], [5, 6, 7], axis=1)]
    close(np.concatenate(parts, axis=1), logits.detach().numpy(), "cached logits")


def close(ours, theirs, what):
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), what


LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}


@pytest.mark.parametrize("kind, changes, options", [
    ("llama", {}, {}),
    ("llama", dict(tied=False, n_kv_head=1, rope_scaling=LLAMA3, rope_theta=500.0), {}),
    ("llama", dict(rope_scaling=YARN, bias=True, n_kv_head=4), dict(attention_bias=True, mlp_bias=True)),
    ("llama", dict(rope_scaling={"rope_type": "linear", "factor": 2.0}, head_dim=12), {}),
    ("mistral", dict(window=5), dict(sliding_window=5)),
    ("qwen2", dict(qkv_bias=True), {}),
    ("qwen3", dict(qk_norm=True, head_dim=6, tied=False), {})])
def test_llama(kind, changes, options):
    config = LlamaConfig(**{**dict(vocab_size=31, n_layer=2, n_head=4, n_kv_head=2, n_embd=16, ffn_dim=24, block_size=32), **changes})
    name = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}[kind]
    rope = {"rope_type": "default", **(config.rope_scaling or {}), "rope_theta": config.rope_theta}
    theirs = getattr(transformers, name + "Config")(
        vocab_size=31, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=config.n_kv_head, head_dim=config.head_dim,
        intermediate_size=24, max_position_embeddings=32, rms_norm_eps=1e-5, tie_word_embeddings=config.tied, rope_parameters=rope,
        attn_implementation="eager", **options)
    assert_equal_models(Llama(config, Generator(0)), getattr(transformers, name + "ForCausalLM")(theirs))


SIZES = dict(q_lora_rank=None, kv_lora_rank=8, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5, n_routed_experts=8, n_shared_experts=2,
             num_experts_per_tok=3, n_group=1, topk_group=1, norm_topk_prob=False, routed_scaling_factor=1.0)
STRETCHED = {**YARN, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.8}


@pytest.mark.parametrize("version, changes", [
    (2, dict(tied=False)),
    (2, dict(tied=False, q_lora_rank=7, n_group=4, topk_group=2, routed_scaling_factor=16.0, rope_scaling=STRETCHED)),
    (3, dict(tied=False, n_group=4, topk_group=2, norm_topk_prob=True, routed_scaling_factor=2.5, q_lora_rank=7, rope_scaling=STRETCHED)),
    (3, dict(tied=True, bias=True, q_lora_rank=7))])
def test_deepseek(version, changes):
    sizes = {**SIZES, **{key: value for key, value in changes.items() if key in SIZES}}
    other = {key: value for key, value in changes.items() if key not in SIZES}
    config = DeepSeekConfig(vocab_size=31, n_layer=3, n_head=2, n_embd=16, ffn_dim=24, moe_ffn_dim=8, block_size=32, first_k_dense=1, init_std=0.2,
                            scoring_func="softmax" if version == 2 else "sigmoid", **sizes, **other)
    rope = {"rope_type": "default", **(config.rope_scaling or {}), "rope_theta": 10000.0}
    options = dict(topk_method="group_limited_greedy" if config.n_group > 1 else "greedy") if version == 2 else {}
    theirs = getattr(transformers, f"DeepseekV{version}Config")(
        vocab_size=31, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2, intermediate_size=24,
        moe_intermediate_size=8, first_k_dense_replace=1, max_position_embeddings=32, rms_norm_eps=1e-6, tie_word_embeddings=config.tied,
        attention_bias=config.bias, rope_parameters=rope, attn_implementation="eager", **sizes, **options)
    assert_equal_models(DeepSeek(config, Generator(0)), getattr(transformers, f"DeepseekV{version}ForCausalLM")(theirs))
