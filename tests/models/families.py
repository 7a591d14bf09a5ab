"""A toy of each family with its options switched on, for the tests that all models share."""

import numpy as np

from tinyllm.engine.random import Generator
from tinyllm.engine.state import default_dtype
from tinyllm.models import GPT, DeepSeek, DeepSeekConfig, GPTConfig, Llama, LlamaConfig

SIZES = dict(vocab_size=11, n_layer=2, n_head=4, n_embd=16, block_size=12, init_std=0.3)
LATENT = dict(kv_lora_rank=6, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=5, n_routed_experts=4, moe_ffn_dim=6, ffn_dim=8,
              rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4, "mscale": 1.0, "mscale_all_dim": 0.8})
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8}

TOYS = {
    "gpt2": (GPT, GPTConfig, {}),
    "gpt2-post": (GPT, GPTConfig, dict(norm_first=False, bias=False, tied=False)),
    "gpt3": (GPT, GPTConfig, dict(band_width=3)),
    "gpt3-other-parity": (GPT, GPTConfig, dict(band_width=2, dense_parity=1)),
    "llama": (Llama, LlamaConfig, {}),
    "llama3": (Llama, LlamaConfig, dict(n_kv_head=2, rope_scaling=LLAMA3, tied=False)),
    "mistral": (Llama, LlamaConfig, dict(n_kv_head=1, window=3, first_window_layer=1, rope_interleaved=True)),
    "qwen": (Llama, LlamaConfig, dict(n_kv_head=2, qkv_bias=True, qk_norm=True, head_dim=6, bias=True, window=4)),
    "deepseek-v2": (DeepSeek, DeepSeekConfig, dict(LATENT, scoring_func="softmax", norm_topk_prob=False, routed_scaling_factor=2.0, n_group=2,
                                                   topk_group=1, q_lora_rank=7, bias=True, tied=False)),
    "deepseek-v3": (DeepSeek, DeepSeekConfig, dict(LATENT, n_group=2, topk_group=2, routed_scaling_factor=2.5, n_shared_experts=2)),
    "deepseek-mtp": (DeepSeek, DeepSeekConfig, dict(LATENT, n_layer=1, n_shared_experts=0, mtp_depth=2, n_routed_experts=2, num_experts_per_tok=1)),
}


def toy(name, dtype=np.float64, **changes):
    """The toy of that name; norms and biases, too, are away from 1 and 0."""
    model, config, options = TOYS[name]
    with default_dtype(dtype):
        made = model(config(**{**SIZES, **options, **changes}), Generator(3))
        for i, p in enumerate(made.parameters()):
            p.copy_(p.numpy() + Generator(100 + i).normal(0, 0.1, p.shape, dtype=dtype))
    return made


def text(batch, length, seed=1):
    return Generator(seed).randint(0, SIZES["vocab_size"], (batch, length))
