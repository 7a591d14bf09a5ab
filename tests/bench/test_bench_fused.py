"""The race of fused operations runs, each against its own definition, and counts what is multiplied. Not how fast."""

import pytest

from tinyllm.bench import _operations, fused, step
from tinyllm.fused._op import Fused


def test_operations_can_be_raced(monkeypatch):
    monkeypatch.setattr(step, "gemm_peak", lambda: 100.0)
    rows = fused.run(("linear", "rms_norm", "adamw", "dropout"), rounds=1, torch=False)
    assert [(row["case"], row["contender"]) for row in rows] == [
        *((name, who) for name in ("linear", "rms_norm", "adamw") for who in ("kernels", "definition")), ("dropout", "definition")]
    assert all(row["ms"] > 0 and row["memory_mb"] > 10 for row in rows) and rows[0]["ratio"] == rows[-1]["ratio"] == 1
    assert rows[0]["gflops"] == pytest.approx(6e-6 * 768 * 128 * 512 / rows[0]["ms"]) and rows[0]["peak_share"] == pytest.approx(rows[0]["gflops"] / 100)
    assert rows[2]["gflops"] is None and len(fused.table(rows).splitlines()) >= 8


def test_every_fused_operation_is_raced():
    assert {operation.name for operation in Fused.__subclasses__() if operation.__module__.startswith("tinyllm.")} <= set(fused.CONFIGS)


def test_attention_is_counted_as_a_training_step_counts_it():
    """What two models of one layer differ by, when one of them attends to positions and the other has none to attend to."""
    products = 6 * 4096 * (12 * 384**2 + 4096 / 6 * 384)
    assert 6 * _operations.arithmetic("self_attention") == pytest.approx(step.arithmetic("M") - 6 * products)
    assert _operations.arithmetic("attention_long") == _operations.arithmetic("self_attention")


def test_latent_attention_is_counted_by_the_numbers_each_way_handles():
    """The absorbed way: 64 numbers of a latent go by 24 + 32 for each new token and head, and 64 + 8 + 64 are met for each pair."""
    pairs = sum(range(249, 257))
    assert _operations.arithmetic("latent_absorbed") == 6 * 12 * 4 * (8 * 64 * (24 + 32) + pairs * (64 + 8 + 64))
    assert _operations.arithmetic("latent_attention") == 6 * 12 * 4 * (64 * 64 * (24 + 32) + 64 * 65 // 2 * (24 + 8 + 32))
