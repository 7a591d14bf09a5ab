"""Hugging Face directories: names, prefixes, shards and spellings that are read, and everything that is refused, by name."""

import json
import resource
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from tinyllm.engine.random import Generator
from tinyllm.errors import UserError
from tinyllm.load import load
from tinyllm.models import DeepSeek, DeepSeekConfig, GPT, GPTConfig, Llama, LlamaConfig
from tinyllm.tokenizers import BPETokenizer, CharTokenizer
from tinyllm.weights import hf, hf_config, safetensors
from tinyllm.weights.fill import WeightsError

V = 20
MODELS = {"gpt": (GPT, GPTConfig(V, 2, 2, 8, 16)), "gpt untied": (GPT, GPTConfig(V, 2, 2, 8, 16, tied=False)),
          "llama": (Llama, LlamaConfig(V, 2, 4, 16, 16, n_kv_head=2)), "llama untied": (Llama, LlamaConfig(V, 2, 4, 16, 16, tied=False)),
          "deepseek v3": (DeepSeek, DeepSeekConfig(V, 2, 2, 16, 16, q_lora_rank=6)),
          "deepseek v2": (DeepSeek, DeepSeekConfig(V, 2, 2, 16, 16, scoring_func="softmax", norm_topk_prob=False, tied=False))}


def fresh(name):
    cls, config = MODELS[name]
    return cls(config, Generator(0)).eval()


def rewrite(path, change=None, config=None):
    """Change the tensors or the settings of a saved directory."""
    tensors = {name: array.copy() for name, array in safetensors.load(path / "model.safetensors").items()}
    safetensors.save(path / "model.safetensors", change(tensors) if change else tensors)
    record = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**record, **(config or {})}))


def assert_equal(a, b):
    for name, array in a.state_dict().items():
        assert np.array_equal(b.state_dict()[name], array), name


@pytest.fixture
def gpt(tmp_path):
    """A saved GPT."""
    fresh("gpt").save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def llama(tmp_path):
    """A saved Llama."""
    fresh("llama").save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_again_it_is_the_same(name, tmp_path):
    model = fresh(name)
    model.save_pretrained(tmp_path)
    again, tokenizer = load(tmp_path)
    assert tokenizer is None and not again.training and again.config.n_layer == 2
    assert_equal(model, again)
    assert type(model).from_pretrained(tmp_path).config == again.config


def test_from_pretrained_of_another_class(gpt):
    with pytest.raises(UserError, match="holds a GPT, not a Llama"):
        Llama.from_pretrained(gpt)


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_names_without_their_prefix(name, tmp_path):
    fresh(name).save_pretrained(tmp_path)
    rewrite(tmp_path, lambda tensors: {key.split(".", 1)[1]: array for key, array in tensors.items()})
    assert_equal(fresh(name), load(tmp_path)[0])


def test_buffers_of_older_files_are_passed_over(gpt):
    rewrite(gpt, lambda t: t | {"transformer.h.0.attn.bias": np.ones((1, 1, 16, 16), bool), "h.1.attn.masked_bias": np.array(-1e4, np.float32)})
    assert_equal(fresh("gpt"), load(gpt)[0])


def test_a_copy_of_the_tied_head_must_be_one(gpt):
    rewrite(gpt, lambda t: t | {"lm_head.weight": t["transformer.wte.weight"]})
    assert_equal(fresh("gpt"), load(gpt)[0])
    rewrite(gpt, lambda t: t | {"lm_head.weight": t["transformer.wte.weight"] + 1})
    with pytest.raises(WeightsError, match="tie_word_embeddings, but lm_head.weight is not transformer.wte.weight"):
        load(gpt)


def test_old_files_of_gpt2_say_less(gpt):
    (gpt / "config.json").write_text(json.dumps({"vocab_size": V, "n_ctx": 16, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2}))
    assert_equal(fresh("gpt"), load(gpt)[0])


def test_layers_for_further_tokens_are_passed_over(tmp_path):
    fresh("deepseek v3").save_pretrained(tmp_path)
    rewrite(tmp_path, lambda t: t | {"model.layers.2.eh_proj.weight": np.ones((16, 32), np.float32)}, {"num_nextn_predict_layers": 1})
    assert_equal(fresh("deepseek v3"), load(tmp_path)[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_become_the_default_one(llama, dtype):
    rewrite(llama, lambda t: {key: array.astype(dtype) for key, array in t.items()})
    model = load(llama)[0]
    for name, array in fresh("llama").state_dict().items():
        assert model.state_dict()[name].dtype == np.float32
        np.testing.assert_array_equal(model.state_dict()[name], array.astype(dtype).astype(np.float32))


def shard(path):
    """Cut a saved directory's file in two, with an index."""
    tensors = safetensors.load(path / "model.safetensors")
    half = sorted(tensors)[: len(tensors) // 2]
    safetensors.save(path / "one.safetensors", {name: tensors[name] for name in half})
    safetensors.save(path / "two.safetensors", {name: array for name, array in tensors.items() if name not in half})
    (path / "model.safetensors").unlink()
    return {"metadata": {}, "weight_map": {name: "one.safetensors" if name in half else "two.safetensors" for name in tensors}}


def test_shards(llama):
    (llama / "model.safetensors.index.json").write_text(json.dumps(shard(llama)))
    assert_equal(fresh("llama"), load(llama)[0])


@pytest.mark.parametrize("change, message", [
    (lambda index: index["weight_map"].update({"model.norm.weight": "three.safetensors"}), "names three.safetensors, which is not there"),
    (lambda index: index["weight_map"].update({"model.norm.weight": "one.safetensors"}), "'model.norm.weight' is in one.safetensors, which has no"),
    (lambda index: index["weight_map"].update({"model.norm.weight": "../one.safetensors"}), "'../one.safetensors' is not the name of a file in this directory"),
    (lambda index: index["weight_map"].pop("model.norm.weight"), "'model.norm.weight' that .* does not place there"),
    (lambda index: index.pop("weight_map"), "expected a weight_map")])
def test_an_index_that_lies(llama, change, message):
    index = shard(llama)
    change(index)
    (llama / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=message):
        load(llama)


def test_every_difference_is_listed(gpt):
    def change(tensors):
        tensors.pop("transformer.ln_f.bias")
        tensors["transformer.h.0.ln_9.weight"] = np.ones(3, np.float32)
        tensors["transformer.wpe.weight"] = np.ones((9, 8), np.float32)
        return tensors

    rewrite(gpt, change)
    with pytest.raises(WeightsError) as error:
        load(gpt)
    for part in (str(gpt), "missing (1): transformer.ln_f.bias (8,)", "unexpected (1): transformer.h.0.ln_9.weight (3,)",
                 "another shape (1): transformer.wpe.weight (9, 8), expected (16, 8)"):
        assert part in str(error.value)


@pytest.mark.parametrize("settings, message", [
    ({"model_type": "mamba"}, "model_type 'mamba' is not known here; known are gpt2, llama, mistral, qwen2, qwen3, deepseek_v2, deepseek_v3"),
    ({"model_type": None}, "model_type None"), ({"model_type": []}, r"model_type \[\]"), ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
    ({"num_hidden_layers": 3}, "missing"), ({"num_hidden_layers": 1}, "unexpected"), ({"num_hidden_layers": 10**9}, "1000000000 layers"),
    ({"vocab_size": 2**30}, r"model.embed_tokens.weight \(20, 16\), expected \(1073741824, 16\)"), ({"vocab_size": 2**40}, "vocab_size"),
    ({"vocab_size": -1}, "vocab_size is -1"), ({"vocab_size": "20"}, "vocab_size is '20'"), ({"hidden_size": 0}, "n_embd=0"),
    ({"num_attention_heads": 3, "head_dim": None, "num_key_value_heads": None}, "n_embd=16 is not a multiple of n_head=3"),
    ({"num_key_value_heads": 3}, "n_kv_head=3"), ({"rms_norm_eps": "x"}, "rms_norm_eps"), ({"attention_bias": True}, "mlp_bias False"),
    ({"quantization_config": {"quant_method": "fp8"}}, "quantized"), ({"eos_token_id": "end"}, "eos_token_id"),
    ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_scaling of type 'dynamic'"),
    ({"rope_parameters": {"rope_type": "linear", "factor": 0}}, "factor is 0"), ({"rope_parameters": 3}, "rope settings 3"),
    ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "needs low_freq_factor"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5")])
def test_settings_that_are_refused(llama, settings, message):
    rewrite(llama, config=settings)
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=message) as error:
        load(llama)
    assert str(llama) in str(error.value) and time.perf_counter() - start < 1


@pytest.mark.parametrize("settings, message", [
    ({"n_inner": 7}, "n_inner is 7"), ({"activation_function": "relu"}, "activation_function"), ({"scale_attn_weights": False}, "scale_attn_weights"),
    ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by"), ({"add_cross_attention": True}, "add_cross_attention")])
def test_settings_of_gpt2_that_are_refused(gpt, settings, message):
    rewrite(gpt, config=settings)
    with pytest.raises(WeightsError, match=message):
        load(gpt)


@pytest.mark.parametrize("name, settings, message", [
    ("deepseek v3", {"n_routed_experts": 10**9}, "experts in all"), ("deepseek v3", {"scoring_func": "softmax"}, "scoring_func"),
    ("deepseek v3", {"moe_layer_freq": 2}, "moe_layer_freq"), ("deepseek v3", {"n_group": 3}, "groups must be equal"),
    ("deepseek v2", {"norm_topk_prob": True}, "norm_topk_prob"), ("deepseek v2", {"topk_method": "noaux_tc"}, "topk_method")])
def test_settings_of_deepseek_that_are_refused(tmp_path, name, settings, message):
    fresh(name).save_pretrained(tmp_path)
    rewrite(tmp_path, config=settings)
    with pytest.raises(WeightsError, match=message):
        load(tmp_path)


def test_rope_settings_in_either_spelling():
    base = {"model_type": "llama", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "max_position_embeddings": 64}
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    spellings = [{"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **scaling}}, {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **scaling}},
                 {"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", **scaling}}]
    read = [hf_config.read({**base, **spelling}, "config.json")[1] for spelling in spellings]
    assert read[0] == read[1] == read[2] and read[0].rope_theta == 5e5 and read[0].rope_scaling["rope_type"] == "llama3"
    assert hf_config.read({**base, "rope_theta": 7.0}, "config.json")[1].rope_scaling is None


@pytest.mark.parametrize("first, kinds, windows", [(1, None, [None, 4, 4]), (3, None, [None] * 3), (0, ["sliding_attention"] * 3, [4] * 3)])
def test_qwens_windows(first, kinds, windows):
    record = {"model_type": "qwen2", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2,
              "max_position_embeddings": 64, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": first}
    assert hf_config.read({**record, **({} if kinds is None else {"layer_types": kinds})}, "config.json")[1].layer_windows() == windows
    mixed = {**record, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
    with pytest.raises(WeightsError, match="layer_types"):
        hf_config.read(mixed, "config.json")


def test_what_is_no_directory_of_weights(tmp_path, gpt):
    (gpt / "model.safetensors").rename(gpt / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pytorch_model.bin is a pickle, which can run code"):
        load(gpt)
    (gpt / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="is not JSON"):
        load(gpt)
    (gpt / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="expected an object"):
        load(gpt)


def header_of(path):
    data = (path / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8:8 + length]), data[8 + length:]


@pytest.mark.parametrize("name, damage, message", [
    ("cut short", lambda header, data: (header, data[:-4]), "cut short"),
    ("overlap", lambda header, data: (shifted(header, "model.norm.weight", -64), data), "'model.norm.weight': its data at .* overlaps"),
    ("out of range", lambda header, data: (shifted(header, "model.norm.weight", 10**12), data), "'model.norm.weight'"),
    ("integers", lambda header, data: (retyped(header, "model.norm.weight", "I32"), data), "'model.norm.weight' of dtype I32")])
def test_damaged_tensors_are_named(llama, name, damage, message):
    header, data = damage(*header_of(llama))
    text = json.dumps(header).encode()
    (llama / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(UserError, match=message) as error:
        load(llama)
    assert "model.safetensors" in str(error.value) and time.perf_counter() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def shifted(header, name, by):
    start, end = header[name]["data_offsets"]
    return {**header, name: {**header[name], "data_offsets": [start + by, end + by]}}


def retyped(header, name, dtype):
    return {**header, name: {**header[name], "dtype": dtype}}


def test_a_name_that_is_there_with_and_without_its_prefix(gpt):
    rewrite(gpt, lambda t: t | {"ln_f.bias": t["transformer.ln_f.bias"]})
    with pytest.raises(WeightsError, match="'transformer.ln_f.bias' is there twice"):
        load(gpt)


@pytest.mark.parametrize("model, what", [
    (GPT(GPTConfig(V, 1, 1, 4, 4, norm_first=False)), "norm_first=False"), (GPT(GPTConfig(V, 2, 1, 4, 4, band_width=2)), "band_width=2"),
    (Llama(LlamaConfig(V, 1, 2, 8, 8, bias=True, qk_norm=True)), "qk_norm=True"),
    (Llama(LlamaConfig(V, 2, 2, 8, 8, window=3, first_window_layer=1)), "window=3"),
    (DeepSeek(DeepSeekConfig(V, 1, 2, 8, 8, scoring_func="softmax")), "norm_topk_prob=True"),
    (DeepSeek(DeepSeekConfig(V, 1, 2, 8, 8, n_shared_experts=0)), "n_shared_experts=0")])
def test_what_transformers_has_no_name_for(tmp_path, model, what):
    with pytest.raises(UserError, match=f"no model of transformers has {what}"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("tokenizer", [CharTokenizer.train("hello world"), BPETokenizer.train("hello world " * 9, 260)], ids=["char", "bpe"])
def test_the_tokenizer_goes_along(tmp_path, tokenizer):
    GPT(GPTConfig(tokenizer.vocab_size, 1, 1, 4, 4)).save_pretrained(tmp_path, tokenizer)
    again = load(tmp_path)[1]
    assert type(again) is type(tokenizer) and again.encode("hello world") == tokenizer.encode("hello world")


def test_a_model_without_the_tokenizer_beside_it(gpt):
    (gpt / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    with pytest.raises(UserError, match="Unigram"):
        load(gpt)
    assert load(gpt, tokenizer=False)[1] is None
    assert_equal(fresh("gpt"), GPT.from_pretrained(gpt))


def test_loading_takes_the_weights_once(tmp_path):
    """A model of 86 MB in a process of its own: the peak grows by no more than 1.3 times its size."""
    model = GPT(GPTConfig(vocab_size=10_000, n_layer=6, n_head=8, n_embd=512, block_size=128), Generator(0))
    model.save_pretrained(tmp_path)
    program = ("import resource, sys, tinyllm\nfrom tinyllm.weights import hf\n"
               "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
               "before = peak()\nmodel = hf.load(sys.argv[1])[0]\nprint(peak() - before, 4 * model.num_params())")
    said = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    grown, size = map(int, said.split())
    assert size > 80e6 and grown <= 1.3 * size


@pytest.mark.slow
def test_gpt2s_size_loads_in_three_seconds(tmp_path):
    """124 million random weights: processor time, for the machine may be busy, and memory as above."""
    GPT(GPTConfig.preset("gpt2"), Generator(0)).save_pretrained(tmp_path)
    program = ("import resource, sys, time, tinyllm\nfrom tinyllm.weights import hf\n"
               "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
               "before, start = peak(), time.process_time()\nmodel = hf.load(sys.argv[1])[0]\n"
               "print(time.process_time() - start, (peak() - before) / (4 * model.num_params()))")
    said = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    seconds, share = map(float, said.split())
    assert seconds < 3 and share <= 1.3
