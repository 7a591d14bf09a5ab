"""A trace is the function's own numbers, the same each time, and survives being written to JSON."""

import json
import time

import numpy as np
import pytest

import tinyllm as tl
from tinyllm.errors import UserError
from tinyllm.stepper import Trace, record, worked
from tinyllm.stepper.arrays import Omitted, block_means, statistics


def leaves(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return (tl.Tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in ((4, 3), (3, 2)))


def test_values_are_the_numbers_of_the_function():
    x, w = leaves()
    with tl.trace() as tr:
        h = x @ w
        loss = (h * h).sum()
    assert [v.name for v in tr.values] == ["x", "w", "h", "multiply_1", "loss"]
    assert np.array_equal(tr.array("n2"), x.data @ w.data)
    assert float(tr.array(tr.find("loss"))) == loss.item()
    assert tr.root == "n4" and tr.expression(tr["n2"]) == "h = x @ w"


def test_the_walk_is_recorded_and_leaves_the_gradients_as_they_were():
    x, w = leaves()
    w.grad = np.full((3, 2), 7.0)
    with tl.trace() as tr:
        loss = (x @ w).sum()
    totals = {e["target"]: e["total"] for e in tr.events if e["kind"] == "accumulate"}
    assert np.array_equal(tr.arrays[totals["n0"]], np.ones((4, 2)) @ w.data.T)
    assert x.grad is None and np.array_equal(w.grad, np.full((3, 2), 7.0))
    loss.backward()         # the graph is still there
    assert np.array_equal(x.grad, np.ones((4, 2)) @ w.data.T)


def test_a_backward_inside_the_block_is_the_one_recorded():
    x, w = leaves()
    with tl.trace() as tr:
        (x @ w).sum().backward()
    assert sum(e["kind"] == "rule" for e in tr.events) == 3
    assert sum(e["kind"] == "free" for e in tr.events) == 2
    assert x.grad is not None


def test_two_runs_give_the_same_text():
    texts = [worked.trace_toy(name).to_json() for name in ("gpt", "gpt")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("toy", worked.TOYS)
def test_json_brings_back_every_number(toy):
    tr = worked.trace_toy(toy)
    again = Trace.from_json(tr.to_json())
    assert again.values == tr.values and again.events == tr.events and again.ops == tr.ops
    for a, b in zip(tr.arrays, again.arrays, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_json_keeps_nan_inf_and_64_bit_integers():
    x = tl.Tensor(np.array([np.nan, np.inf, -np.inf, 1e-310]), requires_grad=True)
    with tl.trace() as tr:
        tl.ops.take(x * 1.0, np.array([0, 3, 1, 2**31 - 2**31]), axis=0).sum()
    again = Trace.from_json(tr.to_json())
    assert np.array_equal(again.array("n0"), x.data, equal_nan=True)
    json.loads(tr.to_json(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_fused_or_definitions_as_asked():
    x, _ = leaves()
    counts = []
    for fused in (False, True):
        with tl.trace(fused=fused) as tr:
            tl.F.softmax(x).sum()
        counts.append([v.op for v in tr.values if v.op])
    assert counts == [["logsumexp", "subtract", "exp", "sum"], ["softmax", "sum"]]


def test_a_composite_groups_its_definition():
    x, _ = leaves()
    with tl.trace() as tr:
        tl.F.softmax(tl.F.softmax(x)).sum()
    outermost = [v.groups[:1] for v in tr.values if v.op]
    assert outermost == [["softmax_1"]] * 3 + [["softmax_2"]] * 3 + [[]]


def test_names_win_and_parameters_have_their_paths():
    layer = tl.nn.Sequential(tl.nn.Linear(3, 2), tl.nn.Linear(2, 1))
    given = np.ones((1, 3), np.float32)
    with tl.trace(names={"features": given}) as tr:
        layer(tl.Tensor(given)).sum()
    names = [v.name for v in tr.values]
    assert "0.weight" in names and "1.bias" in names
    x, w = leaves()
    with tl.trace(names={"left": x}) as tr:
        (x @ w).sum()
    assert tr["n0"].name == "left"


def test_of_a_loop_the_variable_is_the_last():
    x, w = leaves()
    with tl.trace() as tr:
        total = tl.Tensor(np.array(0.0))
        for _ in range(3):
            total = total + (x @ w).sum()
    assert [v.name for v in tr.values if v.op == "add"] == ["add_1", "add_2", "total"]


def test_large_arrays_are_omitted_in_words():
    big = tl.Tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    with tl.trace(largest=10) as tr:
        (big * 1.0).sum()
    assert isinstance(tr.array("n0"), Omitted) and "12 numbers, more than the 10" in tr.array("n0").why
    assert tr.array("n0").stats["max"] == 11 and np.array_equal(tr.array("n0").blocks, np.arange(12).reshape(3, 4))
    assert isinstance(Trace.from_json(tr.to_json()).array("n0"), Omitted)


def test_block_means_are_means():
    array = np.random.default_rng(0).normal(size=(64, 256))
    assert np.allclose(block_means(array), array.reshape(16, 4, 32, 8).mean(axis=(1, 3)), atol=1e-6)
    uneven = block_means(np.ones((17, 33)))
    assert uneven.shape == (16, 32) and np.allclose(uneven, 1)


def test_statistics_pass_over_what_is_not_finite():
    stats = statistics(np.array([3.0, -4.0, 0.0, np.nan, np.inf]))
    assert (stats["norm"], stats["min"], stats["max"], stats["nan"], stats["inf"]) == (5.0, -4.0, 3.0, 1, 1)
    assert stats["zeros"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("spoil, words", [
    (lambda d: {**d, "version": 99}, "version 99"), (lambda d: {**d, "format": "other"}, "is not a trace"),
    (lambda d: {k: v for k, v in d.items() if k != "values"}, "damaged"), (lambda d: [1], "is not a trace")])
def test_a_trace_file_that_is_none_is_refused_in_a_line(tmp_path, spoil, words):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(spoil(json.loads(worked.trace_example().to_json()))))
    with pytest.raises(UserError, match=words) as caught:
        Trace.load(path)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_traced_is_said_in_a_line():
    x, w = leaves()
    with pytest.raises(UserError, match=r"shape \(4, 2\)"):
        record(lambda: x @ w, "f")
    with pytest.raises(UserError, match="computed nothing"):
        record(lambda: 3.0, "f")
    with pytest.raises(UserError, match="float"):
        record(lambda: (x @ w).sum().item(), "f")
    with pytest.raises(UserError, match="requires no gradient"):
        record(lambda: tl.Tensor(np.ones(2)).sum(), "f")
    with pytest.raises(UserError, match="empty"), tl.trace():
        pass


def test_an_error_inside_the_block_is_the_users_own():
    before = tl.engine.STATE.fused
    with pytest.raises(ZeroDivisionError), tl.trace():
        1 / 0
    assert tl.engine.STATE.watchers == () and tl.engine.STATE.fused == before


def test_tracing_costs_at_most_three_times_the_definitions():
    model = tl.models.GPT(tl.models.GPTConfig(vocab_size=65, n_layer=2, n_head=4, n_embd=32, block_size=16))
    ids = np.random.default_rng(0).integers(0, 65, (1, 16))

    def step():
        model.zero_grad()
        model.loss(ids, ids).backward()

    def traced():
        with tl.trace():
            step()

    def seconds(run):
        start = time.process_time()
        run()
        return time.process_time() - start

    def plain():
        with tl.fused(False):
            step()
    plain(), traced()
    pairs = [(seconds(plain), seconds(traced)) for _ in range(60)]
    least, traced_least = (min(times) for times in zip(*pairs))
    assert traced_least <= 3 * least
