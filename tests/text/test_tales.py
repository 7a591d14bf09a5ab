"""The tales: the same everywhere, one derivation each, and an entropy that agrees with what is written."""

import math
import pathlib
import re
from itertools import combinations

import pytest

from tinyllm.text import tales
from tinyllm.text.grammar import Rule, Slot

DATA = pathlib.Path(__file__).parents[2] / "data" / "tales.txt"


@pytest.fixture(scope="module")
def corpus():
    return tales.corpus()


@pytest.fixture(scope="module")
def parsed(corpus):
    return [(tale, tales.parse(tale)) for tale in corpus.strip("\n").split(tales.SEPARATOR)]


def test_the_shipped_file_is_the_default_corpus(corpus):
    assert DATA.read_bytes() == corpus.encode("ascii")
    assert 500_000 <= len(corpus) < 502_000


def test_draws_follow_the_documented_stream():
    """random.Random(1): 0.13436424411240122, 0.8474337369372327, 0.763774618976614 on every Python 3."""
    draw = tales._draws(1)
    first = [int(x * 2**53) for x in (0.13436424411240122, 0.8474337369372327, 0.763774618976614)]
    assert [draw(1000) for _ in range(3)] == [bits % 1000 for bits in first]


def test_every_tale_parses_back_to_the_choices_that_wrote_it():
    """The draws that `write` asked for are the choices that `parse` finds, one for one."""
    for seed in range(300):
        asked = []
        draw = tales._draws(seed)

        def spy(n):
            asked.append(n)
            return draw(n)
        text = tales.grammar().write(spy)
        choices = tales.parse(text)
        replay = list(_numbers(choices))
        assert len(replay) == len(asked)
        assert tales.grammar().write(lambda n: replay.pop(0)) == text


def _numbers(choices):
    """The draws that lead `write` to these choices."""
    grammar, bound = tales.grammar(), {}
    for choice in choices:
        if choice.name in grammar.variables:
            yield grammar._free(choice.name, bound).index(choice.option)
            bound[choice.name] = choice.option
        elif len(grammar.rules[choice.name]) > 1:
            yield sum(weight for weight, _ in grammar.rules[choice.name][:choice.option])


def test_the_surprisal_of_a_long_corpus_tends_to_the_entropy(parsed):
    """Mean nats and mean length per tale lie within four standard errors of the exact expectations."""
    mean = tales.expected()
    nats = [-math.fsum(math.log(c.probability) for c in choices) for _, choices in parsed]
    lengths = [len(tale) for tale, _ in parsed]
    for sample, exact in ((nats, mean.nats), (lengths, mean.chars)):
        n, average = len(sample), sum(sample) / len(sample)
        error = math.sqrt(sum((x - average) ** 2 for x in sample) / (n - 1) / n)
        assert abs(average - exact) < 4 * error


def test_surprisal_counts_every_character(corpus, parsed):
    got = tales.surprisal(corpus)
    assert got.chars == len(corpus) and got.tales == len(parsed)
    assert got.nats == pytest.approx(sum(-math.log(c.probability) for _, cs in parsed for c in cs), rel=1e-12)
    assert got.per_char == got.nats / got.chars
    one, rest = corpus.split(tales.SEPARATOR, 1)
    assert tales.surprisal(one).nats + tales.surprisal(rest).nats == pytest.approx(got.nats, rel=1e-12)


def test_a_text_that_is_no_tale_is_refused(corpus):
    with pytest.raises(ValueError, match="0 derivations"):
        tales.surprisal("Call me Ishmael.")
    with pytest.raises(ValueError, match="0 derivations"):
        tales.parse(corpus.split(tales.SEPARATOR)[0][:-1])


# Uniqueness for every text there is. If no text of one alternative is the beginning of a text of another
# (and no value of a variable, where it is first mentioned, the beginning of another value), a reader from
# left to right always knows which was taken, whatever follows: two derivations of one text cannot exist.

def clash(grammar, left, right):
    """Whether some text of `left` may begin some text of `right`, or the other way about."""
    agenda = [(tuple(left), tuple(right))]
    while agenda:
        left, right = agenda.pop()
        if not left or not right:
            return True
        (a, *left), (b, *right) = left, right
        if a == b:
            agenda.append((left, right))
        elif isinstance(a, str) and isinstance(b, str):
            n = min(len(a), len(b))
            if a[:n] == b[:n]:
                agenda.append(([a[n:]] * (len(a) > n) + left, [b[n:]] * (len(b) > n) + right))
        elif not isinstance(a, str):
            agenda += [([*parts, *left], [b, *right]) for parts in expansions(grammar, a)]
        else:
            agenda += [([a, *left], [*parts, *right]) for parts in expansions(grammar, b)]
    return False


def expansions(grammar, part):
    if isinstance(part, Rule):
        return [parts for _, parts in grammar.rules[part.name]]
    return [value[part.attribute] for value in grammar.values[grammar.variables[part.variable]]]


def first_mentions(grammar, parts, bound, found):
    """Collect the slots that may draw a variable; returns the variables that are surely bound afterwards."""
    for part in parts:
        if isinstance(part, Rule):
            bound = frozenset.intersection(*(first_mentions(grammar, alternative, bound, found)
                                             for _, alternative in grammar.rules[part.name]))
        elif isinstance(part, Slot) and part.variable not in bound:
            found.add(part)
            bound = bound | {part.variable}
    return bound


def test_no_alternative_is_the_beginning_of_another():
    grammar = tales.grammar()
    for name, alternatives in grammar.rules.items():
        for (_, a), (_, b) in combinations(alternatives, 2):
            assert not clash(grammar, a, b), (name, a, b)


def test_no_first_mention_is_the_beginning_of_another():
    grammar, found = tales.grammar(), set()
    first_mentions(grammar, (Rule("start"),), frozenset(), found)
    assert {slot.variable for slot in found} == grammar.variables.keys()
    for slot in found:
        for a, b in combinations(expansions(grammar, slot), 2):
            assert not clash(grammar, a, b), (slot, a, b)


def test_rules_are_all_used_and_all_there():
    grammar = tales.grammar()
    used = {part.name for rule in grammar.rules.values() for _, parts in rule for part in parts if isinstance(part, Rule)}
    assert used | {"start"} == grammar.rules.keys()


def test_english(corpus):
    """Articles agree, sentences and speech open with capitals, quotation marks are paired, no doubled words."""
    assert not re.findall(r"\b[Aa] (?=[aeiou])\w+", corpus)
    assert not re.findall(r"\b[Aa]n (?=[^aeiouh])\w+", corpus)
    assert not re.findall(r"[.!?] [a-z]", re.sub(r'[.!?]"', '"', corpus))
    assert not re.findall(r"(?m)^[a-z]", corpus)
    assert not re.findall(r"\b(\w+) \1\b", corpus)
    assert not re.findall(r"  | [,.!?]|[,.]{2}|[<>{}]", corpus)
    assert all(line.count('"') % 2 == 0 for line in corpus.splitlines())
    speech = re.findall(r'"([^"]*)"', corpus)
    assert all(re.fullmatch(r"[A-Z].*[,.!?]", words) for words in speech)
