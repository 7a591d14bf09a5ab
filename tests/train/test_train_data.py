import numpy as np
import pytest

from tinyllm.errors import UserError
from tinyllm.train import data
from tinyllm.train.data import DataConfig, TrainingData


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "LONG", 1000)
    path = tmp_path / "text.txt"
    path.write_text("It was a fine day, and the hare ran home. " * 300, encoding="utf-8")
    return path


def config(path, **changes):
    return DataConfig([str(path)], **{"tokenizer": "bpe", "vocab_size": 270, **changes})


def test_a_long_text_is_tokenized_once_and_mapped_from_disk(text, tmp_path, monkeypatch):
    first = TrainingData(config(text))
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 2 and isinstance(first.train_ids, np.memmap) and first.train_ids.dtype == np.uint16
    assert first.tokenizer.decode(first.train_ids.tolist()) == first.train_text
    monkeypatch.setattr(type(first.tokenizer), "encode_stream", lambda *_: pytest.fail("tokenized again"))
    again = TrainingData(config(text), first.tokenizer)
    np.testing.assert_array_equal(again.train_ids, first.train_ids)


def test_another_tokenizer_or_a_changed_text_has_ids_of_its_own(text, tmp_path):
    first = TrainingData(config(text))
    text.write_text(text.read_text(encoding="utf-8").replace("hare", "bear"), encoding="utf-8")
    second = TrainingData(config(text))
    third = TrainingData(config(text, vocab_size=280))
    assert len(list((tmp_path / "cache").iterdir())) == 6
    for each in (first, second, third):
        assert each.tokenizer.decode(each.val_ids.tolist()) == each.val_text


def test_where_nothing_can_be_kept_the_text_is_tokenized_all_the_same(text, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path / "file" / "below"))
    found = TrainingData(config(text))
    assert not isinstance(found.train_ids, np.memmap) and found.tokenizer.decode(found.train_ids.tolist()) == found.train_text


def test_a_short_text_leaves_no_files(text, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "LONG", 10**9)
    TrainingData(config(text))
    assert not (tmp_path / "cache").exists()


def test_splits_and_tokenizers_that_are_not_there_are_refused(text):
    with pytest.raises(UserError, match="expected position or document"):
        config(text, split="middle")
    with pytest.raises(UserError, match="no such file"):
        config(text, tokenizer="tok.json")
