"""Predict mode asks the same questions for the same seed, grades right and wrong, names the mistake, and never runs what is typed."""

import json

import numpy as np
import pytest

from tinyllm.stepper import worked
from tinyllm.stepper.example import DECKS
from tinyllm.stepper.hunt import SPOILED, seed_bug
from tinyllm.stepper.predict import KINDS, Quiz, Scores, mutants, question_for
from tinyllm.stepper.replay import check_rules
from tinyllm.stepper.safe import Refused, evaluate
from tinyllm.stepper.steps import steps_of


def asked(deck, kind, target, seed=0):
    trace = worked.trace_deck(deck)
    steps = steps_of(trace)
    k = next(k for k, s in enumerate(steps) if s.kind == "rule" and s.target and trace[s.target].name == target)
    question = question_for(trace, steps, k, kind, np.random.default_rng(seed))
    assert question.kind == kind
    return question


def graded(question, text):
    return Quiz().grade(question, text)


@pytest.mark.parametrize("deck", DECKS)
def test_a_seed_asks_the_same_again(deck):
    trace = worked.trace_deck(deck)
    steps = steps_of(trace)

    def session(seed):
        quiz = Quiz(seed)
        return [(q.prompt, q.answer) for q in (quiz.ask(trace, steps, k) for k in range(len(steps))) if q]
    assert session(3) == session(3) and session(3) != session(4)


@pytest.mark.parametrize("deck", DECKS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_graded_right(deck, kind):
    trace = worked.trace_deck(deck)
    steps = steps_of(trace)
    for k, step in enumerate(steps):
        question = question_for(trace, steps, k, kind, np.random.default_rng(k))
        if question is None or question.kind != kind or kind == "rule" and ("keep(" in question.answer or "_count" in question.answer or "None" in question.answer
                                                                           or "scatter" in question.answer or "inf" in question.answer):
            continue
        answer = question.answer.replace("product(g, b.mT)", "g @ b.mT").replace("product(a.mT, g)", "a.mT @ g")
        assert graded(question, answer)[1], (question.prompt, answer, graded(question, answer))


def test_mutants_are_wrong_and_named():
    texts = dict(mutants("product(g, b.mT)"))
    assert texts["product(g, b)"] == "the transpose is missing"
    assert texts["product(b.mT, g)"] == "the operands of the product are exchanged"
    assert texts["-product(g, b.mT)".replace("-product(g, b.mT)", "-(product(g, b.mT))")] == "the sign is flipped"
    for source in ("g", "g * b", "-g * y / b", "g / a", "product(a.mT, g)"):
        assert source not in dict(mutants(source)) and len(mutants(source)) >= 3


def test_a_wrong_choice_is_told_why():
    question = asked("matmul", "choice", "W")
    for k, (_, wrong) in enumerate(question.choices):
        words, right = graded(question, str(k + 1))
        assert right == (not wrong) and (wrong in words)
    with_bad_key = graded(question, "7")
    assert with_bad_key == ("not evaluated: answer with 1, 2, 3 or 4", False)


def test_values_may_be_expressions_within_a_percent():
    question = asked("chain", "value", "w")
    truth = float(question.answer)
    for text, right in ((f"{truth}", True), (f"{truth * 1.009}", True), (f"{truth} + {abs(truth) * 0.02}", False), (f"2 * {truth} / 2", True), ("g * x", True)):
        assert graded(question, text)[1] is right
    assert "the sign is flipped" in graded(question, f"-({truth})")[0]
    assert "yours is 2 times it" in graded(question, f"2 * ({truth})")[0]


def test_shapes_are_compared_as_numbers():
    question = asked("matmul", "shape", "V")
    assert graded(question, "(3, 2)")[1] and graded(question, "3x2")[1] and graded(question, "3 by 2")[1]
    words, right = graded(question, "(2, 3)")
    assert not right and "the axes are exchanged" in words


@pytest.mark.parametrize("text, words", [
    ("-(g @ b.mT)", "the sign is flipped"), ("2 * (g @ b.mT)", "× 2"), ("(g @ b.mT) / 6", "mean over"), ("0 * (g @ b.mT)", "0 everywhere"),
    ("(a @ b) @ b.mT", "largest difference"), ("g.T", "shape")])
def test_a_typed_rule_is_diagnosed(text, words):
    """The catalogue of the gradient check, on a product (3, 2) @ (2, 3)."""
    question = asked("matmul", "rule", "X")
    told, right = graded(question, text)
    assert not right and words in told, told


def test_a_typed_rule_that_transposes_is_found_out():
    question = asked("clip", "rule", "ratio")
    told, right = graded(question, "g * y")
    assert not right and "largest difference" in told


def test_an_exact_rule_says_how_it_runs_here():
    told, right = graded(asked("matmul", "rule", "X"), "np.matmul(g, W.T)")
    assert right and "exact" in told and "product(g, b.mT)" in told


@pytest.mark.parametrize("text", [
    "__import__('os').system('true')", "open('/etc/passwd')", "(lambda: 1)()", "[x for x in g]", "g.tofile('x')", "g.__class__", "np.load('x')", "np.save",
    "exec('1')", "eval('1')", "g if 1 else g", "f'{g}'", "'text'", "g := 1", "import os", "print(1)", "g.ctypes", "np.lib", "globals()", "{}", "g.dump('x')",
    "().__class__.__bases__", "getattr(g, 'T')", "1j", "b'x'", "*g", "g, *g", "sum.__self__", "np.sum(g, out=g)", "np.zeros_like(g, 10**9)()"])
def test_what_is_not_on_the_list_is_refused(text):
    with pytest.raises(Refused) as caught:
        evaluate(text, {"g": np.ones((2, 2))})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["np.broadcast_to(g, (10**6, 10**6))", "g.reshape((2, 10**9))", "1" * 501, "(" * 200, "np.outer(np.outer(g, g), g) @ g",
                                  "g.reshape((1000, 1)) * g * g.reshape((1000, 1, 1))", "g.reshape((1000, 1)) @ g.reshape((1, 1000)) @ np.outer(g, g) @ np.outer(g, g)"])
def test_what_would_take_forever_ends_in_a_line(text):
    with pytest.raises(Refused) as caught:
        evaluate(text, {"g": np.ones(1000)})
    assert "\n" not in str(caught.value)


def test_the_list_is_enough_for_rules():
    names = {"g": np.arange(6.0).reshape(2, 3), "y": np.ones((2, 3)), "b": np.eye(3)}
    for text, value in (("g @ b.mT", names["g"]), ("np.where(g > 2, g, 0)", np.where(names["g"] > 2, names["g"], 0)), ("g.sum(axis=0)", names["g"].sum(axis=0)),
                        ("y * (g - np.sum(g * y, axis=-1, keepdims=True))", names["g"] - names["g"].sum(-1, keepdims=True)), ("g[:, 1:]", names["g"][:, 1:]),
                        ("exp(-g)", np.exp(-names["g"])), ("1e3 * g / 1_000", names["g"]), ("np.swapaxes(g, 0, 1)", names["g"].T)):
        assert np.allclose(evaluate(text, names), value)


def test_scores_are_kept_by_deck(tmp_path):
    path = tmp_path / "deep" / "scores.json"
    question = asked("chain", "shape", "w")
    quiz = Quiz(0, Scores(path), "chain")
    quiz.grade(question, "()")
    quiz.grade(question, "(3,)")
    quiz.grade(question, "no numbers")          # cannot be read: costs nothing
    assert json.loads(path.read_text())["decks"] == {"chain": [1, 2]}
    path.write_text("damaged")
    assert Scores(path).read() == {}


@pytest.mark.parametrize("deck", DECKS)
@pytest.mark.parametrize("seed", range(4))
def test_a_seeded_bug_is_the_first_step_that_fails_its_check(deck, seed):
    trace = worked.trace_deck(deck)
    wrong, place, words = seed_bug(trace, steps_of(trace), np.random.default_rng(seed))
    assert words in SPOILED
    steps = [s for s in steps_of(wrong) if s.kind == "rule" and s.target]
    for step in steps:
        results = [check_rules(wrong, [step], wrong[step.target], wrong.arrays[step.contribution], at).ok for at in np.ndindex(wrong.arrays[step.contribution].shape)]
        if not all(results):
            assert (step.value, step.position) == place
            return
    pytest.fail("no step failed its check")


def test_running_the_rules_again_gives_the_recorded_walk():
    from tinyllm.stepper.hunt import rule_result
    for deck in DECKS:
        trace = worked.trace_deck(deck)
        for step in steps_of(trace):
            if step.kind == "rule":
                assert np.allclose(rule_result(trace, step.value, step.position, trace.arrays[step.g]), trace.arrays[step.gradient], atol=1e-15)
