"""Linear, embedding and dropout: what they say, what they leave at zero, how often they drop."""

import numpy as np
import pytest

from tinyllm.engine import Tensor
from tinyllm.engine.random import Generator, manual_seed
from tinyllm.engine.state import fused
from tinyllm.fused import dropout, embedding, linear
from tinyllm.nn import Parameter


def test_linear_explains_shapes():
    weight = Parameter(np.zeros((4, 16)), name="blocks.0.mlp.fc.weight")
    with fused(True), pytest.raises(ValueError, match=r"linear: x \(2, 8\), blocks.0.mlp.fc.weight \(4, 16\), bias \(\): x has 8 features, "
                                         r"weight \(out, in\) expects 16"):
        linear(Tensor(np.zeros((2, 8))), weight)
    with fused(True), pytest.raises(ValueError, match=r"bias \(3,\) does not fit the 4 outputs"):
        linear(np.zeros((2, 16)), weight, np.zeros(3))


def test_a_row_that_is_looked_up_twice_collects_both_gradients_and_an_unused_one_exactly_none():
    table = Tensor(np.zeros((5, 2)), requires_grad=True)
    embedding(np.array([[3, 1], [3, 0]]), table).backward(np.array([[[1.0, 2], [3, 4]], [[10, 20], [5, 6]]]))
    assert table.grad.tolist() == [[5, 6], [3, 4], [0, 0], [11, 22], [0, 0]]


def test_embedding_explains_ids():
    table = Parameter(np.zeros((5, 2)), name="wte.weight")
    with pytest.raises(IndexError, match=r"id 5 at \[0, 1\]; the table wte.weight has the rows 0 to 4"):
        embedding(np.array([[0, 5]]), table)
    with pytest.raises(IndexError, match=r"id -1 at \[0\]"):
        embedding([-1], table)
    with pytest.raises(TypeError, match="ids of dtype float32; expected integers"):
        embedding([0.5], table)


def test_dropout_keeps_the_mean_and_drops_the_share_it_was_given():
    """10^6 draws: both within five standard deviations."""
    x = np.ones((1000, 1000))
    y = dropout(x, 0.25, generator=Generator(0)).numpy()
    dropped = np.mean(y == 0)
    assert abs(dropped - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 1e6)
    assert set(np.unique(y)) == {0.0, 1 / 0.75} and abs(y.mean() - 1) < 5 * np.sqrt(1 / 3 / 1e6)


def test_dropout_drops_the_gradient_of_what_it_dropped():
    x = Tensor(np.ones(1000), requires_grad=True)
    y = dropout(x, 0.5, generator=Generator(1))
    y.backward(np.ones(1000))
    assert np.array_equal(x.grad, y.numpy())


def test_dropout_is_the_identity_when_nothing_is_to_be_dropped():
    x = Tensor(np.ones(3))
    assert dropout(x, 0.0) is x and dropout(x, 0.9, training=False) is x
    with pytest.raises(ValueError, match="p=1"):
        dropout(x, 1)


def test_dropout_draws_from_the_default_generator_unless_given_one():
    manual_seed(5)
    first = dropout(np.ones(50), 0.5).numpy()
    manual_seed(5)
    assert np.array_equal(dropout(np.ones(50), 0.5).numpy(), first)
    assert np.array_equal(dropout(np.ones(50), 0.5, generator=Generator(5)).numpy(), first)
