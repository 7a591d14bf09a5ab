"""The race of training steps: what it counts, that it runs, that rounds with foreign load are dropped. Not how fast."""

import json

import pytest

from tinyllm.bench import _contest, step
from tinyllm.cli import main


def test_arithmetic_of_gpt2():
    """124M parameters less 1024 positions of 768: six operations a parameter and token, and causal attention's 12 layers."""
    products = 12 * 12 * 768**2 + 50257 * 768
    assert step.arithmetic("L") == 6 * 256 * products + 12 * 3 * 2 * 768 * 256 * 257


def test_arithmetic_of_llama_counts_fewer_keys():
    """S as Llama with half the key/value heads: 128² for queries and for the way out, half of that twice for keys and values."""
    products = 4 * (3 * 128**2 + 3 * 128 * 352) + 65 * 128
    assert step.arithmetic("SL") == 6 * 768 * products + 12 * 4 * 3 * 2 * 128 * 64 * 65


@pytest.mark.parametrize("name", ["S", "SL", "SD"])
def test_each_family_can_be_raced(name, monkeypatch):
    monkeypatch.setattr(step, "gemm_peak", lambda: 100.0)
    row, = step.run((name,), threads=(1,), rounds=1, torch=False)
    assert row["contender"] == "tinyllm" and row["ratio"] == 1 and row["ms"] > 0 and row["memory_mb"] > 10
    assert row["peak_share"] == pytest.approx(row["gflops"] / 100)
    assert name in step.table([row])


def test_rounds_with_foreign_load_are_dropped_while_enough_are_left():
    class Fake:
        def __init__(self, foreign):
            self.turns = iter(foreign)

        def turn(self):
            return {"seconds": 1.0, "foreign": next(self.turns)}

        def close(self):
            pass

    turns, told = _contest.contest({"a": Fake([0, .5, 0, 0]), "b": Fake([0, 0, 0, .05])}, 4)
    assert told == {"dropped": 1, "disturbed": 0} and len(turns["a"]) == 3
    assert "1 rounds with foreign load dropped" in _contest.note(told)
    turns, told = _contest.contest({"a": Fake([0, .5, .5, 0])}, 4)
    assert told == {"dropped": 0, "disturbed": 2} and len(turns["a"]) == 4


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    ours, theirs = [{"seconds": s} for s in (1, 2, 4)], [{"seconds": s} for s in (3, 4, 20)]
    assert _contest.ratio(theirs, ours) == 3 and _contest.median(ours) == 2


def test_the_command_line_names_what_it_does_not_know(capsys):
    assert main(["bench", "step", "--only", "XXL"]) == 2
    assert "step knows S, M, L, SL, ML, SD, not XXL" in capsys.readouterr().err
    assert main(["bench"]) == 2 and main(["bench", "engine", "--ladder"]) == 2 and main(["bench", "engine", "--compiled"]) == 2


def test_the_ladder_from_the_command_line(capsys, monkeypatch):
    from tinyllm.bench import matmul
    monkeypatch.setattr(matmul, "ladder", lambda rounds=7: [{"step": "naive", "gflops": float(rounds), "share": 1.0}])
    assert main(["bench", "matmul", "--ladder", "--rounds", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["gflops"] == 3
