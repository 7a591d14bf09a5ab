"""The race of drawing: that it runs, and what it makes of the figures. Not how fast."""

import sys

import pytest

from tinyllm.bench import decode


def test_the_small_model_can_be_raced(monkeypatch):
    monkeypatch.setitem(decode.CONFIGS, "260K", ("stories260k", 4))
    rows = decode.run(("260K",), rounds=1, torch=False, program="")
    assert [row["contender"] for row in rows] == ["model", "generate"] and rows[0]["ratio"] == 1
    assert rows[1]["ratio"] == pytest.approx(rows[0]["tokens_per_second"] / rows[1]["tokens_per_second"])
    assert len(decode.table(rows).splitlines()) >= 3


def test_a_program_is_believed_what_it_says_of_its_speed(tmp_path):
    program = tmp_path / "run"
    program.write_text(f"#!{sys.executable}\nimport sys\nprint('achieved tok/s: 250.0', file=sys.stderr)\n")
    program.chmod(0o755)
    assert decode.llama2c("", "", 50, str(program))() == {"seconds": 0.2}
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such file')\n")
    with pytest.raises(RuntimeError, match="no such file"):
        decode.llama2c("", "", 50, str(program))
