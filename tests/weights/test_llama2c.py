"""llama2.c's files: its published model tells the published story, every version is read, what is no such file is refused."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from tinyllm.engine.random import Generator
from tinyllm.engine.state import default_dtype, no_grad
from tinyllm.errors import UserError
from tinyllm.load import load
from tinyllm.models import GPT, GPTConfig, Llama, LlamaConfig
from tinyllm.weights import llama2c
from tinyllm.weights.fill import WeightsError
from tinyllm.weights.int8 import dequantize, quantize

CASES = json.loads((Path(__file__).parent / "stories260K.json").read_text())["cases"]      # what llama2.c's program printed
HERE = os.environ.get("TINYLLM_DATA")
needs_data = pytest.mark.skipif(not HERE, reason="needs stories260K.bin and tok512.bin in TINYLLM_DATA")


@pytest.fixture(scope="module")
def story():
    """(model, tokenizer) of the smallest published model."""
    return load(f"{HERE}/stories260K.bin", f"{HERE}/tok512.bin")


def told(model, tokenizer, case, **options):
    ids = tokenizer.encode(case["prompt"], bos=True)
    out = model.generate(ids, case["steps"] + 1 - len(ids), temperature=0, **options)
    return tokenizer.decode(out[1:])


@needs_data
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prompt"])
def test_greedy_text_is_llama2cs(story, case):
    assert told(*story, case) == case["text"]


@needs_data
def test_greedy_text_without_the_cache(story):
    assert told(*story, CASES[0], use_cache=False) == CASES[0]["text"]


@needs_data
def test_exported_to_hugging_face_and_loaded_again(story, tmp_path):
    model, tokenizer = story
    model.save_pretrained(tmp_path / "single", tokenizer)
    again, same = load(tmp_path / "single")
    assert same.encode(CASES[0]["text"]) == tokenizer.encode(CASES[0]["text"]) and same.vocab_size == 512
    assert told(again, same, CASES[1]) == CASES[1]["text"]
    ids = np.array([tokenizer.encode(CASES[0]["text"], bos=True)])
    with default_dtype(np.float64), no_grad():
        wide, _ = load(f"{HERE}/stories260K.bin")
        wide.save_pretrained(tmp_path / "double")
        np.testing.assert_allclose(load(tmp_path / "double")[0](ids).numpy(), wide(ids).numpy(), atol=1e-10)


@needs_data
def test_written_again_it_is_the_same_file_but_for_the_tables_nobody_reads(story, tmp_path):
    model, tokenizer = story
    llama2c.save(model, tmp_path / "model.bin")
    written, original = ((path / name).read_bytes() for path, name in ((tmp_path, "model.bin"), (Path(HERE), "stories260K.bin")))
    tables = 4 * 512 * 8        # 512 positions, heads of 8 numbers: as many bytes for cos and sin as follow
    assert len(written) == 1_056_540 and written[:-tables] == original[:-tables]
    np.testing.assert_allclose(np.frombuffer(written[-tables:], "<f4"), np.frombuffer(original[-tables:], "<f4"), atol=1e-5)
    llama2c.save_tokenizer(tokenizer, tmp_path / "tokenizer.bin")
    assert (tmp_path / "tokenizer.bin").read_bytes() == Path(HERE, "tok512.bin").read_bytes()


# ---- every version, from a small model


SMALL = dict(vocab_size=7, n_layer=2, n_head=4, n_kv_head=2, n_embd=16, block_size=8, ffn_dim=24, rope_interleaved=True)


def small(**changes):
    return Llama(LlamaConfig(**{**SMALL, **changes}), Generator(0)).eval()


def parts(model):
    """The matrices of a model in the order of versions 1 and 2, as export.py lists them."""
    state, layers = model.state_dict(), range(model.config.n_layer)
    yield from (state[f"blocks.{i}.norm1.weight"] for i in layers)
    yield from (state[f"blocks.{i}.norm2.weight"] for i in layers)
    yield state["norm.weight"]
    yield state["wte.weight"]
    for rows in (slice(0, 16), slice(16, 24), slice(24, 32)):
        yield from (state[f"blocks.{i}.attn.qkv.weight"][rows] for i in layers)
    for name in ("attn.proj", "mlp.gate", "mlp.down", "mlp.up"):
        yield from (state[f"blocks.{i}.{name}.weight"] for i in layers)
    if model.head is not None:
        yield state["head.weight"]


def newer(model, version, group=8):
    """A file of version 1 or 2, written as export.py describes it."""
    config = model.config
    header = struct.pack("<Ii7iB", 0x616B3432, version, 16, 24, 2, 4, 2, 7, 8, config.tied) + (struct.pack("<i", group) if version == 2 else b"")
    data = header.ljust(256, b"\0")
    for array in parts(model):
        if version == 1 or array.ndim == 1:
            data += array.tobytes()
            continue
        groups = array.reshape(-1, group)
        scales = np.abs(groups).max(axis=1) / np.float32(127)
        data += np.rint(groups / scales[:, None]).astype(np.int8).tobytes() + scales.tobytes()
    return data


@pytest.mark.parametrize("tied", [True, False])
def test_version_0_comes_back(tmp_path, tied):
    model = small(tied=tied)
    llama2c.save(model, tmp_path / "m.bin")
    back, tokenizer = load(tmp_path / "m.bin")
    assert tokenizer is None
    for name, array in model.state_dict().items():
        assert np.array_equal(back.state_dict()[name], array), name


def test_a_model_of_halved_pairs_is_written_interleaved(tmp_path):
    model = small(rope_interleaved=False)
    llama2c.save(model, tmp_path / "m.bin")
    ids = np.array([[1, 5, 2, 3]])
    np.testing.assert_allclose(llama2c.load(tmp_path / "m.bin")(ids).numpy(), model(ids).numpy(), atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("version", [1, 2])
def test_newer_versions(tmp_path, version, tied):
    model = small(tied=tied)
    (tmp_path / "m.bin").write_bytes(newer(model, version))
    back = llama2c.load(tmp_path / "m.bin").state_dict()
    for name, array in model.state_dict().items():
        step = 0 if version == 1 or array.ndim == 1 else np.abs(array).max() / 127
        assert np.abs(back[name] - array).max() <= 0.5001 * step, name


# ---- what is refused


def test_what_is_no_such_file(tmp_path):
    path = tmp_path / "m.bin"
    whole = newer(small(), 1)
    llama2c.save(small(), path)
    old = path.read_bytes()
    for data, message in [(b"", "0 bytes are not"), (old[:-4], "cut short"), (old + b"\0\0\0\0", "not a llama2.c file"), (whole[:-1], "cut short"),
                          (b"\xff" * 5000, "cannot be width"), (whole[:4] + b"\3\0\0\0" + whole[8:], "version 3"),
                          (struct.pack("<7i", *[2**30] * 7).ljust(999, b"\0"), "heads of size 1|bytes, it has"),
                          (struct.pack("<7i", 2**30, 2**30, 9, 2**20, 2**20, 2**30, 2**30).ljust(999, b"\0"), "bytes, it has 999"),
                          (newer(small(), 2, group=8)[:37] + struct.pack("<i", 7) + b"\0" * 900, "groups of 7")]:
        path.write_bytes(data)
        with pytest.raises(WeightsError, match=message) as error:
            llama2c.load(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("changes, what", [(dict(bias=True), "bias=True"), (dict(window=4), "window=4"), (dict(qk_norm=True), "qk_norm"),
                                           (dict(rope_theta=5e5), "rope_theta"), (dict(head_dim=6), "head_dim=6"), (dict(norm_eps=1e-6), "norm_eps"),
                                           (dict(rope_scaling={"type": "linear", "factor": 2.0}), "rope_scaling")])
def test_what_the_format_cannot_say(tmp_path, changes, what):
    with pytest.raises(UserError, match=what):
        llama2c.save(small(**changes), tmp_path / "m.bin")
    assert not (tmp_path / "m.bin").exists()


def test_other_families(tmp_path):
    with pytest.raises(UserError, match="Llama models, this is a GPT"):
        llama2c.save(GPT(GPTConfig(7, 1, 1, 4, 4)), tmp_path / "m.bin")


def test_its_quantization_is_ours():
    weight = Generator(0).normal(0, 1, (4, 128)).astype(np.float32)
    q, scales = quantize(weight)
    assert scales.shape == (4, 2)
    np.testing.assert_array_equal(dequantize(q, scales), (q.reshape(-1, 64) * scales.reshape(-1, 1)).reshape(4, 128))
