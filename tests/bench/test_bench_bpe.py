"""The benchmark measures what it says: texts as announced, every figure from a process of its own."""

import pytest

from tinyllm.bench import _bpe_worker, bpe


def test_documents_join_to_the_text_and_end_before_line_ends():
    text = "one two\n\n three\nfour  \nfive " * 50
    parts = _bpe_worker.documents(text, 40)
    assert "".join(parts) == text and len(parts) > 10
    assert all(part.startswith("\n") and not before[-1].isspace() for before, part in zip(parts, parts[1:]))


def test_hostile_texts_are_a_megabyte_and_the_same_each_time():
    texts = dict(bpe.hostile_texts())
    assert texts == dict(bpe.hostile_texts()) and len(texts) == 8
    assert all(850_000 <= len(text.encode()) <= 1_005_000 for text in texts.values())
    assert len(set(texts["one letter"])) == 1 and " " not in texts["letters without a space"]


def test_sixty_bytes():
    assert len(bpe.SHORT.encode()) == 60


def test_a_row_is_the_median_of_rounds_and_peers_are_ratios():
    def figure(seconds, cpu, memory=1):
        return {"seconds": seconds, "cpu": cpu, "memory": memory}

    rounds = [(figure(1, 1), figure(5, 4)), (figure(2, 1), figure(6, 2)), (figure(3, 2), figure(7, 6))]
    row = bpe._Bench.row(None, "work", "peer", 2, rounds, "cpu")
    assert (row["ours"], row["theirs"], row["ratio"]) == (2, 6, 3) and row["target"] == "≥ 2"
    assert bpe._Bench.row(None, "work", "peer", 2, rounds, "seconds")["ratio"] == 3


@pytest.mark.parametrize("task", ["train", "encode", "decode"])
def test_each_task_runs_in_its_own_process(tmp_path, task):
    bench = bpe._Bench(tmp_path, rounds=1)
    job = {"task": task, "path": str(bench.small), "vocab_size": 300, **bench.files}
    figure = bench.measure("tinyllm", job)
    assert 0 < figure["cpu"] and 0 < figure["seconds"] < 60 and figure["memory"] >= 0
