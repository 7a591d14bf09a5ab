import numpy as np
import pytest

import tinyllm as tl
from tinyllm import Primitive, Tensor, primitives


@pytest.fixture
def registry():
    before = set(primitives)
    yield primitives
    for name in set(primitives) - before:
        del primitives[name]


def test_defining_a_primitive_registers_it_under_snake_case(registry):
    class ScaledShift(Primitive):
        """y = scale * a + b"""
        def forward(a, b, *, scale=2.0): return scale * a + b
        def grad_a(g, scale): return g * scale
        def grad_b(g): return g

    assert registry["scaled_shift"] is ScaledShift
    assert ScaledShift.inputs == ("a", "b") and ScaledShift.attributes == ("scale",)
    assert ScaledShift.rules == {"a": "g * scale", "b": "g"}
    x = Tensor(np.ones(2), requires_grad=True)
    ScaledShift.apply(x, np.ones(2), scale=3.0).sum().backward()
    ScaledShift.apply(x, 1.0).sum().backward()
    assert x.grad.tolist() == [5, 5]


def test_the_text_of_a_rule_is_the_source_that_runs():
    assert primitives["matmul"].rules == {"a": "product(g, b.mT)", "b": "product(a.mT, g)"}
    assert primitives["multiply"].rules == {"a": "g * b", "b": "g * a"}
    assert primitives["divide"].rules["b"] == "-g * y / b"
    for name, primitive in primitives.items():
        for rule in primitive.rule_list:
            assert rule.text and "(source not available)" != rule.text and not rule.text.startswith("return"), name


def test_an_input_without_a_rule_carries_no_gradient():
    assert primitives["where"].differentiable == {"a", "b"}
    mask = Tensor(np.array([1.0, 0.0]), requires_grad=True)
    y = tl.ops.where(mask, Tensor(np.ones(2), requires_grad=True), 0.0)
    y.sum().backward()
    assert mask.grad is None
    assert not tl.ops.where(mask, 1.0, 0.0).requires_grad


def test_rules_of_inputs_that_need_no_gradient_do_not_run(registry):
    class Once(Primitive):
        """Counts its calls."""
        calls = []
        def forward(a, b): return a + b
        def grad_a(g): Once.calls.append("a"); return g
        def grad_b(g): Once.calls.append("b"); return g

    Once.apply(Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2))).sum().backward()
    assert Once.calls == ["a"]


def test_a_rule_may_read_through_a_lambda_or_comprehension(registry):
    class Comprehending(Primitive):
        """y = a * b, its rule written in a roundabout way"""
        def forward(a, b): return a * b
        def grad_a(g, b): return np.array([(lambda i: g[i] * b[i])(i) for i in range(len(g))])

    x = Tensor(np.ones(2), requires_grad=True)
    Comprehending.apply(x, np.array([3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [3, 4]


def test_a_rule_that_asks_for_an_unknown_name_is_refused_at_definition(registry):
    with pytest.raises(TypeError, match="asks for 'x'"):
        class Wrong(Primitive):
            """."""
            def forward(a): return a
            def grad_a(g, x): return g
    with pytest.raises(TypeError, match="forward has no input 'c'"):
        class Wronger(Primitive):
            """."""
            def forward(a): return a
            def grad_c(g): return g


def test_functions_have_forward_s_signature_and_take_attributes_by_position():
    import inspect
    assert str(inspect.signature(tl.ops.sum)) == "(a, axis=None, keepdims=False)"
    assert tl.ops.sum.__doc__ == primitives["sum"].__doc__
    x = Tensor(np.ones((2, 3)))
    assert tl.ops.sum(x, 0).shape == tl.ops.sum(x, axis=0).shape == (3,)
    assert tl.ops.sum(x, 1, True).shape == (2, 1)
    with pytest.raises(TypeError, match="arguments were given"):
        tl.ops.exp(x, 1)
    with pytest.raises(TypeError):
        tl.ops.sum(x, axes=0)


def test_every_primitive_of_ops_is_a_function_there():
    ours = [p for p in primitives.values() if p.__module__.startswith("tinyllm.ops.")]
    assert len(ours) > 40
    for primitive in ours:
        assert callable(getattr(tl.ops, primitive.name)), primitive.name


@pytest.mark.parametrize("make, message", [
    (lambda x, w: x @ w, "matmul: x (8, 16) @ fc.weight (4, 16): inner sizes 16 and 4 differ; did you mean fc.weight.T?"),
    (lambda x, w: x.T @ w.T, "matmul: x.T (16, 8) @ fc.weight.T (16, 4): inner sizes 8 and 16 differ; did you mean x?"),
    (lambda x, w: x + w, "add: x (8, 16) + fc.weight (4, 16): axis -2 is 8 against 4; lengths must be equal, or one of them 1"),
    (lambda x, w: x * np.ones(8), "multiply: x (8, 16) * b (8,): axis -1 is 16 against 8; did you mean b.reshape(8, 1)?"),
    (lambda x, w: tl.ops.concatenate([x, w.T]), "concatenate: x (8, 16), fc.weight.T (16, 4)"),
    (lambda x, w: x.reshape(7, 3), "reshape: x (8, 16), shape=(7, 3): cannot reshape"),
    (lambda x, w: x.sum(axis=5), "sum: x (8, 16), axis=5: axis 5 is out of bounds"),
    (lambda x, w: x @ np.float64(2.0), "matmul: x (8, 16) @ b (): a scalar has no matrix product; use *"),
])
def test_shape_errors_name_the_op_the_operands_and_the_likely_mend(make, message):
    x, w = Tensor(np.ones((8, 16)), name="x"), Tensor(np.ones((4, 16)), name="fc.weight")
    with pytest.raises(ValueError) as caught:
        make(x, w)
    assert message in str(caught.value)


def test_a_vector_times_a_matrix_keeps_its_name_in_the_message():
    with pytest.raises(tl.engine.ShapeError, match=r"v \(1, 3\) @ w \(4, 2\)"):
        Tensor(np.ones(3), name="v") @ Tensor(np.ones((4, 2)), name="w")
