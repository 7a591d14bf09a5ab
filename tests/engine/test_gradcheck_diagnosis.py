"""A failing gradient check names the mistake and the operation that makes it."""

import numpy as np
import pytest
import tinyllm as tl
from gradcheck_cases import failure, registry_as_it_was, rng  # noqa: F401: a fixture is used by being here
from tinyllm.engine.gradcheck import GradcheckError, gradcheck, gradcheck_registry


def define(kind):
    """(primitive with one wrong rule, inputs for which shapes cannot give it away, words of the diagnosis)."""
    square = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    if kind == "transposed result":
        class Wrong(tl.Primitive):
            def forward(a, b): return a * b
            def grad_a(g, b): return (g * b).mT
            def grad_b(g, a): return g * a
        return Wrong, square, "equals the transpose of the truth"
    if kind == "missing transpose":
        class Wrong(tl.Primitive):
            def forward(a, b): return a @ b
            def grad_a(g, b): return g @ b
            def grad_b(g, a): return a.mT @ g
        return Wrong, square, "a .mT is missing"
    if kind == "forgotten mean":
        class Wrong(tl.Primitive):
            def forward(a, b): return np.mean(a * b, axis=1)
            def grad_a(g, b): return g[:, None] * b
            def grad_b(g, a): return g[:, None] * a / a.shape[1]
        return Wrong, (rng.normal(size=(2, 5)), rng.normal(size=(2, 5))), "× 5: forgot the mean over 5 elements"
    if kind == "sign":
        class Wrong(tl.Primitive):
            def forward(a, b): return a - b
            def grad_a(g): return g
            def grad_b(g): return g
        return Wrong, square, "sign is flipped"
    if kind == "missing unbroadcast":
        class Wrong(tl.Primitive):
            def forward(a, b): return a + b
            def grad_a(g): return g
            def grad_b(g): return g[0]      # where g should have been summed over axis 0
        return Wrong, (rng.normal(size=(4, 3)), rng.normal(size=3)), "missing unbroadcast: one slice of axis 0 is passed on, the other 3 are lost"
    if kind == "missing accumulation":
        class Wrong(tl.Primitive):
            def forward(a, b, *, rows=(0, 2, 0)): return a[list(rows)] * b
            def grad_a(g, a, b, rows):
                gradient = np.zeros_like(a)
                gradient[list(rows)] = g * b
                return gradient
            def grad_b(g, a, rows): return g * a[list(rows)]
        return Wrong, square, "missing accumulation"
    if kind == "one contribution of two":
        class Wrong(tl.Primitive):
            def forward(a, b): return a * a * b
            def grad_a(g, a, b): return g * a * b
            def grad_b(g, a): return g * a * a
        return Wrong, square, "half the truth: missing accumulation"
    if kind == "other operand":
        class Wrong(tl.Primitive):
            def forward(a, b): return np.sin(a) * b
            def grad_a(g, a): return g * np.sin(a)
            def grad_b(g, a): return g * np.sin(a)
        return Wrong, square, "equals the gradient of b: the other operand's rule"
    if kind == "cut":
        class Wrong(tl.Primitive):
            def forward(a, b): return a * b
            def grad_a(g, b): return g * 0.0
            def grad_b(g, a): return g * a
        return Wrong, square, "the gradient is 0 everywhere"


KINDS = ["transposed result", "missing transpose", "forgotten mean", "sign", "missing unbroadcast", "missing accumulation",
         "one contribution of two", "other operand", "cut"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_mistake_is_named(kind):
    wrong, inputs, words = define(kind)
    report = failure("wrong", inputs)
    bad = [row for row in report.rows if not row.ok]
    assert len(bad) == 1 and bad[0].name == ("b" if kind in ("sign", "missing unbroadcast") else "a")
    assert words in bad[0].diagnosis
    assert bad[0].rule == wrong.rules[bad[0].name] and bad[0].rule.splitlines()[-1] in str(report)
    assert words in str(report) and bad[0].place in str(report)


@pytest.mark.parametrize("mode", ["exact", "directional"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_operation_to_blame_is_found(kind, mode):
    wrong, (a, b), words = define(kind)

    def longer(x, w):
        h = tl.ops.tanh(x * 1.5) + 0.3 * x
        y = wrong.apply(h, tl.ops.exp(w * 0.5))
        return tl.ops.sigmoid(y) * 2.0

    report = failure(longer, [a, b], mode=mode)
    assert "first operation whose own rule fails: wrong(" in report.located
    assert "test_gradcheck_diagnosis.py:" in report.located
    assert words in report.located and words in report.failures[0].diagnosis
    assert report.failures[0].rule in wrong.rules.values()


def test_a_gradient_lost_between_operations():
    report = failure(lambda x: tl.ops.exp(x) * x.detach(), [np.array([1.0, 2.0])])
    assert "agrees with its own rule" in report.located and ".detach()" in report.located


def test_the_reproducing_line_reproduces():
    define("sign")[0].samples = staticmethod(lambda rng: iter([(rng.normal(size=2), rng.normal(size=2)), (rng.normal(size=3), rng.normal(size=3))]))
    report = failure("wrong", None)
    for row in report.failures:
        if row.reproduce:
            again = eval(row.reproduce.replace(")", ", raise_on_failure=False)", 0)[:-1] + ", raise_on_failure=False)",
                         {"tl": type("tl", (), {"gradcheck": staticmethod(gradcheck), "primitives": tl.primitives}), "np": np})
            assert not again.ok
            assert (row.name, row.index, row.analytic, row.numeric) in [(r.name, r.index, r.analytic, r.numeric) for r in again.rows]


def test_the_reproducing_line_spells_short_inputs_out():
    def fn(x):
        return tl.Tensor(x.data) * x
    row = failure(fn, [np.array([0.1, 2.0])]).failures[0]
    assert "[np.array([0.1, 2.0])]" in row.reproduce and "seed=0" in row.reproduce and row.place in row.reproduce


def test_registry_raises_for_a_wrong_rule():
    define("sign")[0].samples = staticmethod(lambda rng: iter([(rng.normal(size=2), rng.normal(size=2))]))
    with pytest.raises(GradcheckError, match="wrong: .*\n.*") as caught:
        gradcheck_registry(["add", "wrong"])
    assert "sign is flipped" in str(caught.value) and "FAILED: wrong" in str(caught.value)
