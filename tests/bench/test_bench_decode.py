"""The race of drawing: that it runs, and what it makes of the figures. Not how fast."""

import sys

import pytest

import tinyllm as tl
from tinyllm.bench import decode
from tinyllm.models.program import program_for


def test_a_small_model_can_be_raced(monkeypatch):
    monkeypatch.setenv("TINYLLM_FUSED", "1")        # what is raced is the compiled step
    monkeypatch.setitem(decode.CONFIGS, "260K", ("stories260k", 4, 1, ("step", "int8", "generate", "sample", "torch", "llama2.c")))
    rows = decode.run(("260K",), rounds=1, torch=False, program="")
    assert [row["contender"] for row in rows] == ["step", "int8", "generate", "sample"] and rows[0]["ratio"] == 1
    assert rows[2]["ratio"] == pytest.approx(rows[0]["tokens_per_second"] / rows[2]["tokens_per_second"])
    assert len(decode.table(rows).splitlines()) >= 5


def test_a_mixture_is_raced_against_its_layers_and_reads_what_its_program_says(monkeypatch):
    monkeypatch.setenv("TINYLLM_FUSED", "1")
    monkeypatch.setitem(decode.CONFIGS, "DS", ("deepseek-2m", 4, 1, ("step", "layers")))
    assert [row["contender"] for row in decode.run(("DS",), rounds=1, torch=False, program="")] == ["step", "layers"]
    model = decode.build("deepseek-2m")
    vectors = sum(p.numpy().nbytes for p in model.parameters() if p.ndim == 1)      # norms, which a program does not count
    assert program_for(model, model.make_cache(1, 4))[0].weights + vectors == decode.read_bytes("deepseek-2m", False)


def test_what_the_program_is_given_are_the_weights_and_a_vocabulary(tmp_path):
    decode.write_weights("stories260k", tmp_path / "weights.bin")
    model, tokenizer = tl.load(tmp_path / "weights.bin")
    own, other = (dict(m.named_parameters()) for m in (decode.build("stories260k"), model))
    assert all((own[name].numpy() == other[name].numpy()).all() for name in own) and tokenizer.vocab_size == 512


def test_no_text_ends_early():
    drawn = decode.build("stories260k").generate([decode.BEGIN], 100, temperature=0)
    assert decode.BEGIN not in drawn[1:]


def test_a_program_is_believed_what_it_says_of_its_speed(tmp_path):
    program = tmp_path / "run"
    program.write_text(f"#!{sys.executable}\nimport sys\nprint('achieved tok/s: 250.0', file=sys.stderr)\n")
    program.chmod(0o755)
    assert decode.llama2c("", "weights.bin", 50, str(program))()["seconds"] == 0.2
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such file')\n")
    with pytest.raises(RuntimeError, match="no such file"):
        decode.llama2c("", "weights.bin", 50, str(program))
