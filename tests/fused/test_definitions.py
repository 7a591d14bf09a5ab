"""Every fused operation beside its definition: values and gradients, on the operation's own samples."""

import numpy as np
import pytest

from tinyllm.engine import STATE, Tensor, primitives
from tinyllm.engine.state import fused
from tinyllm.fused._op import NOWHERE, Fused

OPERATIONS = [p for p in primitives.values() if issubclass(p, Fused)]
TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}


def in_dtype(value, dtype):
    return value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


def samples(operation, dtype):
    """(inputs, attributes) of each sample; array inputs that have a rule are tensors that want gradients."""
    for sample in operation.samples(np.random.default_rng(0)):
        *inputs, attributes = sample if isinstance(sample[-1], dict) else (*sample, {})
        inputs = [in_dtype(x, dtype) for x in inputs]
        names = [*operation.inputs, *operation.inputs[-1:] * len(inputs)]
        inputs = [Tensor(x, requires_grad=True) if n in operation.differentiable and isinstance(x, np.ndarray) else x
                  for n, x in zip(names, inputs)]
        yield inputs, {k: in_dtype(v, dtype) for k, v in attributes.items()}


def run(operation, inputs, attributes, kernels):
    """(result, gradients) under a random cotangent, which a sum of ones would not replace."""
    with fused(kernels):
        y = operation.apply(*inputs, **attributes)
    wanting = [x for x in inputs if isinstance(x, Tensor)]
    for x in wanting:
        x.grad = None
    y.backward(np.random.default_rng(1).normal(size=y.shape).astype(y.dtype))
    return y, [x.grad for x in wanting]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda p: p.name)
def test_fast_path_equals_definition(operation, dtype):
    tolerance = TOLERANCE[dtype]
    for inputs, attributes in samples(operation, dtype):
        y, gradients = run(operation, inputs, attributes, True)
        expected, expected_gradients = run(operation, inputs, attributes, False)
        assert y.node.primitive is operation and expected.node.primitive is not operation
        assert y.dtype == expected.dtype == dtype and y.shape == expected.shape
        np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=tolerance, atol=tolerance)
        assert gradients
        for got, want in zip(gradients, expected_gradients):
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * max(1, np.abs(want).max(initial=0)))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda p: p.name)
def test_inputs_and_cotangent_are_left_alone_and_the_walk_can_be_repeated(operation):
    for inputs, attributes in samples(operation, np.float64):
        copies = [np.array(x.data if isinstance(x, Tensor) else x) for x in inputs]
        y = operation.apply(*inputs, **attributes)
        g = np.random.default_rng(1).normal(size=y.shape)
        before, passes = g.copy(), []
        for retain in (True, False):
            for x in inputs:
                if isinstance(x, Tensor):
                    x.grad = None
            y.backward(g, retain_graph=retain)
            passes.append([x.grad for x in inputs if isinstance(x, Tensor)])
        assert np.array_equal(g, before)
        for x, copy in zip(inputs, copies):
            assert np.array_equal(x.data if isinstance(x, Tensor) else x, copy)
        for first, second in zip(*passes):
            assert np.array_equal(first, second)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda p: p.name)
def test_without_a_graph_the_result_is_the_same_and_nothing_is_kept(operation):
    inputs, attributes = next(samples(operation, np.float64))
    recorded = operation.apply(*inputs, **attributes)
    STATE.grad = False
    try:
        bare = operation.apply(*inputs, **attributes)
    finally:
        STATE.grad = True
    assert bare.node is None and np.array_equal(bare.numpy(), recorded.numpy())
    NOWHERE.anything = 1
    assert not hasattr(NOWHERE, "anything")
