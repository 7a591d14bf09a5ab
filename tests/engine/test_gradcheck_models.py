"""The directional check: modules, their parameters, and what random directions can and cannot miss."""

import time

import numpy as np
import pytest
import tinyllm as tl
from gradcheck_cases import registry_as_it_was  # noqa: F401: a fixture is used by being here
from tinyllm.engine.gradcheck import GradcheckError, gradcheck

IDS, TARGETS = np.array([[0, 3, 3, 1, 2]]), np.array([[3, 3, 1, 2, 4]])


def toy(dropout=0.0, seed=0):
    with tl.default_dtype(np.float64):
        config = tl.models.GPTConfig(vocab_size=7, n_layer=2, n_head=2, n_embd=8, block_size=6, dropout=dropout)
        return tl.models.GPT(config, generator=tl.Generator(seed))


class Net(tl.nn.Module):
    """An embedding, a layer and an activation that a test chooses."""

    def __init__(self, activation, width=4):
        with tl.default_dtype(np.float64):
            self.table = tl.nn.Embedding(6, width, generator=tl.Generator(1))
            self.fc = tl.nn.Linear(width, 3, generator=tl.Generator(2))
        self.activation = activation

    def forward(self, ids):
        return self.activation(self.fc(self.table(ids)))


def test_every_parameter_of_a_toy_gpt():
    model, start = toy(), time.perf_counter()
    report = gradcheck(model, [IDS, TARGETS])
    assert report.ok and "directional" in report.title
    assert [row.name for row in report.rows] == [name for name, _ in model.named_parameters()]
    assert report.error < 1e-5
    assert time.perf_counter() - start < 10


def test_the_table_is_sorted_by_error():
    lines = str(gradcheck(toy(), [IDS, TARGETS])).splitlines()[2:]
    errors = [float(line.split("e-")[-1].split()[0]) for line in lines]
    assert len(lines) == 28 and errors == sorted(errors)


def test_a_module_with_one_input_is_called_and_with_several_goes_through_its_loss():
    model = toy()
    assert gradcheck(model, [IDS]).ok
    assert gradcheck(model, IDS).ok
    assert gradcheck(model.loss, [IDS, TARGETS]).ok
    with tl.default_dtype(np.float64):
        layer = tl.nn.Linear(3, 2, generator=tl.Generator(0))
    report = gradcheck(layer, [np.random.default_rng(0).normal(size=(4, 3))])
    assert sorted(row.name for row in report.rows) == ["bias", "weight", "x"]


def test_exact_mode_of_a_module_compares_every_derivative():
    report = gradcheck(Net(tl.ops.tanh), [np.array([1, 2])], mode="exact")
    assert report.ok and report.entries == 6 * (6 * 4 + 4 * 3 + 3)


def test_definitions_are_checked_where_kernels_are_off():
    with tl.fused(False):
        assert gradcheck(toy(), [IDS, TARGETS]).ok


def test_dropout_masks_are_the_same_for_every_evaluation():
    tl.manual_seed(5)
    with tl.default_dtype(np.float64):
        model = tl.models.GPT(tl.models.GPTConfig(vocab_size=7, n_layer=1, n_head=2, n_embd=8, block_size=6, dropout=0.5))
    state = tl.manual_seed(7).get_state()
    assert gradcheck(model, [IDS, TARGETS]).ok
    assert tl.Generator(7).get_state() == state == tl.engine.random.default_generator().get_state()      # and none is used up
    assert gradcheck(toy(dropout=0.5), [IDS, TARGETS]).ok       # modules that hold a generator of their own


def test_dropout_in_a_function():
    tl.manual_seed(3)
    drop = tl.nn.Dropout(0.5, tl.Generator(1))
    assert gradcheck(lambda x: drop(x) * x, [np.ones((3, 4))]).ok


def test_gradients_and_parameters_of_the_model_stay_as_they_were():
    model = toy()
    model.loss(IDS, TARGETS).backward()
    grads = [p.grad for p in model.parameters()]
    kept = [(p.data.copy(), p.grad.copy()) for p in model.parameters()]
    assert gradcheck(model, [IDS, TARGETS]).ok
    for p, grad, (data, copy) in zip(model.parameters(), grads, kept):
        assert p.grad is grad
        np.testing.assert_array_equal(p.data, data)
        np.testing.assert_array_equal(p.grad, copy)


def test_a_single_precision_model_is_refused_with_the_remedy():
    model = tl.models.GPT(tl.models.GPTConfig(vocab_size=7, n_layer=1, n_head=2, n_embd=8, block_size=6))
    with pytest.raises(TypeError, match=r"float32.*with tl\.default_dtype\(np\.float64\)"):
        gradcheck(model, [IDS, TARGETS])


def test_frozen_parameters_are_left_out():
    model = Net(tl.ops.tanh)
    model.table.requires_grad_(False)
    assert [row.name for row in gradcheck(model, [np.array([1, 2])]).rows] == ["fc.weight", "fc.bias"]


def test_the_first_operation_whose_rule_is_wrong_is_named():
    class Swish(tl.Primitive):
        def forward(a): return a / (1 + np.exp(-a))
        def grad_a(g, a): return g / (1 + np.exp(-a))       # forgets that the sigmoid moves too
    with pytest.raises(GradcheckError) as caught:
        gradcheck(Net(lambda x: tl.ops.sin(Swish.apply(x))), [np.array([0, 1, 1])])
    report = caught.value.report
    assert report.located.startswith("first operation whose own rule fails: swish(")
    assert "d/da = g / (1 + np.exp(-a))" in report.located
    assert {row.name for row in report.failures} == {"table.weight", "fc.weight", "fc.bias"}


def picking(dust=0.0, lost=None):
    """An embedding whose rule leaves `dust` in rows it never read, or loses row `lost`."""
    class Pick(tl.Primitive):
        def forward(weight, ids): return weight[ids]
        def grad_weight(g, weight, ids):
            gradient = np.full(weight.shape, dust)
            np.add.at(gradient, ids, g)
            if lost is not None:
                gradient[lost] = 0
            return gradient
    return Pick.apply


def test_unused_rows_of_an_embedding_are_exactly_zero():
    weight, ids = np.random.default_rng(0).normal(size=(50, 4)), np.array([3, 7, 3])
    assert gradcheck(picking(), [weight, ids], mode="directional").ok
    report = gradcheck(picking(dust=1e-13), [weight, ids], mode="directional", raise_on_failure=False)
    assert not report.ok and report.rows[0].numeric == 0 and "exactly 0" in report.rows[0].diagnosis
    report = gradcheck(picking(lost=7), [weight, ids], mode="directional", raise_on_failure=False)
    assert not report.ok


def test_one_flipped_sign_among_a_hundred_thousand_entries_is_seen():
    size = 100_000
    weights = np.random.default_rng(1).normal(size=size)

    def flipped(k):
        class Dot(tl.Primitive):
            def forward(a): return np.dot(a, weights)
            def grad_a(g):
                gradient = g * weights
                gradient[k] *= -1
                return gradient
        return Dot.apply

    for seed in range(3):
        k = int(np.random.default_rng(seed).integers(size))
        assert not gradcheck(flipped(k), [np.zeros(size)], mode="directional", seed=seed, raise_on_failure=False).ok


def test_a_network_of_relus_is_stepped_over_its_kinks():
    rng = np.random.default_rng(0)
    x, w, v = rng.normal(size=(20, 30)), rng.normal(size=(30, 200)), rng.normal(size=(200, 2))
    report = gradcheck(lambda x, w, v: tl.ops.relu(x @ w) @ v, [x, w, v], mode="directional", raise_on_failure=False)
    assert all(row.status in ("ok", "kink") for row in report.rows)


def test_a_model_that_draws_from_elsewhere_is_told_so():
    rng = np.random.default_rng(0)
    report = gradcheck(Net(lambda x: x * rng.normal()), [np.array([1, 2])], raise_on_failure=False)
    assert "two runs differ" in report.rows[0].diagnosis


def test_a_loss_that_nothing_reaches_tells_nothing():
    report = gradcheck(Net(lambda x: x * 0.0), [np.array([1, 2])], raise_on_failure=False)
    assert report.rows[0].status == "uninformative"
