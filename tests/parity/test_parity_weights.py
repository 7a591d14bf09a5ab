"""Directories of transformers: what it saves loads here, what is saved here loads there; logits, gradients and greedy text are equal."""

import os

import numpy as np
import pytest

tokenizers = pytest.importorskip("tokenizers")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import torch.nn.functional as TF  # noqa: E402

from tinyllm.engine.random import Generator  # noqa: E402
from tinyllm.load import load  # noqa: E402
from tinyllm.models import DeepSeek, DeepSeekConfig, GPT, GPTConfig, Llama, LlamaConfig  # noqa: E402
from tinyllm.tokenizers import BPETokenizer, CharTokenizer, huggingface  # noqa: E402
from tinyllm.tokenizers import load as load_tokenizer  # noqa: E402
from tinyllm.weights.names import pieces  # noqa: E402

DATA = os.environ.get("TINYLLM_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="needs stories260K.bin and tok512.bin in TINYLLM_DATA")
V = 64
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8,
          "rope_theta": 500.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
        "mscale_all_dim": 0.8, "rope_theta": 10000.0}
SMALL = dict(vocab_size=V, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, bos_token_id=None, eos_token_id=None, pad_token_id=None)
LATENT = dict(SMALL, num_hidden_layers=3, num_attention_heads=2, moe_intermediate_size=8, first_k_dense_replace=1, kv_lora_rank=8,
              qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5, n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3)
THEIRS = {
    "gpt2": ("GPT2", dict(vocab_size=V, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None)),
    "gpt2 untied": ("GPT2", dict(vocab_size=V, n_positions=64, n_embd=16, n_layer=2, n_head=4, tie_word_embeddings=False,
                                 activation_function="gelu", bos_token_id=None, eos_token_id=None)),
    "llama": ("Llama", SMALL),
    "llama tied, scaled": ("Llama", dict(SMALL, tie_word_embeddings=True, rope_parameters=LLAMA3)),
    "llama biased": ("Llama", dict(SMALL, attention_bias=True, mlp_bias=True, head_dim=6)),
    "mistral": ("Mistral", dict(SMALL, sliding_window=5)),
    "qwen2": ("Qwen2", dict(SMALL, use_sliding_window=True, sliding_window=5, max_window_layers=1)),
    "qwen3": ("Qwen3", dict(SMALL, head_dim=6)),
    "deepseek v2": ("DeepseekV2", dict(LATENT, num_key_value_heads=2, q_lora_rank=7, n_group=4, topk_group=2, topk_method="group_limited_greedy",
                                       routed_scaling_factor=16.0, rope_parameters=YARN)),
    "deepseek v2 lite": ("DeepseekV2", dict(LATENT, num_key_value_heads=2, q_lora_rank=None, topk_method="greedy")),
    "deepseek v3": ("DeepseekV3", dict(LATENT, num_key_value_heads=2, q_lora_rank=7, n_group=4, topk_group=2, rope_parameters=YARN)),
    "deepseek v3 tied": ("DeepseekV3", dict(LATENT, num_key_value_heads=2, q_lora_rank=None, n_group=1, topk_group=1, attention_bias=True,
                                            rope_interleave=False, tie_word_embeddings=True)),
}


def theirs(name):
    """A model of transformers with random weights, none of them 0 or 1."""
    kind, options = THEIRS[name]
    torch.manual_seed(0)
    config = getattr(transformers, kind + "Config")(**options)
    config._attn_implementation = "eager"
    model = getattr(transformers, "GPT2LMHeadModel" if kind == "GPT2" else kind + "ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
        for buffer_name, buffer in model.named_buffers():
            if "correction_bias" in buffer_name:
                buffer.add_(0.01 * torch.randn(buffer.shape))
    return model


def close(ours, other, what):
    assert np.abs(ours - other).max() <= 1e-4 * np.abs(other).max(), what


def assert_same_text(ours, other):
    ids = Generator(3).randint(0, V, (9,))
    with torch.no_grad():
        prompt = torch.tensor(ids[None])
        continued = other.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=20, do_sample=False, pad_token_id=0)
    assert ours.generate(ids, 20, temperature=0, stop=()).tolist() == continued[0].tolist()


def assert_same_gradients(ours, other):
    ids = Generator(5).randint(0, V, (3, 17))
    logits = other(torch.tensor(ids[:, :-1])).logits
    close(ours(ids[:, :-1]).numpy(), logits.detach().numpy(), "logits")
    TF.cross_entropy(logits.flatten(0, 1), torch.tensor(ids[:, 1:]).flatten()).backward()
    ours.loss(ids[:, :-1], ids[:, 1:]).backward()
    gradients = {name: np.zeros(p.shape, np.float32) if p.grad is None else p.grad for name, p in ours.named_parameters() if p.requires_grad}
    in_memory = {name: parameter.grad.numpy() for name, parameter in other.named_parameters()}
    checked = 0
    for piece in pieces(ours.config):
        if piece.ours in gradients:
            close(piece.take(gradients[piece.ours]), gradient_of(in_memory, piece.theirs), piece.theirs)
            checked += 1
    assert checked >= len(in_memory)


def gradient_of(in_memory, name):
    """The gradient of a tensor of the file; in memory the experts of a layer are one array."""
    if ".experts." not in name:
        return in_memory[name]
    prefix, expert, part, _ = name.rsplit(".", 3)
    if part == "down_proj":
        return in_memory[f"{prefix}.down_proj"][int(expert)]
    return np.split(in_memory[f"{prefix}.gate_up_proj"][int(expert)], 2)[part == "up_proj"]


@pytest.mark.parametrize("name", THEIRS)
def test_what_transformers_saves_loads_here_and_goes_back(name, tmp_path):
    other = theirs(name)
    other.save_pretrained(tmp_path / "theirs")
    ours, tokenizer = load(tmp_path / "theirs")
    assert tokenizer is None
    assert_same_gradients(ours, other)
    assert_same_text(ours, other)
    ours.save_pretrained(tmp_path / "ours")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(back) is type(other)
    for key, value in other.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key


OURS = {
    "gpt without biases": (GPT, GPTConfig(V, 2, 2, 16, 64, bias=False)),
    "llama, interleaved": (Llama, LlamaConfig(V, 2, 4, 16, 64, n_kv_head=2, rope_interleaved=True, tied=False)),
    "qwen3, interleaved": (Llama, LlamaConfig(V, 2, 4, 16, 64, qk_norm=True, rope_interleaved=True)),
    "mistral": (Llama, LlamaConfig(V, 2, 4, 16, 64, window=5)),
    "deepseek": (DeepSeek, DeepSeekConfig(V, 3, 2, 16, 64, init_std=0.2, mtp_depth=1)),
}


@pytest.mark.parametrize("name", OURS)
def test_what_is_saved_here_goes_on_in_transformers(name, tmp_path):
    cls, config = OURS[name]
    ours = cls(config, Generator(0)).eval()
    for i, parameter in enumerate(ours.parameters()):
        parameter.copy_(parameter.numpy() + Generator(i).normal(0, 0.05, parameter.shape))
    ours.save_pretrained(tmp_path)
    other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = Generator(5).randint(0, V, (3, 17))
    with torch.no_grad():
        close(ours(ids).numpy(), other(torch.tensor(ids)).logits.numpy(), "logits")
    assert_same_text(ours, other)
    reloaded, _ = load(tmp_path)
    close(reloaded(ids).numpy(), ours(ids).numpy(), "reloaded")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_and_shards(dtype, tmp_path):
    other = theirs("llama").to(dtype)
    other.save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    ours, _ = load(tmp_path)
    wide = other.float()
    ids = Generator(5).randint(0, V, (2, 9))
    with torch.no_grad():
        close(ours(ids).numpy(), wide(torch.tensor(ids)).logits.numpy(), "logits")


def test_the_tokenizer_beside_a_saved_model_gives_the_same_ids(tmp_path):
    tokenizer = BPETokenizer.train("low lower lowest new newer newest " * 20, 300, special_tokens=["<|endoftext|>"])
    GPT(GPTConfig(tokenizer.vocab_size, 1, 2, 16, 32)).save_pretrained(tmp_path, tokenizer)
    text = "the newest , lowest one 's"
    words = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert words(text)["input_ids"] == tokenizer.encode(text) and words.decode(tokenizer.encode(text)) == text
    assert words.eos_token_id == tokenizer.eos_id == tokenizer.special_tokens["<|endoftext|>"]
    assert load(tmp_path)[1].encode(text) == tokenizer.encode(text)


def test_a_character_tokenizer_and_llamas_go_along(tmp_path):
    characters = CharTokenizer.train("hello world\n")
    huggingface.save(characters, tmp_path / "char.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "char.json"))
    ids = characters.encode("low hell\nworld")
    assert theirs.encode("low hell\nworld").ids == ids and theirs.decode(ids) == "low hell\nworld"


@needs_data
@pytest.mark.parametrize("text", ["Once upon a time", "Lily said: \"I'm 7!\"\n\nÄé 日本 🙂", " two  spaces ", "x"])
def test_llama2cs_tokenizer_as_tokenizer_json(tmp_path, text):
    ours = load_tokenizer(f"{DATA}/tok512.bin")
    huggingface.save(ours, tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = ours.encode(text, bos=True)
    assert theirs.encode(text).ids == ids
    assert theirs.decode(ids) == text
    assert load_tokenizer(tmp_path / "tokenizer.json").encode(text) == ids[1:]


@needs_data
def test_the_published_story_in_transformers(tmp_path):
    model, tokenizer = load(f"{DATA}/stories260K.bin", f"{DATA}/tok512.bin")
    model.save_pretrained(tmp_path, tokenizer)
    other, words = transformers.AutoModelForCausalLM.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    prompt = words("Once upon a time", return_tensors="pt")["input_ids"]
    assert prompt[0].tolist() == tokenizer.encode("Once upon a time", bos=True)
    told = other.generate(prompt, max_new_tokens=100, do_sample=False, attention_mask=torch.ones_like(prompt), pad_token_id=0)
    assert words.decode(told[0], skip_special_tokens=True).startswith("Once upon a time, there was a little girl named Lily. She loved to play")
    assert told[0].tolist() == model.generate(prompt[0].numpy(), 100, temperature=0).tolist()
