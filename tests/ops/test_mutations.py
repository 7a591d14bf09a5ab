"""The checks check: every small change of every rule is caught, or known to change nothing.

A mutant is caught by the registry's gradient check of its primitive, or by the documented slopes at kinks, which
no difference quotient can see.
"""

import faulthandler
import os
import signal
import sys

import numpy as np
import pytest
import tinyllm as tl
from equivalents import EQUIVALENT
from mutants import forget, helper, mutants, mutated
from subgradients import SUBGRADIENTS
from test_primitives import NAMES
from tinyllm.engine.gradcheck import primitive_rows
from tinyllm.ops import indexing, reductions

pytestmark = pytest.mark.usefixtures("kernels")        # the rules of fused operations are theirs

backward, matmul = (sys.modules[f"tinyllm.{name}"] for name in ("engine.backward", "ops.matmul"))     # hidden behind functions of their names

_seen = {}      # rule -> {changed line: caught}


def caught(primitive, rule, function):
    """Whether a primitive with this function for its rule fails.

    A kernel believes the shapes it is told: where a rule may hand arrays to one, a wrong rule can write anywhere, so
    it runs in a process of its own, and dying there (or not ending within 20 s) is failing.
    """
    if primitive.__module__.startswith("tinyllm.ops."):
        return fails(primitive, rule, function)
    child = os.fork()
    if not child:
        outcome = 2
        try:
            signal.alarm(20)
            faulthandler.disable()      # its death is no news
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            outcome = int(fails(primitive, rule, function))
        finally:
            os._exit(outcome)
    return os.waitpid(child, 0)[1] != 0


def fails(primitive, rule, function):
    """`caught`, in this process."""
    try:
        mutant = mutated(primitive, rule, function)
        return any(not row.ok for row in primitive_rows(mutant)) or not kinks_hold(primitive.name, mutant)
    finally:
        forget()


def kinks_hold(name, mutant):
    for _, inputs, attributes, position, expected in [s for s in SUBGRADIENTS if s[0] == name]:
        leaves = [tl.Tensor(np.array(x), requires_grad=True) for x in inputs]
        with np.errstate(all="ignore"):
            y = mutant.apply(*leaves, **attributes)
            y.backward(np.ones(y.shape))
        if not np.array_equal(leaves[position].grad, expected):
            return False
    return True


def outcome(name):
    """(rule, changed line) -> caught, for all mutants of a primitive."""
    if name not in _seen:
        primitive = tl.primitives[name]
        _seen[name] = {(f"{name}.{rule.name}", lines): caught(primitive, rule, function)
                       for rule in primitive.rule_list for _, lines, function in mutants(rule)}
    return _seen[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_mutant_is_caught_or_equivalent(name):
    survivors = [mutant for mutant, dead in outcome(name).items() if not dead and mutant not in EQUIVALENT]
    assert not survivors, "no check notices these changes of a rule: add a sample that does, or the reason to equivalents.py"


def test_every_listed_equivalent_is_a_mutant_that_survives():
    rules = [key for key in EQUIVALENT if "." in key[0]]
    everything = {mutant: dead for name in NAMES for mutant, dead in outcome(name).items()}
    assert {mutant: everything.get(mutant) for mutant in rules} == dict.fromkeys(rules, False)


HELPERS = {     # functions that rules share -> primitives that lean on them
    (reductions, "keep"): ["sum", "mean", "max", "logsumexp"],
    (reductions, "_count"): ["mean", "var"],
    (indexing, "scatter"): ["getitem", "take", "take_along_axis"],
    (matmul, "_alone"): ["einsum"],
    (backward, "unbroadcast"): ["add", "matmul", "broadcast_to", "where"],
}


@pytest.mark.parametrize("module, name", HELPERS, ids=lambda x: getattr(x, "__name__", x))
def test_every_mutant_of_what_rules_share_is_caught_or_equivalent(module, name, monkeypatch):
    survivors = []
    for _, lines, function in mutants(helper(getattr(module, name))):
        monkeypatch.setattr(module, name, function)
        if all(row.ok for user in HELPERS[module, name] for row in primitive_rows(tl.primitives[user])):
            survivors.append((name, lines))
        monkeypatch.undo()
    assert set(survivors) == {key for key in EQUIVALENT if key[0] == name}


def test_there_are_mutants_of_every_rule():
    rules = {f"{name}.{rule.name}" for name in NAMES for rule in tl.primitives[name].rule_list}
    mutants_of = {rule for name in NAMES for rule, _ in outcome(name)}
    assert rules == mutants_of


def test_the_right_rule_is_not_caught():
    for name in NAMES:
        primitive = tl.primitives[name]
        for rule in primitive.rule_list:
            assert not caught(primitive, rule, rule.function)


def test_the_registry_is_left_as_it_was():
    assert "mutant" not in tl.primitives
