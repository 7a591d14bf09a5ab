"""Windows and their targets: counts from the study, coverage, and exact resumption."""

import json

import numpy as np
import pytest

from tinyllm.engine.random import Generator
from tinyllm.errors import UserError
from tinyllm.text import IGNORE, EpochWindows, EvalWindows, RandomWindows


@pytest.mark.parametrize("make", [
    lambda ids: RandomWindows(ids, 5, 3, Generator(0)),
    lambda ids: EpochWindows(ids, 5, 3, Generator(0)),
    lambda ids: EpochWindows(ids, 5, 3, stride=2),
])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_targets_are_the_inputs_shifted_by_one(make, dtype):
    ids = np.arange(50, dtype=dtype) * 3
    batches = make(ids)
    for _ in range(20):
        x, y = next(batches)
        assert x.shape == y.shape == (3, 5) and x.dtype == y.dtype == np.int64
        assert np.array_equal(y, x + 3) and np.array_equal(x[:, 1:], y[:, :-1])


def test_random_starts_reach_both_ends():
    batches = RandomWindows(np.arange(9), 4, 64, Generator(1))
    starts = np.concatenate([next(batches)[0][:, 0] for _ in range(20)])
    assert set(starts) == {0, 1, 2, 3, 4}


def test_random_starts_are_the_generators_own():
    """nanoGPT draws randint(len(data) - block_size, (batch_size,)); the same numbers come from the same seed."""
    ids = np.arange(1000)
    x, _ = next(RandomWindows(ids, 8, 12, Generator(1337)))
    assert np.array_equal(x[:, 0], Generator(1337).randint(0, 992, (12,)))


@pytest.mark.parametrize("tokens, block, stride, windows", [
    (5145, 4, 4, 1286), (5145, 256, 128, 39), (100, 10, 1, 90), (11, 10, 3, 1), (12, 10, 1, 2)])
def test_window_counts_are_those_of_the_books_loop(tokens, block, stride, windows):
    batches = EpochWindows(np.arange(tokens), block, 1, stride=stride)
    assert batches.windows == windows == len(range(0, tokens - block, stride))


def test_an_epoch_holds_every_window_once():
    batches = EpochWindows(np.arange(101), 10, 3, Generator(5), drop_last=False)
    assert (batches.windows, len(batches)) == (10, 4)
    for epoch in range(3):
        rows = [next(batches) for _ in range(4)]
        assert batches.epoch == epoch
        assert sorted(np.concatenate([x[:, 0] for x, _ in rows])) == list(range(0, 100, 10))


def test_epochs_are_shuffled_anew_and_drop_the_rest():
    batches = EpochWindows(np.arange(201), 10, 3, Generator(5))
    first, second = ([next(batches)[0][:, 0].tolist() for _ in range(6)] for _ in range(2))
    assert first != second and len(batches) == 6 and sum(map(len, first)) == 18


@pytest.mark.parametrize("make", [
    lambda seed: RandomWindows(np.arange(500), 8, 4, Generator(seed)),
    lambda seed: EpochWindows(np.arange(500), 8, 4, Generator(seed), stride=3),
    lambda seed: EpochWindows(np.arange(500), 8, 4),
])
def test_a_saved_state_goes_on_exactly(make):
    batches = make(7)
    for _ in range(53):  # past the end of an epoch
        next(batches)
    saved = json.loads(json.dumps(batches.state_dict()))
    expected = [next(batches) for _ in range(60)]
    again = make(99)
    again.load_state_dict(saved)
    for (x, y), (x2, y2) in zip(expected, again):
        assert np.array_equal(x, x2) and np.array_equal(y, y2)


def test_a_state_of_another_kind_or_text_is_refused():
    random, epoch = RandomWindows(np.arange(50), 4, 2, Generator(0)), EpochWindows(np.arange(50), 4, 2)
    with pytest.raises(UserError, match="random"):
        random.load_state_dict(epoch.state_dict())
    with pytest.raises(UserError, match="another text"):
        epoch.load_state_dict(EpochWindows(np.arange(60), 4, 2).state_dict())


@pytest.mark.parametrize("tokens", [5, 6, 8, 9, 41, 42, 43, 44])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_evaluation_counts_each_target_once(tokens, batch_size):
    windows = EvalWindows(np.arange(tokens), 4, batch_size)
    seen = np.concatenate([y[y != IGNORE] for _, y in windows])
    assert sorted(seen) == list(range(1, tokens)) and windows.targets == tokens - 1
    assert len(list(windows)) == len(windows)
    for x, y in windows:
        assert np.array_equal((x + 1)[y != IGNORE], y[y != IGNORE])


def test_a_limited_evaluation_is_spread_and_fixed():
    windows = EvalWindows(np.arange(1001), 10, 4, limit=10)
    starts = [int(x[row, 0]) for x, _ in windows for row in range(len(x))]
    assert starts == list(range(0, 1000, 100)) and windows.targets == 100
    assert starts == [int(x[row, 0]) for x, _ in windows for row in range(len(x))]


@pytest.mark.parametrize("make", [
    lambda ids: RandomWindows(ids, 64, 4, Generator(0)), lambda ids: EpochWindows(ids, 64, 4), lambda ids: EvalWindows(ids, 64, 4)])
def test_a_text_shorter_than_a_block_tells_both_lengths(make):
    with pytest.raises(UserError, match="64 tokens.*block of 64 takes 65"):
        make(np.arange(64))


def test_other_mistakes():
    with pytest.raises(UserError, match="one row of whole numbers"):
        RandomWindows(np.zeros((4, 4), int), 2, 1, Generator(0))
    with pytest.raises(UserError, match="one row of whole numbers"):
        EvalWindows(np.zeros(40), 2, 1)
    with pytest.raises(UserError, match="do not fill one batch"):
        EpochWindows(np.arange(20), 8, 4)
    with pytest.raises(UserError, match="stride 0"):
        EpochWindows(np.arange(20), 8, 1, stride=0)
    with pytest.raises(UserError, match="at least 1"):
        EvalWindows(np.arange(20), 8, 0)


def test_memory_maps_are_read_in_place(tmp_path):
    path = tmp_path / "ids.bin"
    np.arange(1000, dtype=np.uint16).tofile(path)
    ids = np.memmap(path, np.uint16, mode="r")
    x, y = next(RandomWindows(ids, 16, 4, Generator(0)))
    assert np.array_equal(y, x + 1)
