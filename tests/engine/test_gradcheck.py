"""The gradient check: what it accepts, what it refuses and how it looks."""

import numpy as np
import pytest
import tinyllm as tl
from gradcheck_cases import failure, registry_as_it_was, rng  # noqa: F401: a fixture is used by being here
from tinyllm.engine.gradcheck import GradcheckError, gradcheck, gradcheck_registry

# ---- what is accepted


def test_a_function_of_tensors():
    report = gradcheck(lambda x, w: tl.ops.tanh(x @ w), [rng.normal(size=(2, 3)), rng.normal(size=(3, 4))])
    assert report.ok and [row.name for row in report.rows] == ["x", "w"]
    assert report.entries == 8 * 6 + 8 * 12
    assert report.error < 1e-8


def test_one_input_alone_a_tensor_or_an_array():
    assert gradcheck(lambda x: x * x, np.array([1.0, 2.0])).ok
    assert gradcheck(lambda x: x * x, tl.Tensor(np.array([1.0, 2.0]), name="speed")).rows[0].name == "speed"
    assert gradcheck(lambda x: x * x, [3.0]).ok


def test_a_function_that_returns_a_tuple():
    report = gradcheck(lambda x: (x * x, x.sum(), np.array([1, 2])), [np.array([1.0, 2.0, 3.0])])
    assert report.entries == (3 + 1) * 3


def test_inputs_that_are_whole_numbers_are_not_differentiated():
    report = gradcheck(lambda x, ids, mask: tl.ops.masked_fill(x[ids], mask, value=0.0),
                       [rng.normal(size=(4, 2)), np.array([0, 3, 0]), np.array([[True, False]])])
    assert [row.name for row in report.rows] == ["x"]


def test_names():
    assert [r.name for r in gradcheck(lambda *x: x[0] * x[1], [1.5, 2.5], names=["mass", "speed"]).rows] == ["mass", "speed"]
    with pytest.raises(ValueError, match="1 names for 2 inputs"):
        gradcheck(lambda a, b: a * b, [1.0, 2.0], names=["a"])


def test_a_primitive_by_its_name_on_all_its_samples():
    report = gradcheck("matmul")
    samples = list(tl.primitives["matmul"].samples(np.random.default_rng(0)))
    assert report.ok and len({row.sample for row in report.rows}) == len(samples)
    assert {row.test for row in report.rows} == {"", "complex step", "f(x, x)"}


def test_a_primitive_on_one_sample():
    assert gradcheck("sum", [rng.normal(size=(2, 3)), {"axis": 0}]).ok
    assert gradcheck(tl.primitives["exp"]).ok
    assert gradcheck("exp", np.array([1.0, 2.0])).rows[0].shape == (2,)
    assert gradcheck("multiply", [tl.Tensor(np.array([1.0, 2.0]), requires_grad=True), 3.0]).ok


def test_unknown_names_and_modes():
    with pytest.raises(KeyError, match="no primitive of that name; there are .*matmul"):
        gradcheck("matmull")
    with pytest.raises(ValueError, match='expected "exact" or "directional"'):
        gradcheck(lambda x: x, [1.0], mode="fast")
    with pytest.raises(TypeError, match="nothing to differentiate"):
        gradcheck(lambda x: x, [np.array([1, 2])])
    with pytest.raises(TypeError, match="returned ndarray; expected a floating-point Tensor"):
        gradcheck(lambda x: x.numpy(), [1.0])


def test_float32_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"x is float32.*1e-4 at best.*x\.astype\(np\.float64\).*force=True"):
        gradcheck(lambda x: x * x, [np.ones(3, np.float32)])
    with pytest.raises(TypeError, match="a is float32"):
        gradcheck("exp", [np.ones(3, np.float32)])


def test_a_function_that_casts_is_refused():
    with pytest.raises(TypeError, match="casts to single precision"):
        gradcheck(lambda x: x.astype(np.float32) * 2.0, [np.ones(3)])


def test_float32_by_force_says_what_accuracy_can_be_had():
    x = rng.normal(size=(3, 4)).astype(np.float32)
    report = gradcheck(lambda x: tl.ops.tanh(x * 2), [x], force=True)
    assert report.ok and "1e-4 at best" in report.notes[0] and "1e-4 at best" in str(report)

    class Tanh2(tl.Primitive):
        def forward(a): return np.tanh(a)
        def grad_a(g, y): return g * (1 - y)
    assert not gradcheck(Tanh2.apply, [x], force=True, raise_on_failure=False).ok
    assert not gradcheck("tanh2", [x], force=True, raise_on_failure=False).ok


def test_a_jacobian_too_large_is_refused():
    with pytest.raises(ValueError, match='mode="directional"'):
        gradcheck(lambda x: x * 2.0, [np.ones(4000)])
    assert gradcheck(lambda x: x * 2.0, [np.ones(4000)], mode="directional").ok


def test_print_is_a_table():
    text = str(gradcheck(lambda x: x * x, [np.array([1.0, 2.0])]))
    head, columns, row = text.splitlines()
    assert head.startswith("gradcheck") and ": ok, 4 derivatives" in head
    assert columns.split() == ["input", "shape", "at", "analytic", "numeric", "abs", "error", "rel", "error"]
    assert row.startswith("x ") and row.endswith("ok")


def test_report_without_raising():
    assert not gradcheck(lambda x: tl.Tensor(x.data) * x, [np.ones(2)], raise_on_failure=False).ok


def test_the_error_is_an_assertion():
    assert issubclass(GradcheckError, AssertionError)


# ---- five findings

def test_a_cotangent_of_ones_is_blind_and_the_check_is_not():
    class Softmax7(tl.Primitive):
        def forward(a):
            e = np.exp(a - np.max(a, axis=-1, keepdims=True))
            return e / np.sum(e, axis=-1, keepdims=True)
        def grad_a(g, y): return 7 * y * (g - np.sum(g * y, axis=-1, keepdims=True))

    x = tl.Tensor(rng.normal(size=(2, 5)), requires_grad=True)
    Softmax7.apply(x).sum().backward()
    assert np.abs(x.grad).max() < 1e-14         # the truth as well: d(Σ softmax) = 0, so that 7 times it looks right
    report = failure(Softmax7.apply, [x.numpy()])
    assert "× 7" in report.rows[0].diagnosis
    with pytest.raises(GradcheckError, match="uninformative"):      # and whoever sums is told so
        gradcheck(lambda x: Softmax7.apply(x).sum(), [x.numpy()])


def test_inputs_at_which_any_rule_would_pass_fail():
    report = failure("log", [rng.uniform(1, 2, size=3) + 100000])
    assert report.rows[0].status == "uninformative" and "below 0.01" in report.rows[0].diagnosis
    assert failure(tl.ops.log, [np.array([100001.0, 100002.0])]).rows[0].status == "uninformative"


def test_nan_fails():
    class NanRule(tl.Primitive):
        def forward(a): return a * 2.0
        def grad_a(g, a): return np.where(a > 1, np.nan, 2.0) * g
    report = failure("nan_rule", [np.array([0.5, 1.5])])
    assert report.error == np.inf and "nan" in report.rows[0].diagnosis
    with np.errstate(invalid="ignore"):
        assert not gradcheck(lambda x: x * np.nan, [np.ones(2)], raise_on_failure=False).ok


def test_a_single_wrong_element_of_many_fails():
    class OneOff(tl.Primitive):
        def forward(a): return a * 2.0
        def grad_a(g, a):
            gradient = 2 * g
            gradient[..., 7] *= 1 + 3e-6
            return gradient
    report = failure("one_off", [rng.normal(size=(3, 20))])
    assert report.rows[0].index[1] == 7 and report.rows[0].diagnosis == "wrong only at index 7 of axis 1"


# ---- kinks

@pytest.mark.parametrize("fn, at", [(tl.ops.relu, 0.0), (tl.ops.abs, 4e-6), (tl.ops.sqrt, 0.0), (tl.ops.clip, 1.0),
                                    *[(tl.ops.relu, t * 1e-5) for t in (-0.7, -0.35, 0.1, 0.3, 1 / 3, 0.5, 0.9)]])
def test_a_kink_is_called_a_kink(fn, at):
    x = np.array([[1.5, 0.7], [0.3, 0.6], [0.4, at]])
    report = failure(lambda x: fn(x, -1.0, 1.0) if fn is tl.ops.clip else fn(x), [x])
    assert report.rows[0].status == "kink"
    assert "not differentiable near x[2, 1]" in str(report) and "it should be" not in str(report)


def test_a_wrong_rule_beside_a_kink_is_still_wrong():
    class Relu2(tl.Primitive):
        def forward(a): return np.maximum(a, 0)
        def grad_a(g, a): return 2 * g * (a > 0)
    report = failure("relu2", [np.array([0.0, 1.0])])
    assert report.rows[0].status == "wrong" and report.rows[0].index == (1,)


@pytest.mark.parametrize("fn", [lambda x: x * x, lambda x: x ** 3, lambda x: tl.ops.cos(x), lambda x: tl.ops.exp(40 * x)])
def test_a_smooth_function_with_a_wrong_gradient_is_no_kink(fn):
    class Bent(tl.Primitive):
        def forward(a): return a
        def grad_a(g): return g * 1.5 + g.sum()
    report = failure(lambda x: Bent.apply(fn(x)), [np.array([0.0, 0.4])])
    assert report.failures[0].status == "wrong"


# ---- linearity and manners

def test_a_rule_that_is_not_linear_in_g():
    class Saturating(tl.Primitive):
        def forward(a): return 1.0 * a
        def grad_a(g): return np.clip(g, -1, 1)     # right for every one-hot cotangent
    assert "not linear" in failure("saturating", [rng.normal(size=4)]).rows[0].diagnosis


def test_a_rule_that_adds_something():
    class Adding(tl.Primitive):
        def forward(a): return 1.0 * a
        def grad_a(g): return g + 1e-300
    assert "not exactly 0" in failure("adding", [rng.normal(size=4)]).rows[0].diagnosis


def test_a_rule_that_changes_its_cotangent():
    class Rude(tl.Primitive):
        def forward(a): return 2.0 * a
        def grad_a(g):
            g *= 2
            return g.copy()
    assert "changed the incoming cotangent" in failure("rude", [np.ones(3)]).rows[0].diagnosis


def test_a_forward_that_changes_its_input():
    class Eating(tl.Primitive):
        def forward(a):
            a += 1.0
            return a * 2.0
        def grad_a(g): return 2 * g
    assert "input a was changed" in failure("eating", [np.ones(3)]).rows[0].diagnosis


def test_a_forward_that_is_never_the_same():
    class Dicing(tl.Primitive):
        def forward(a): return a * rng.normal()
        def grad_a(g): return g
    assert "two runs of the forward differ" in failure("dicing", [np.ones(3)]).rows[0].diagnosis


def test_a_rule_of_the_wrong_shape():
    class Turned(tl.Primitive):
        def forward(a): return 2.0 * a.mT
        def grad_a(g): return 2 * g
    assert "returned shape (4, 3) for an input of shape (3, 4)" in failure("turned", [rng.normal(size=(3, 4))]).rows[0].diagnosis


def test_a_rule_that_raises():
    class Raising(tl.Primitive):
        def forward(a): return 2.0 * a
        def grad_a(g, a): return g @ a[0, 0, 0]
    assert "the rule raised IndexError" in failure("raising", [np.ones(3)]).rows[0].diagnosis


def test_the_inputs_stay_as_they_are():
    x = rng.normal(size=(3, 4))
    kept = x.copy()
    gradcheck(lambda x: tl.ops.exp(x) * 2.0, [x])
    np.testing.assert_array_equal(x, kept)
    assert x.flags.writeable


def test_complex_step_is_held_to_1e_10():
    class Nearly(tl.Primitive):
        """Off by 1e-8, which a central difference lets pass."""
        analytic = True
        def forward(a): return np.sin(a)
        def grad_a(g, a): return g * np.cos(a) * (1 + 1e-8)
    report = failure("nearly", [rng.uniform(0.1, 1, size=3)])
    assert [row.status for row in report.rows] == ["ok", "wrong"] and report.rows[1].test == "complex step"
    assert report.rows[1].relative == pytest.approx(1e-8, rel=1e-3)


def test_a_tied_input_of_which_one_half_is_lost():
    class Once(tl.Primitive):
        """Right for two arrays, wrong for one that is given twice."""
        def forward(a, b): return a * b
        def grad_a(g, a, b): return g * b
        def grad_b(g, a, b): return g * a if a is not b else 0 * g
    report = failure("once", [rng.normal(size=3), rng.normal(size=3)])
    assert [row.test for row in report.failures] == ["f(x, x)"]
    assert "missing accumulation" in report.failures[0].diagnosis


# ---- accuracy

def test_central_differences_have_the_accuracy_measured_for_them():
    """Softmax cross-entropy, LayerNorm, causal attention and GELU agree to 1e-9 at eps 1e-5, and no better than 1e-9 at 1e-3."""
    def functions():
        x = rng.normal(size=(2, 3, 8))
        yield lambda x: tl.F.cross_entropy(x, np.array([1, 2])), x[0, :2]
        yield lambda x: tl.F.layer_norm(x, np.ones(8), np.zeros(8)), x
        yield tl.F.gelu, x
    for fn, x in functions():
        assert gradcheck(fn, [x]).error < 1e-7
        assert max(row.absolute for row in gradcheck(fn, [x]).rows) < 1e-9
        assert max(row.absolute for row in gradcheck(fn, [x], eps=1e-3, rtol=1e-4).rows) > 1e-9


# ---- the registry

def test_registry_report_is_a_table_with_the_worst_first():
    report = gradcheck_registry(["tanh", "add", "matmul"])
    text = str(report)
    assert report.ok and "3 primitives" in text and "all ok" in text
    errors = [float(line.split()[3]) for line in text.splitlines()[1:4]]
    assert errors == sorted(errors, reverse=True)


def test_samples_that_tell_nothing_fail_the_registry():
    class Flat(tl.Primitive):
        def forward(a): return np.maximum(a, 0)
        def grad_a(g, a): return 5 * g * (a > 0)
        def samples(rng): yield -rng.uniform(1, 2, size=3),
    report = gradcheck("flat", raise_on_failure=False)
    assert not report.ok and "no sample has a gradient by a that is not 0" in str(report)
    Flat.samples = staticmethod(lambda rng: iter([(rng.uniform(1, 2, size=3) * 1e-3,), (-np.ones(2),)]))
    assert "× 5" in str(gradcheck("flat", raise_on_failure=False))


def test_size_zero_is_no_failure():
    assert gradcheck("exp", [np.zeros((0, 3))]).ok
