"""Every primitive in the registry: samples, derivatives, the forward itself, single precision, slopes at kinks."""

import importlib
import pkgutil

import numpy as np
import pytest
import tinyllm as tl
from references import REFERENCES
from subgradients import SUBGRADIENTS
from tinyllm.engine.gradcheck import gradcheck, gradcheck_registry, primitive_rows

for module in pkgutil.walk_packages(tl.__path__, "tinyllm."):      # a primitive is in the registry once it is imported
    if module.name.split(".")[1] in ("ops", "fused"):
        importlib.import_module(module.name)

NAMES = sorted(name for name, p in tl.primitives.items() if p.__module__.startswith("tinyllm."))     # not those of other tests
OWN = sorted(name for name, p in tl.primitives.items() if p.__module__.startswith("tinyllm.ops."))


def samples(name):
    """(arrays, attributes) of each sample of a primitive."""
    for sample in tl.primitives[name].samples(np.random.default_rng(0)):
        yield (sample[:-1], sample[-1]) if isinstance(sample[-1], dict) else (sample, {})


def test_registry_holds_what_a_language_model_is_made_of():
    expected = """add subtract multiply divide negate power exp log sqrt tanh sigmoid erf relu abs clip maximum minimum where sin cos
        sum mean var max min logsumexp cumsum reshape transpose swapaxes broadcast_to expand_dims squeeze concatenate stack pad flip
        roll getitem take take_along_axis scatter_add masked_fill matmul einsum""".split()
    assert set(expected) <= set(OWN)


@pytest.mark.parametrize("name", NAMES)
def test_a_primitive_has_samples(name):
    assert hasattr(tl.primitives[name], "samples"), f"{name} has no samples(rng): nothing would check its rules"
    assert any(True for _ in samples(name))


@pytest.mark.parametrize("name", NAMES)
def test_rules_are_the_derivatives_of_the_forward(name):
    report = gradcheck(name)
    assert report.ok and report.entries > 0
    checked = {row.name.split("[")[0] for row in report.rows if row.status == "ok" and row.entries}
    assert tl.primitives[name].differentiable <= checked | {"x"}
    if tl.primitives[name].analytic:
        assert any(row.test == "complex step" and row.entries for row in report.rows)


def test_the_whole_registry_is_checked_in_seconds():
    report = gradcheck_registry(NAMES)
    assert report.ok
    assert sorted(report.reports) == NAMES
    assert report.seconds < 10


@pytest.mark.parametrize("name", OWN)
def test_forward_equals_a_plain_loop(name):
    for arrays, attributes in samples(name):
        y = tl.primitives[name].apply(*arrays, **attributes).numpy()
        expected = REFERENCES[name](*[np.asarray(a) for a in arrays], **attributes)
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-13)


def test_a_plain_loop_for_every_primitive():
    assert sorted(REFERENCES) == OWN


@pytest.mark.parametrize("name", [name for name in NAMES if tl.primitives[name].__module__.startswith("tinyllm.fused.")])
def test_fused_primitives_stand_beside_their_definition(name):
    assert callable(getattr(tl.primitives[name], "definition", None))


@pytest.mark.parametrize("name", OWN)
def test_single_precision_agrees_with_double(name):
    """At most 32 roundings of the largest number involved apart, values and gradients."""
    for arrays, attributes in samples(name):
        single = [np.asarray(a, np.float32) if np.asarray(a).dtype == np.float64 else a for a in arrays]
        double = [np.asarray(a, np.float64) if np.asarray(a).dtype == np.float32 else a for a in single]
        results = []
        for inputs in (single, double):
            leaves = [tl.Tensor(a, requires_grad=True) if np.asarray(a).dtype.kind == "f" else a for a in inputs]
            y = tl.primitives[name].apply(*leaves, **{k: np.asarray(inputs[0]).dtype if k == "dtype" else v for k, v in attributes.items()})
            g = np.random.default_rng(2).normal(size=y.shape).astype(np.float32).astype(y.dtype)
            y.backward(g)
            results.append([y.numpy(), *[x.grad for x in leaves if isinstance(x, tl.Tensor) and x.grad is not None]])
        numbers = [np.abs(a[np.abs(a) < 1e8]).max(initial=1) for a in (g, *results[1], *[np.asarray(x, float) for x in double])]
        for one, two in zip(*results):
            assert one.dtype == np.float32 and two.dtype == np.float64
            assert np.abs(one - two).max(initial=0) <= 32 * np.finfo(np.float32).eps * max(numbers)


@pytest.mark.parametrize("name, inputs, attributes, position, expected", SUBGRADIENTS)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_documented_subgradient(name, inputs, attributes, position, expected):
    leaves = [tl.Tensor(np.array(x), requires_grad=True) for x in inputs]
    y = tl.primitives[name].apply(*leaves, **attributes)
    y.backward(np.ones(y.shape))
    np.testing.assert_array_equal(leaves[position].grad, expected)


def test_what_is_not_chosen_gets_no_gradient_even_of_nan():
    a, b = (tl.Tensor(np.array([1.0, 2.0]), requires_grad=True) for _ in range(2))
    tl.ops.where(np.array([True, False]), a, b).backward(np.array([np.nan, 1.0]))
    np.testing.assert_array_equal(a.grad, [np.nan, 0.0])
    np.testing.assert_array_equal(b.grad, [0.0, 1.0])
    c = tl.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    tl.ops.masked_fill(c, np.array([True, False]), value=0.0).backward(np.array([np.nan, 1.0]))
    np.testing.assert_array_equal(c.grad, [0.0, 1.0])


ONE_OPERAND = "negate exp log sqrt tanh sigmoid erf relu sin cos abs clip".split()
TWO_OPERANDS = "add subtract multiply divide power maximum minimum".split()


@pytest.mark.parametrize("name", ONE_OPERAND)
def test_samples_of_one_operand_have_every_kind_of_shape(name):
    arrays = [np.asarray(a[0]) for a, _ in samples(name)]
    shapes = [a.shape for a in arrays]
    assert () in shapes and (1,) in shapes
    assert any(len(s) == 1 and s[0] > 1 for s in shapes)
    assert any(len(s) == 2 and s[0] == s[1] > 1 for s in shapes)
    assert any(len(s) == 3 and len({*s}) == 3 and 1 not in s for s in shapes)
    assert any(0 in s for s in shapes)
    assert any(not a.flags.c_contiguous and not a.flags.f_contiguous for a in arrays)


@pytest.mark.parametrize("name", TWO_OPERANDS)
def test_samples_of_two_operands_broadcast_in_every_way(name):
    pairs = [(np.shape(a[0]), np.shape(a[1])) for a, _ in samples(name)]
    assert ((), ()) in pairs and any(a == b and len(a) == 1 for a, b in pairs)
    assert any(1 in a and 1 in b and a != b and len(a) == len(b) for a, b in pairs)         # (3, 1) with (1, 4)
    assert any(len(a) < len(b) and a for a, b in pairs) and any(len(b) < len(a) for a, b in pairs)
    assert any(0 in a or 0 in b for a, b in pairs)
    assert any(a == b and len(a) == 2 and a[0] == a[1] for a, b in pairs)       # square, and tied as f(x, x)


def test_samples_of_matmul_have_every_kind_of_operand():
    pairs = [a for a, _ in samples("matmul")]
    shapes = [(a.shape, b.shape) for a, b in pairs]
    assert any(a == b and a[-1] == a[-2] > 1 for a, b in shapes)
    assert any(len(a) == len(b) == 2 and len({*a, *b}) == 3 and 0 not in a for a, b in shapes)
    assert any(len(a) > len(b) for a, b in shapes) and any(len(b) > len(a) for a, b in shapes)
    assert any(a[0] == 1 and len(a) > 3 or a[1] == 1 and len(a) > 3 for a, b in shapes)     # a stretched batch axis
    assert any(0 in a for a, b in shapes) and ((1, 1), (1, 1)) in shapes
    assert any(not b.flags.c_contiguous and not b.flags.f_contiguous for a, b in pairs)


@pytest.mark.parametrize("name", ["getitem", "take", "take_along_axis", "scatter_add"])
def test_samples_of_picking_repeat_an_index(name):
    found = False
    for arrays, attributes in samples(name):
        for x in (*arrays, *(attributes["index"] if isinstance(attributes.get("index"), tuple) else [attributes.get("index")])):
            if isinstance(x, np.ndarray) and x.dtype.kind == "i":
                found |= len(set(x.ravel().tolist())) < x.size
    assert found


def test_matmul_and_einsum_agree_about_every_letter():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4, 5))
    np.testing.assert_allclose(tl.ops.einsum("bij,bjk->bik", a, b).numpy(), tl.ops.matmul(a, b).numpy(), rtol=1e-13)


def test_identities():
    x = tl.Tensor(np.random.default_rng(0).normal(size=(3, 5)) * 3)
    shifted = (tl.ops.logsumexp(x + 100.0, axis=1) - tl.ops.logsumexp(x, axis=1)).numpy()
    np.testing.assert_allclose(shifted, 100.0, rtol=1e-14)
    np.testing.assert_allclose((tl.ops.sin(x) ** 2 + tl.ops.cos(x) ** 2).numpy(), 1.0, rtol=1e-14)
    np.testing.assert_allclose(tl.ops.log(tl.ops.exp(x)).numpy(), x.numpy(), rtol=1e-13)
    np.testing.assert_allclose((tl.ops.sigmoid(x) + tl.ops.sigmoid(-x)).numpy(), 1.0, rtol=1e-14)
    np.testing.assert_allclose(tl.ops.tanh(x).numpy(), (2 * tl.ops.sigmoid(2 * x) - 1).numpy(), rtol=0, atol=1e-15)
    assert tl.ops.logsumexp(tl.Tensor(np.full(4, -np.inf))).item() == -np.inf
    assert tl.ops.logsumexp(tl.Tensor(np.array([1000.0, 1000.0]))).item() == pytest.approx(1000 + np.log(2), rel=1e-15)
    assert tl.ops.sigmoid(tl.Tensor(np.array([-1000.0, 1000.0]))).numpy().tolist() == [0.0, 1.0]


def test_a_primitive_without_samples_fails_the_check():
    class Halve(tl.Primitive):
        def forward(a): return a / 2
        def grad_a(g): return g / 2
    try:
        rows = list(primitive_rows(Halve))
        assert not rows[0].ok and "samples" in rows[0].diagnosis
    finally:
        del tl.primitives["halve"]
