"""The race of fused operations runs, each against its own definition. Not how fast."""

from tinyllm.bench import fused


def test_operations_can_be_raced(monkeypatch):
    rows = fused.run(("linear", "attention"), rounds=1, torch=False)
    assert [(row["case"], row["contender"]) for row in rows] == [
        (name, who) for name in ("linear", "attention") for who in ("kernels", "definition")]
    assert all(row["ms"] > 0 for row in rows) and rows[0]["ratio"] == 1
    assert len(fused.table(rows).splitlines()) >= 5
