"""A trace can answer for itself: its derivatives by finite differences, its sums written out."""

import time

import numpy as np
import pytest

import tinyllm as tl
from tinyllm.stepper import Trace, replay, worked
from tinyllm.stepper.explain import explain, in_names, norms, totals_of
from tinyllm.stepper.example import DECKS
from tinyllm.stepper.steps import Folds, steps_of
from tinyllm.stepper.text import checked, show


def rules(trace):
    return [s for s in steps_of(trace) if s.kind == "rule" and s.target is not None]


def largest(trace, step):
    array = trace.arrays[step.contribution]
    return tuple(map(int, np.unravel_index(np.abs(array).argmax(), array.shape)))


@pytest.mark.parametrize("name", [*worked.TOYS, *DECKS])
def test_every_rule_agrees_with_the_trace_run_again(name):
    trace = worked.trace_toy(name) if name in worked.TOYS else worked.trace_deck(name)
    for step in rules(trace):
        at = largest(trace, step)
        target = trace[step.target]
        result = replay.check_rules(trace, [step], target, trace.arrays[step.contribution], at)
        assert result.ok, (trace.expression(trace[step.value]), result)


@pytest.mark.parametrize("name", DECKS)
def test_sums_written_out_add_up_to_the_entry(name):
    trace = worked.trace_deck(name)
    for step in rules(trace):
        for at in np.ndindex(trace.arrays[step.contribution].shape):
            parts = replay.terms(trace, step, at)
            total = sum(g * slope for _, g, slope in parts)
            assert total == pytest.approx(float(trace.arrays[step.contribution][at]), rel=1e-6, abs=1e-9)


def test_the_terms_of_a_product_are_the_entries_of_the_matrix():
    rng = np.random.default_rng(0)
    x, w = (tl.Tensor(rng.normal(size=s), requires_grad=True) for s in ((2, 3), (3, 4)))
    with tl.trace() as trace:
        loss = ((x @ w) * np.arange(8.0).reshape(2, 4)).sum()
    step = next(s for s in rules(trace) if trace[s.target].name == "x")
    slopes = [slope for _, _, slope in replay.terms(trace, step, (1, 2))]
    assert np.allclose(slopes, w.data[2], atol=1e-9)
    assert [k for k, _, _ in replay.terms(trace, step, (1, 2))] == [(1, j) for j in range(4)]
    assert "dx[1, 2] = Σ g·∂" in explain(trace, step, (1, 2))["sum"]


def test_folded_composites_are_checked_as_a_whole():
    trace = worked.trace_example()
    folds = Folds(steps_of(trace))
    results = []
    for k, item in enumerate(folds.items):
        if item.group and folds.steps[item.first].kind == "rule":
            shown = show(trace, folds, k)
            results.append(checked(trace, shown, shown.default_index()).ok)
    assert results == [True, True]


def test_a_wrong_gradient_is_told():
    trace = worked.trace_example()
    step = next(s for s in rules(trace) if trace[s.target].name == "W1")
    trace.arrays[step.contribution] = -trace.arrays[step.contribution]
    assert not replay.check_rules(trace, [step], trace[step.target], trace.arrays[step.contribution], (2, 1)).ok


def test_a_saved_trace_is_checked_without_its_model():
    trace = Trace.from_json(worked.trace_toy("llama").to_json())
    step = rules(trace)[-1]
    assert replay.check_rules(trace, [step], trace[step.target], trace.arrays[step.contribution], largest(trace, step)).ok


def test_an_operation_this_process_does_not_know_is_named():
    trace = worked.trace_deck("chain")
    trace["n3"].op = "unheard_of"
    with pytest.raises(replay.CannotReplay, match="unheard_of"):
        replay.run(trace, trace["n3"])


def test_an_entry_of_a_model_of_ten_thousand_parameters_is_checked_in_a_second():
    with tl.default_dtype(np.float64):
        model = tl.models.GPT(tl.models.GPTConfig(vocab_size=65, n_layer=2, n_head=4, n_embd=20, block_size=16), generator=tl.Generator(0))
    assert 10_000 <= model.num_params() <= 15_000
    ids = np.random.default_rng(0).integers(0, 65, (1, 16))
    with tl.trace() as trace:
        model.loss(ids, ids)
    step = rules(trace)[-1]
    start = time.process_time()
    assert replay.check_rules(trace, [step], trace[step.target], trace.arrays[step.contribution], largest(trace, step)).ok
    assert time.process_time() - start < 1


def test_totals_are_the_gradients_of_the_leaves():
    x = tl.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    with tl.trace() as trace:
        (x * x + x.exp()).sum().backward()
    assert np.allclose(trace.arrays[totals_of(trace)["n0"]], 2 * x.data + np.exp(x.data))
    assert norms(trace, None)[0][2] == pytest.approx(np.linalg.norm(x.grad))
    contributions = [s for s in rules(trace) if s.target == "n0"]
    assert [(s.share, s.shares) for s in contributions] == [(1, 3), (2, 3), (3, 3)]
    assert "contribution 2 of 3" in explain(trace, contributions[1], (0,))["accumulate"]


def test_a_sum_over_stretched_axes_is_explained():
    b = tl.Tensor(np.zeros(3), requires_grad=True)
    with tl.trace() as trace:
        (b + np.ones((2, 3))).sum()
    step = next(s for s in rules(trace) if s.target == "n1" or trace[s.target].name == "b")
    text = explain(trace, step, (0,))["unbroadcast"]
    assert text.startswith("sum over axis 0: b is (3,), the rule's result is (2, 3)")


def test_rules_are_shown_with_the_names_of_the_operands():
    trace = worked.trace_deck("matmul")
    value = trace.find("H")
    assert in_names(trace, value, trace.ops["matmul"]["rules"]["a"]) == "dL/dH @ W.mT"


def test_the_optimizers_steps_follow_the_walk():
    steps = steps_of(worked.trace_toy("gpt"))
    assert [s.stage[0] for s in steps if s.kind == "update"][:6] == ["gradient", "m", "v", "m̂", "v̂", "update"]
    formula = next(s.stage[1] for s in steps if s.kind == "update" and s.stage[0] == "m")
    assert formula == "m ← 0.9 m + 0.1 g"
    assert [s.kind for s in steps].index("norms") < [s.kind for s in steps].index("update")


def test_m_and_v_are_adams():
    trace = worked.trace_toy("gpt")
    event = next(e for e in trace.events if e["kind"] == "update")
    stages = {k: trace.arrays[p] for k, p in event["stages"].items()}
    g = stages["gradient"]
    assert np.allclose(stages["m"], 0.1 * g) and np.allclose(stages["v"], 0.001 * g * g)
    assert np.allclose(stages["m̂"], g) and np.allclose(stages["v̂"], g * g)       # of the first step
    assert np.allclose(trace.array(event["value"]), trace.array(event["before"]) + stages["update"])
