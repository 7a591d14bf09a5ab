"""The cache: lines, rings, cropping, padding, rows chosen anew."""

import numpy as np
import pytest

from tinyllm.nn import KVCache


def numbers(start, end, batch=1):
    """Keys (B, 1, T, 1) that say which position they are of."""
    return np.broadcast_to(np.arange(float(start), end).reshape(1, 1, -1, 1), (batch, 1, end - start, 1))


def ring(window=3, capacity=20, **options):
    return KVCache(1, 1, 1, capacity, 1, np.float64, streams=1, windows=[window], **options)


def feed(cache, start, end):
    seen, = cache.append(0, numbers(start, end))
    cache.advance(end - start)
    return seen[0, 0, :, 0].tolist()


@pytest.mark.parametrize("steps", [[1] * 12, [5, 1, 1, 1, 4], [2, 2, 2, 1, 1, 1, 3], [12], [3, 3, 3, 1, 1, 1]])
def test_a_ring_holds_what_its_window_sees(steps):
    cache, start = ring(), 0
    for count in steps:
        seen = feed(cache, start, start + count)
        wanted = list(range(max(0, start - 2), start + count))      # of the first new position's window on
        assert seen == wanted if count > 1 else sorted(seen) == wanted
        start += count


def test_a_ring_takes_the_memory_of_its_window():
    assert ring(window=3, capacity=1000).nbytes == 3 * 8
    assert KVCache(2, 1, 4, 100, 8, np.float32, windows=[None, 10]).nbytes == 2 * 4 * 8 * 4 * (100 + 10)
    assert ring(window=50, capacity=20).nbytes == 20 * 8


def test_a_ring_crops_as_far_as_it_remembers():
    cache = ring()
    feed(cache, 0, 3)
    cache.crop(1)
    assert feed(cache, 1, 2) == [0, 1]
    feed(cache, 2, 8)
    cache.crop(7)
    assert sorted(feed(cache, 7, 8)) == [5, 6, 7]
    with pytest.raises(ValueError, match="crop to 6 after 8 positions: a layer with a window of 3"):
        cache.crop(6)
    cache.crop(0)
    assert feed(cache, 0, 1) == [0]


def test_a_line_crops_to_anywhere():
    cache = KVCache(1, 1, 1, 9, 1, np.float64, streams=1)
    feed(cache, 0, 8)
    cache.crop(2)
    assert feed(cache, 2, 4) == [0, 1, 2, 3]
    cache.crop(100)
    assert cache.length == 4


@pytest.mark.parametrize("window", [None, 3])
def test_padding_is_no_position_and_is_not_seen(window):
    """Row 1 has two empty slots: its positions start at 0 behind them, and no real query of it sees them."""
    cache = KVCache(1, 2, 1, 12, 1, np.float64, streams=1, windows=[window], pad=[0, 2])
    start = 0
    for count in (4, 1, 1, 3, 1):
        positions, mask = cache.positions(count), cache.mask(0, count)
        slots = np.arange(start, start + count)
        assert positions.tolist() == [slots.tolist(), np.maximum(slots - 2, 0).tolist()]
        seen, = cache.append(0, numbers(start, start + count, batch=2))
        keys = seen[1, 0, :, 0]
        assert mask.shape == (2, 1, count, len(keys)) and not mask[0].any()
        for i, slot in enumerate(slots):
            assert mask[1, 0, i].tolist() == [slot >= 2 and key < 2 for key in keys]
        cache.advance(count)
        start += count


def test_no_padding_needs_no_mask():
    cache = KVCache(1, 2, 1, 4, 1, pad=[0, 0])
    assert cache.mask(0, 2) is None and cache.positions(2).tolist() == [0, 1]


def test_rows_can_be_chosen_anew():
    cache = KVCache(1, 3, 1, 4, 1, np.float64, streams=1, pad=[0, 1, 2])
    cache.append(0, np.arange(3.0).reshape(3, 1, 1, 1))
    cache.advance(1)
    cache.select([2, 0, 2, 1])
    assert cache.batch == 4 and cache.pad.tolist() == [2, 0, 2, 1]
    seen, = cache.append(0, np.zeros((4, 1, 1, 1)))
    assert seen[:, 0, 0, 0].tolist() == [2, 0, 2, 1]
