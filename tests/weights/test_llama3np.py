"""llama3.np's files: the layout it loads is read, archives that lie or hold objects are refused."""

import json
import zipfile

import numpy as np
import pytest

from tinyllm.engine.random import Generator
from tinyllm.load import load
from tinyllm.models import Llama, LlamaConfig
from tinyllm.weights import llama3np
from tinyllm.weights.fill import WeightsError

CONFIG = LlamaConfig(512, 5, 8, 64, 256, n_kv_head=4, ffn_dim=172, tied=False, norm_eps=1e-6, rope_interleaved=True)     # the sizes of stories260K


@pytest.fixture
def model():
    return Llama(CONFIG, Generator(0)).eval()


def arrays_of(model):
    """Its tensors by the names that llama3.py asks for."""
    state = model.state_dict()
    arrays = {"model.embed_tokens.weight": state["wte.weight"], "model.norm.weight": state["norm.weight"], "lm_head.weight": state["head.weight"]}
    for layer in range(model.config.n_layer):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        for name, rows in (("q", slice(0, 64)), ("k", slice(64, 96)), ("v", slice(96, 128))):
            arrays[f"{theirs}self_attn.{name}_proj.weight"] = state[f"{ours}attn.qkv.weight"][rows]
        for a, b in (("self_attn.o_proj", "attn.proj"), ("mlp.gate_proj", "mlp.gate"), ("mlp.up_proj", "mlp.up"), ("mlp.down_proj", "mlp.down"),
                     ("input_layernorm", "norm1"), ("post_attention_layernorm", "norm2")):
            arrays[f"{theirs}{a}.weight"] = state[f"{ours}{b}.weight"]
    return arrays


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_its_weights_are_read_unpermuted(model, tmp_path, write):
    write(tmp_path / "m.npz", **arrays_of(model))
    back, tokenizer = load(tmp_path / "m.npz")
    assert tokenizer is None and back.config.n_head == 8 and back.config.n_kv_head == 4
    for name, array in model.state_dict().items():
        assert np.array_equal(back.state_dict()[name], array), name


def test_its_tokenizer_beside_it(model, tmp_path):
    np.savez(tmp_path / "m.npz", **arrays_of(model))
    tokens = ["<unk>", "<s>", "</s>"] + [chr(byte) for byte in range(256)] + [" ", "a", "b", "ab", " ab"]
    tokens += [f"x{i}" for i in range(512 - len(tokens))]
    scores = [0.0] * 259 + [-float(i) for i in range(512 - 259)]
    (tmp_path / "tokenizer.model.np").write_text(json.dumps({"tokens": tokens, "scores": scores}))
    _, tokenizer = load(tmp_path / "m.npz")
    assert tokenizer.encode("ab") == [263] and tokenizer.encode("é") == [259, 3 + 0xC3, 3 + 0xA9]
    assert tokenizer.decode(tokenizer.encode("ab é")) == "ab é"


def test_sizes_nobody_published_need_the_number_of_heads(tmp_path):
    model = Llama(LlamaConfig(9, 1, 2, 8, 256, ffn_dim=8, rope_interleaved=True))
    arrays = {"model.embed_tokens.weight": np.ones((9, 8), np.float32), "model.norm.weight": np.ones(8, np.float32)}
    for name, shape in (("self_attn.q_proj", (8, 8)), ("self_attn.k_proj", (8, 8)), ("self_attn.v_proj", (8, 8)), ("self_attn.o_proj", (8, 8)),
                        ("mlp.gate_proj", (8, 8)), ("mlp.up_proj", (8, 8)), ("mlp.down_proj", (8, 8)), ("input_layernorm", (8,)),
                        ("post_attention_layernorm", (8,))):
        arrays[f"model.layers.0.{name}.weight"] = np.ones(shape, np.float32)
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(WeightsError, match="does not say how many heads"):
        load(tmp_path / "m.npz")
    assert llama3np.load(tmp_path / "m.npz", n_head=2).num_params() == model.num_params()


def test_what_does_not_fit_is_listed(model, tmp_path):
    arrays = arrays_of(model)
    arrays["extra"] = arrays.pop("model.norm.weight")
    arrays["lm_head.weight"] = np.ones((512, 63), np.float32)
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(WeightsError, match=r"missing \(1\): model.norm.weight.*unexpected \(1\): extra.*lm_head.weight \(512, 63\), expected \(512, 64\)"):
        load(tmp_path / "m.npz")


class Trap:
    """Would leave a file behind if anybody unpickled it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_objects_are_not_touched(model, tmp_path):
    arrays = arrays_of(model)
    np.savez(tmp_path / "m.npz", **arrays, trap=np.array([Trap(tmp_path / "sprung")], object))
    with pytest.raises(WeightsError, match="tensor 'trap' of dtype object"):
        load(tmp_path / "m.npz")
    assert not (tmp_path / "sprung").exists()


def test_archives_that_lie(model, tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(b"PK\3\4 not a zip")
    with pytest.raises(WeightsError, match="is not a .npz"):
        load(path)
    np.savez_compressed(path, **{"model.embed_tokens.weight": np.zeros((1000, 1000), np.float32)})
    with pytest.raises(WeightsError, match="does not take the .* bytes"):
        load(path)
    np.savez(tmp_path / "whole.npz", **arrays_of(model))
    with zipfile.ZipFile(tmp_path / "whole.npz") as whole, zipfile.ZipFile(path, "w") as cut:
        for member in whole.infolist():
            data = whole.read(member)
            cut.writestr(member.filename, data[:-8] if "norm" in member.filename else data)
    with pytest.raises(WeightsError, match="does not take the .* bytes"):
        load(path)
    path.write_bytes((tmp_path / "whole.npz").read_bytes()[:5000])
    with pytest.raises(WeightsError, match="is not a .npz"):
        load(path)
