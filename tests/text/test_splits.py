"""Nothing is shared between training and validation, and the cuts are where the study has them."""

import numpy as np
import pytest

from tinyllm.errors import UserError
from tinyllm.text import split_documents, split_position, tales


@pytest.mark.parametrize("length, fraction, cut", [
    (63_204, 0.15, 53_723),    # the study's Chopin extract
    (704_415, 0.15, 598_752),  # the study's Pride and Prejudice
    (1_115_394, 0.1, 1_003_854),  # nanoGPT's tiny Shakespeare: its README counts 1,003,854 and 111,540
    (10, 0.9, 1), (10, 0.7, 3), (2, 0.5, 1),
])
def test_one_cut(length, fraction, cut):
    train, val = split_position(np.arange(length), fraction)
    assert len(train) == cut
    assert np.array_equal(np.concatenate([train, val]), np.arange(length))


@pytest.mark.parametrize("items, fraction", [("", 0.5), ("a", 0.5), ("ab", 0.999), ("abcd", 0), ("abcd", 1), ("abcd", float("nan"))])
def test_no_side_may_be_empty(items, fraction):
    with pytest.raises(UserError):
        split_position(items, fraction)


def test_documents_are_not_shared_even_when_repeated():
    documents = [f"line {n % 37}" for n in range(500)]
    train, val = split_documents(documents, 0.2, seed=3)
    assert not set(train) & set(val)
    assert sorted(train + val) == sorted(documents)
    assert 0.2 <= sum(map(len, val)) / sum(map(len, documents)) < 0.2 + 1 / 30


def test_the_order_of_the_text_is_kept_and_the_seed_decides():
    documents = [f"{n:04}" for n in range(1000)]
    train, val = split_documents(documents, 0.1, seed=1)
    assert train == sorted(train) and val == sorted(val) and len(val) == 100
    assert (train, val) == split_documents(iter(documents), 0.1, seed=1)
    assert val != split_documents(documents, 0.1, seed=2)[1]


@pytest.mark.parametrize("documents", [[], ["a"], ["a", "a", "a"]])
def test_too_few_documents(documents):
    with pytest.raises(UserError, match="documents"):
        split_documents(documents, 0.5)


def test_tales_stay_whole_and_their_nats_add_up():
    whole = tales.corpus(20_000)
    sides = split_documents(whole.strip("\n").split("\n\n"), 0.25)
    nats = [tales.surprisal("\n\n".join(side) + "\n").nats for side in sides]
    assert sum(nats) == pytest.approx(tales.surprisal(whole).nats, rel=1e-12)
