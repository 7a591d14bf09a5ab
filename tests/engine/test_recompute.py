"""Recomputing: the gradients of the function itself, bit for bit, from a graph that keeps only the inputs."""

import tracemalloc

import numpy as np
import pytest

import tinyllm as tl
from tinyllm import Tensor, nn
from tinyllm.engine import STATE, guards, primitives
from tinyllm.engine.random import Generator, default_generator, manual_seed


def leaf(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


def test_gradients_of_inputs_and_of_parameters_inside_are_the_same_bits():
    layer, kept = nn.Linear(4, 4), []
    for again in (False, True):
        x, y = leaf(3, 4).astype(np.float32).detach(), leaf(3, 4, seed=1).astype(np.float32).detach()
        x.requires_grad = y.requires_grad = True
        layer.zero_grad()
        function = lambda x, y: (layer(x) * y).tanh() + x       # noqa: E731
        result = tl.recompute(function, x, y) if again else function(x, y)
        (result * result).sum().backward()
        kept.append([result.numpy(), x.grad, y.grad, *[p.grad for p in layer.parameters()]])
    assert all(np.array_equal(a, b) for a, b in zip(*kept))


def test_what_was_drawn_is_drawn_again_and_the_stream_goes_on():
    for generators, source in ((None, default_generator()), ((Generator(5),), None)):
        source = source or generators[0]
        manual_seed(1)
        x, start = leaf(100), source.get_state()
        y = tl.recompute(lambda x: tl.F.dropout(x, 0.5, generator=source), x, generators=generators)
        after = source.get_state()
        assert after != start
        source.rand(7)
        ahead = source.get_state()
        y.sum().backward()
        assert source.get_state() == ahead
        assert np.array_equal(x.grad * x.numpy(), y.numpy()) and 20 < np.count_nonzero(x.grad) < 80


def test_parameters_inside_learn_even_if_no_input_does():
    layer = nn.Linear(2, 2)
    tl.recompute(layer, Tensor(np.ones((1, 2), np.float32))).sum().backward()
    assert layer.weight.grad.tolist() == [[1, 1], [1, 1]]


def test_without_a_graph_it_is_the_function():
    x = leaf(3)
    with tl.no_grad():
        y = tl.recompute(lambda x: x * x, x)
    assert y.node is None and np.array_equal(y.numpy(), x.numpy()**2)


def test_no_grad_inside_stays_no_grad():
    x = leaf(3)

    def function(x):
        with tl.no_grad():
            factor = x * x
        return factor * x

    tl.recompute(function, x).sum().backward()
    np.testing.assert_allclose(x.grad, x.numpy()**2, rtol=1e-15)
    assert STATE.grad


def test_inside_another():
    x, calls = leaf(3), []

    def inner(x):
        calls.append(STATE.grad)
        return x.tanh()

    tl.recompute(lambda x: tl.recompute(inner, x) * 2, x).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * (1 - np.tanh(x.numpy())**2), rtol=1e-15)
    assert calls == [False, False, True]        # without a graph, again as the outer one's input alone, and with its own


def test_the_switches_are_those_of_the_first_time():
    x, seen, before = leaf(2), [], (STATE.fused, STATE.dtype)

    def function(x):
        seen.append((STATE.fused, STATE.dtype))
        return tl.F.softmax(x * Tensor([1.0, 2.0]), axis=-1)

    with tl.fused(False), tl.default_dtype(np.float64):
        y = tl.recompute(function, x)
    y.sum().backward()
    assert seen == [(False, np.float64)] * 2 and (STATE.fused, STATE.dtype) == before


def test_a_graph_that_is_kept_can_be_walked_twice():
    x = leaf(3)
    y = tl.recompute(lambda x: x * x * x, x).sum()
    y.backward(retain_graph=True)
    first = x.grad.copy()
    y.backward()
    assert np.array_equal(x.grad, 2 * first)


def test_a_constant_has_no_gradient():
    x = leaf(3)
    tl.recompute(lambda x: Tensor(np.ones(3)), x).sum().backward()
    assert x.grad.tolist() == [0, 0, 0]


def test_an_error_inside_leaves_nothing_behind():
    x, calls = leaf(3), []

    def fails_later(x):
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("the second time")
        return x * x

    y = tl.recompute(fails_later, x).sum()
    state = default_generator().get_state()
    with pytest.raises(KeyError, match="the second time"):
        y.backward()
    assert STATE.grad and default_generator().get_state() == state
    del y
    assert not [key for key in guards.counts if key == id(x.data)]


def test_memory_of_a_chain_is_that_of_one_link():
    """20 links of 10 tanh each over 100,000 numbers: 200 results of 0.8 MB are 160 MB, one link and 20 inputs are 24."""
    def link(x):
        for _ in range(10):
            x = x.tanh()
        return x

    def peak(again):
        x = Tensor(np.zeros(100_000), requires_grad=True)
        tracemalloc.start()
        y = x
        for _ in range(20):
            y = tl.recompute(link, y) if again else link(y)
        y.sum().backward()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (x.grad == 1).all()
        return top / 1e6

    assert peak(False) > 155 and peak(True) < 32


def test_it_is_a_primitive_like_others():
    assert primitives["recompute"].rules == {"inputs": "call.gradients(g, inputs)"}
