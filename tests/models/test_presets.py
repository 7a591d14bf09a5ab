"""Published sizes of the model family, and what a token costs in each one's cache."""

import numpy as np
import pytest

from tinyllm.errors import UserError
from tinyllm.models import DeepSeekConfig, GPTConfig, Llama, LlamaConfig
from tinyllm.nn import swiglu_width

COUNTS = {
    GPTConfig: {
        "gpt3-125m": 125_226_240, "gpt3-350m": 355_871_744, "gpt3-760m": 760_300_032, "gpt3-1.3b": 1_315_723_264,
        "gpt3-2.7b": 2_651_553_280, "gpt3-6.7b": 6_658_404_352, "gpt3-13b": 12_853_386_240, "gpt3-175b": 174_604_259_328},
    LlamaConfig: {
        "llama-7b": 6_738_415_616, "llama-13b": 13_015_864_320, "llama-33b": 32_528_943_616, "llama-65b": 65_285_660_672,
        "llama-2-7b": 6_738_415_616, "llama-2-13b": 13_015_864_320, "llama-2-70b": 68_976_648_192, "llama-3-8b": 8_030_261_248,
        "llama-3-70b": 70_553_706_496, "llama-3.1-8b": 8_030_261_248, "llama-3.1-70b": 70_553_706_496, "llama-3.1-405b": 405_853_388_800,
        "llama-3.2-1b": 1_235_814_400, "llama-3.2-3b": 3_212_749_824, "stories260k": 260_032, "stories15m": 15_191_712,
        "stories42m": 41_689_600, "stories110m": 109_529_856},
    DeepSeekConfig: {"deepseek-v2-lite": 15_706_484_224, "deepseek-v2": 235_741_434_880, "deepseek-v3": 671_026_419_200},
}


@pytest.mark.parametrize("config, name, count", [(config, name, n) for config, names in COUNTS.items() for name, n in names.items()])
def test_published_sizes(config, name, count):
    assert config.preset(name).num_params() == count


@pytest.mark.parametrize("config", [LlamaConfig, DeepSeekConfig])
def test_every_preset_has_its_figure_here(config):
    assert sorted(config.presets) == sorted(COUNTS[config])


@pytest.mark.parametrize("config, name, size", [
    (GPTConfig, "gpt2", 36_864), (LlamaConfig, "llama-2-7b", 524_288), (LlamaConfig, "llama-3-8b", 131_072), (LlamaConfig, "llama-3-70b", 327_680),
    (LlamaConfig, "llama-3.1-405b", 516_096), (DeepSeekConfig, "deepseek-v2-lite", 31_104), (DeepSeekConfig, "deepseek-v2", 69_120),
    (DeepSeekConfig, "deepseek-v3", 70_272)])
def test_bytes_of_the_cache_for_one_token(config, name, size):
    config = config.preset(name)
    assert config.kv_bytes_per_token() == config.kv_bytes_per_token("bfloat16") == size
    assert config.kv_bytes_per_token(np.float32) == 2 * size


@pytest.mark.parametrize("width, multiple_of, multiplier, ffn", [
    (4096, 256, None, 11008), (5120, 256, None, 13824), (6656, 256, None, 17920), (8192, 256, None, 22016), (8192, 4096, 1.3, 28672),
    (4096, 1024, 1.3, 14336), (16384, 4096, 1.2, 53248), (2048, 256, 1.5, 8192), (3072, 256, 1.0, 8192), (288, 32, None, 768),
    (64, 4, None, 172), (512, 32, None, 1376), (768, 32, None, 2048)])
def test_metas_rule_for_the_feed_forward_width(width, multiple_of, multiplier, ffn):
    assert swiglu_width(width, multiple_of, multiplier) == ffn


def test_the_smallest_preset_is_what_it_says():
    assert Llama(LlamaConfig.preset("stories260k")).num_params() == 260_032


def test_deepseeks_scores_are_sharpened_by_yarn():
    assert round(DeepSeekConfig.preset("deepseek-v3").score_factor, 4) == 1.8739
    assert round(DeepSeekConfig.preset("deepseek-v2").score_factor, 4) == round(DeepSeekConfig.preset("deepseek-v2-lite").score_factor, 4) == 1.5896
    assert DeepSeekConfig().score_factor == 1


def test_gpt3_alternates_dense_and_banded_layers():
    assert GPTConfig.preset("gpt3-125m", band_width=128).layer_windows() == [None, 128] * 6
    assert GPTConfig.preset("gpt3-125m", band_width=64, dense_parity=1).layer_windows() == [64, None] * 6
    assert GPTConfig.preset("gpt2").layer_windows() == [None] * 12


@pytest.mark.parametrize("config, changes, message", [
    (LlamaConfig, dict(n_head=6, n_kv_head=4), "n_head=6 is not a multiple of n_kv_head=4"),
    (LlamaConfig, dict(n_head=4, n_embd=20), "heads of size 5; .* even"),
    (LlamaConfig, dict(n_head=5, n_embd=21), "n_embd=21 is not a multiple of n_head=5.*try n_embd=25"),
    (LlamaConfig, dict(window=0), "window=0; expected a whole number above 0"),
    (LlamaConfig, dict(rope_scaling={"type": "su"}), "rope_scaling of type 'su'"),
    (GPTConfig, dict(band_width=0), "band_width=0"), (GPTConfig, dict(dense_parity=2), "dense_parity=2"),
    (DeepSeekConfig, dict(scoring_func="tanh"), "scoring_func='tanh'; known are softmax, sigmoid"),
    (DeepSeekConfig, dict(qk_rope_head_dim=3), "qk_rope_head_dim=3"),
    (DeepSeekConfig, dict(n_group=3), "2 of 8 experts for each token, from 1 of 3 groups"),
    (DeepSeekConfig, dict(n_group=8, topk_group=1, num_experts_per_tok=2), "hold at least as many experts as are chosen"),
    (DeepSeekConfig, dict(n_group=8, topk_group=4), "ranked by its two best experts"),
    (DeepSeekConfig, dict(kv_lora_rank=0), "kv_lora_rank=0")])
def test_configurations_that_cannot_be(config, changes, message):
    with pytest.raises(UserError, match=message):
        config(**changes)


def test_a_preset_that_does_not_exist_is_answered_with_those_that_do():
    with pytest.raises(UserError, match="no Llama preset is called 'llama-4'; known are llama-7b"):
        LlamaConfig.preset("llama-4")
