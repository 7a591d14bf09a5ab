"""tinyllm eval --kv: the figures of the published models, and what is refused."""

import pytest

from tinyllm.cli import main
from tinyllm.cli.eval import SHOWN, filled, full_heads, kind, memory
from tinyllm.models import DeepSeekConfig, GPTConfig, LlamaConfig


def test_the_table_has_the_published_figures(capsys):
    assert main(["eval", "--kv"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:] if line}
    for name, figure in (("gpt2", "36,864"), ("llama-2-7b", "524,288"), ("llama-3-8b", "131,072"), ("llama-3-70b", "327,680"),
                         ("llama-3.1-405b", "516,096"), ("deepseek-v2-lite", "31,104"), ("deepseek-v2", "69,120"), ("deepseek-v3", "70,272")):
        assert f" {figure} " in lines[name]
    assert set(SHOWN) <= set(lines)


def test_presets_and_bytes_can_be_chosen(capsys):
    assert main(["eval", "--kv", "llama-3-8b", "--bytes", "1"]) == 0
    out = capsys.readouterr().out
    assert " 65,536 " in out and "deepseek" not in out


def test_deepseek_v3_without_latents_would_hold_seventy_times_as_much():
    config = DeepSeekConfig.preset("deepseek-v3")
    assert 2 * full_heads(config) == 4_997_120


def test_kinds():
    assert kind(GPTConfig()) == "MHA" and kind(LlamaConfig(n_kv_head=1)) == "MQA" and kind(DeepSeekConfig()) == "MLA"
    assert kind(LlamaConfig.preset("llama-3.1-405b")) == "GQA 128/8"


def test_a_window_fills_up():
    config = LlamaConfig(n_layer=3, window=10, first_window_layer=1)
    each = config.cached_per_token() // 3
    assert filled(config, 5) == 15 * each and filled(config, 100) == 120 * each


def test_units():
    assert memory(3 << 19) == "1.5 MiB" and memory(3 << 30) == "3.0 GiB"


@pytest.mark.parametrize("words, message", [(["eval"], "say what to measure: --kv"), (["eval", "--kv", "gpt5"], "no preset is called 'gpt5'")])
def test_mistakes(capsys, words, message):
    assert main(words) == 2
    assert message in capsys.readouterr().err
