"""A probabilistic grammar whose entropy is known exactly.

A grammar writes text by making choices. A *rule* is a list of alternatives, one of which is drawn; a
*variable* (the hero of a tale, say) is drawn where the text first mentions it and keeps its value to the
end. Templates name both:

    <sky>          expand the rule `sky`: a new choice every time
    {hero.home}    the attribute `home` of the variable `hero`; `{hero}` is short for `{hero.name}`
    {hero.His}     an attribute asked for with a capital: its value with the first letter capitalised
    ¶              a line break

If a text has one derivation only, the text and the list of its choices carry the same information:

    -ln P(text) = Σ -ln P(choice)        and so        H(text) = E[Σ -ln P(choice)]

`write` draws a text, `parse` finds the choices back (every derivation there is, so that "one only" is
something a test can see), and `expected` computes E[nats] and E[characters] by recursion over the rules:

    nats(rule) = Σ_i p_i (-ln p_i + Σ over the parts of alternative i of nats(part))

Weights never depend on a variable's value, and a variable is drawn uniformly from the values that no
other variable of the same list holds. By symmetry each variable is then uniform on its own, so the mean
length of `{friend.home}` is the plain mean over the list, although friend and hero always differ.
"""

import math
import re
from typing import NamedTuple


class Rule(NamedTuple):
    """A reference to a rule, `<name>`."""
    name: str


class Slot(NamedTuple):
    """A reference to a variable's attribute, `{variable.attribute}`."""
    variable: str
    attribute: str


class Choice(NamedTuple):
    """One choice of a derivation: which rule or variable, what was taken, how likely, and where."""
    name: str
    option: int
    probability: float
    at: int  # the position in the text where the chosen part begins


class Expectation(NamedTuple):
    """Means over the texts of a rule, and the variables that are bound after it."""
    nats: float
    chars: float
    bound: frozenset
    maybe: frozenset  # bound in some texts only; mentioning one of these again is an error


_PART = re.compile(r"<([a-z_]+)>|\{([a-z_]+)(?:\.([A-Za-z_]+))?\}")


def compile_template(source):
    """Split a template into its parts: strings, `Rule`s and `Slot`s.

    >>> compile_template("One <sky> day {hero} sang.")
    ('One ', Rule(name='sky'), ' day ', Slot(variable='hero', attribute='name'), ' sang.')
    """
    source = source.replace("¶", "\n")
    parts, end = [], 0
    for match in _PART.finditer(source):
        if match.start() > end:
            parts.append(source[end:match.start()])
        rule, variable, attribute = match.groups()
        parts.append(Rule(rule) if rule else Slot(variable, attribute or "name"))
        end = match.end()
    if end < len(source):
        parts.append(source[end:])
    return tuple(parts)


def _capital(word):
    return word[:1].upper() + word[1:]


def _capitalised(parts):
    first, *others = parts
    first = _capital(first) if isinstance(first, str) else Slot(first.variable, _capital(first.attribute))
    return (first, *others)


class Grammar:
    """A set of rules, lists of values, and the variables drawn from those lists.

    `rules` maps a name to its alternatives, one a line; a line may open with a whole-number weight and a
    star (`3* text`; 1 where none is written). `lists` maps a list's name to its values, each a dict of
    attributes that are templates themselves. `variables` maps a variable to the list it is drawn from.

    >>> pets = Grammar(
    ...     {"start": "{pet} the {pet.kind} <did>.", "did": "3* slept\\nsang"},
    ...     {"pets": [{"name": "Tom", "kind": "cat"}, {"name": "Polly", "kind": "parrot"}]},
    ...     {"pet": "pets"})
    >>> [(c.name, c.option, c.probability) for c in pets.parse("Tom the cat slept.")]
    [('start', 0, 1.0), ('pet', 0, 0.5), ('did', 0, 0.75)]
    """

    def __init__(self, rules, lists, variables, start="start"):
        self.start = start
        self.variables = dict(variables)
        self.rules, self.values = {}, {}
        if both := self.variables.keys() & rules.keys():
            raise ValueError(f"{sorted(both)}: names of rules and of variables at once; a choice needs one meaning")
        for name, source in rules.items():
            self.rules[name] = [self._alternative(line) for line in source.strip().splitlines()]
        for name, values in lists.items():
            self.values[name] = [self._attributes(value) for value in values]

    @staticmethod
    def _alternative(line):
        weight = re.match(r"\s*(\d+)\*\s*", line)
        text = line[weight.end():] if weight else line
        return int(weight.group(1)) if weight else 1, compile_template(text.strip())

    @staticmethod
    def _attributes(value):
        parts = {key: compile_template(text) for key, text in value.items()}
        capitals = {_capital(key): _capitalised(text) for key, text in parts.items()}
        return {**capitals, **parts}

    def _free(self, variable, bound):
        """Indices of the values that `variable` may still take."""
        source = self.variables[variable]
        taken = {bound[other] for other in bound if self.variables[other] == source}
        return [index for index in range(len(self.values[source])) if index not in taken]

    def _slot(self, slot, index):
        return self.values[self.variables[slot.variable]][index][slot.attribute]

    def write(self, draw):
        """Write one text; `draw(n)` gives a uniform whole number below n."""
        out, bound, stack = [], {}, [Rule(self.start)]
        while stack:
            part = stack.pop()
            if isinstance(part, str):
                out.append(part)
            elif isinstance(part, Rule):
                alternatives = self.rules[part.name]
                left = draw(sum(weight for weight, _ in alternatives)) if len(alternatives) > 1 else 0
                for weight, parts in alternatives:
                    if left < weight:
                        break
                    left -= weight
                stack.extend(reversed(parts))
            else:
                if part.variable not in bound:
                    free = self._free(part.variable, bound)
                    bound[part.variable] = free[draw(len(free))]
                stack.extend(reversed(self._slot(part, bound[part.variable])))
        return "".join(out)

    def derivations(self, text):
        """Every derivation of `text`: a list of lists of `Choice`s (empty where there is none)."""
        # A state is (position, parts still to come as a linked list, variables, choices as a linked list).
        found, agenda = [], [(0, (Rule(self.start), None), {}, None)]
        while agenda:
            at, rest, bound, choices = agenda.pop()
            while rest is not None and isinstance(rest[0], str):
                if not text.startswith(rest[0], at):
                    break
                at, rest = at + len(rest[0]), rest[1]
            if rest is None:
                if at == len(text):
                    found.append(_unlink(choices))
                continue
            part, rest = rest
            if isinstance(part, Rule):
                alternatives = self.rules[part.name]
                total = sum(weight for weight, _ in alternatives)
                for option, (weight, parts) in enumerate(alternatives):
                    if not isinstance(parts[0], str) or text.startswith(parts[0], at):
                        choice = Choice(part.name, option, weight / total, at)
                        agenda.append((at, _link(parts, rest), bound, (choice, choices)))
            elif isinstance(part, Slot):
                if part.variable in bound:
                    parts = self._slot(part, bound[part.variable])
                    agenda.append((at, _link(parts, rest), bound, choices))
                else:
                    free = self._free(part.variable, bound)
                    for index in free:
                        parts = self._slot(part, index)
                        if not isinstance(parts[0], str) or text.startswith(parts[0], at):
                            choice = Choice(part.variable, index, 1 / len(free), at)
                            agenda.append((at, _link(parts, rest), {**bound, part.variable: index},
                                           (choice, choices)))
        return found

    def parse(self, text):
        """The choices that wrote `text`; ValueError where there is no derivation or more than one."""
        found = self.derivations(text)
        if len(found) != 1:
            raise ValueError(f"{text[:40]!r}… has {len(found)} derivations in this grammar, expected one")
        return found[0]

    def expected(self):
        """Exact means over the grammar's texts: an `Expectation` in nats and characters.

        >>> coin = Grammar({"start": "heads\\ntails!"}, {}, {})
        >>> coin.expected()[:2] == (math.log(2), 5.5)
        True
        """
        return self._expected((Rule(self.start),), frozenset(), frozenset(), {})

    def _expected(self, parts, bound, maybe, memo):
        nats = chars = 0.0
        for part in parts:
            if isinstance(part, str):
                chars += len(part)
                continue
            key = part, bound, maybe
            if key not in memo:
                of = self._expected_rule if isinstance(part, Rule) else self._expected_slot
                memo[key] = of(part, bound, maybe, memo)
            more_nats, more_chars, bound, maybe = memo[key]
            nats, chars = nats + more_nats, chars + more_chars
        return Expectation(nats, chars, bound, maybe)

    def _expected_rule(self, rule, bound, maybe, memo):
        alternatives = self.rules[rule.name]
        total = sum(weight for weight, _ in alternatives)
        nats = chars = 0.0
        after = []
        for weight, parts in alternatives:
            p = weight / total
            mean = self._expected(parts, bound, maybe, memo)
            nats += p * (mean.nats - math.log(p))
            chars += p * mean.chars
            after.append(mean)
        always = frozenset.intersection(*(mean.bound for mean in after))
        ever = frozenset.union(*(mean.bound | mean.maybe for mean in after))
        return Expectation(nats, chars, always, ever - always)

    def _expected_slot(self, slot, bound, maybe, memo):
        source = self.variables[slot.variable]
        kin = {variable for variable in self.variables if self.variables[variable] == source}
        nats = 0.0
        if slot.variable not in bound:
            if kin & maybe:
                raise ValueError(f"{slot}: whether {sorted(kin & maybe)} is drawn before depends on a choice")
            nats = math.log(len(self.values[source]) - len(kin & bound))
            bound = bound | {slot.variable}
        lengths = []
        for value in self.values[source]:
            parts = value[slot.attribute]
            inner = [part for part in parts if not isinstance(part, str)]
            if any(isinstance(p, Rule) or p.variable not in bound or p.variable in kin for p in inner):
                raise ValueError(f"{slot}: an attribute may mention only variables of other lists, drawn before")
            lengths.append(self._expected(parts, bound, maybe, memo).chars)
        return Expectation(nats, sum(lengths) / len(lengths), bound, maybe)


def _link(parts, rest):
    for part in reversed(parts):
        rest = (part, rest)
    return rest


def _unlink(choices):
    out = []
    while choices is not None:
        choice, choices = choices
        out.append(choice)
    return out[::-1]
