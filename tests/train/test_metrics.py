"""metrics.jsonl."""

import pytest

from tinyllm.errors import WorkError
from tinyllm.train.metrics import MetricsLog, read_metrics


def test_records_keep_every_bit(tmp_path):
    log = MetricsLog(tmp_path / "m")
    log.write(step=1, loss=0.1 + 0.2)
    log.close()
    assert read_metrics(tmp_path / "m") == [{"step": 1, "loss": 0.30000000000000004}]


def test_a_log_is_cut_back_to_where_it_is_resumed(tmp_path):
    log = MetricsLog(tmp_path / "m")
    log.write(step=1)
    kept = log.sync()
    log.write(step=2)
    log.close()
    log = MetricsLog(tmp_path / "m", keep=kept)
    log.write(step=3)
    log.close()
    assert [record["step"] for record in read_metrics(tmp_path / "m")] == [1, 3]


def test_half_a_line_at_the_end_is_dropped(tmp_path):
    (tmp_path / "m").write_text('{"step": 1}\n{"step": 2')
    assert read_metrics(tmp_path / "m") == [{"step": 1}]


def test_a_log_that_somebody_cut(tmp_path):
    (tmp_path / "m").write_text("{}\n")
    with pytest.raises(WorkError, match="has 3 bytes, 10 were there"):
        MetricsLog(tmp_path / "m", keep=10)
