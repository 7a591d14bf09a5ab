"""The grammar's figures against texts enumerated by hand, and its refusals."""

import math

import pytest

from tinyllm.text.grammar import Grammar

RULES = {
    "start": "3* {a} met {b}<how>\n{a} slept.",
    "how": "2* ...\n, by {a.his} <tree>.\n2* , and {b.his} dog.",
    "tree": "oak\nelm",
}
ANIMALS = [("Tom", "his"), ("Ann", "her"), ("Boris", "his")]
LISTS = {"people": [{"name": name, "his": his} for name, his in ANIMALS]}


@pytest.fixture
def small():
    return Grammar(RULES, LISTS, {"a": "people", "b": "people"})


def by_hand():
    """Every text of the small grammar with its probability, written out as nested loops."""
    for a, his_a in ANIMALS:
        yield f"{a} slept.", 1 / 4 / 3
        for b, his_b in ANIMALS:
            if b != a:
                p = 3 / 4 / 3 / 2
                yield f"{a} met {b}...", p * 2 / 5
                yield f"{a} met {b}, and {his_b} dog.", p * 2 / 5
                for tree in ("oak", "elm"):
                    yield f"{a} met {b}, by {his_a} {tree}.", p / 5 / 2


def test_enumeration_by_hand_agrees(small):
    texts = list(by_hand())
    assert len({text for text, _ in texts}) == len(texts) == 3 + 6 * 4
    assert math.fsum(p for _, p in texts) == pytest.approx(1, abs=1e-15)
    for text, p in texts:
        choices = small.parse(text)
        assert math.prod(choice.probability for choice in choices) == pytest.approx(p, rel=1e-14)


def test_expected_equals_the_sum_over_all_texts(small):
    texts = list(by_hand())
    mean = small.expected()
    assert mean.nats == pytest.approx(-math.fsum(p * math.log(p) for _, p in texts), rel=1e-14)
    assert mean.chars == pytest.approx(math.fsum(p * len(text) for text, p in texts), rel=1e-14)


def test_all_writes_are_texts_of_the_grammar(small):
    known = dict(by_hand())
    numbers = iter(range(10**6))
    written = {small.write(lambda n: (next(numbers) * 7919 // 13) % n) for _ in range(500)}
    assert written <= known.keys() and len(written) > 10


def test_an_ambiguous_text_is_refused():
    grammar = Grammar({"start": "<x><x>", "x": "a\naa"}, {}, {})
    assert len(grammar.derivations("aaa")) == 2
    with pytest.raises(ValueError, match="2 derivations"):
        grammar.parse("aaa")
    with pytest.raises(ValueError, match="0 derivations"):
        grammar.parse("b")


def test_choices_say_where_they_begin():
    grammar = Grammar({"start": "One <sky> day <who>.", "sky": "hot\ncold", "who": "I slept\nwe sang"}, {}, {})
    text = "One cold day we sang."
    assert [text[c.at:][:4] for c in grammar.parse(text)] == ["One ", "cold", "we s"]


def test_a_variable_bound_in_one_branch_only_is_refused():
    grammar = Grammar({"start": "<x> and {a}", "x": "{a}\nnobody"}, LISTS, {"a": "people"})
    with pytest.raises(ValueError, match="depends on a choice"):
        grammar.expected()


def test_a_name_cannot_be_rule_and_variable():
    with pytest.raises(ValueError, match="rules and of variables"):
        Grammar({"start": "<a>{a}", "a": "x"}, LISTS, {"a": "people"})
