"""Wrong rules made from right ones: every small slip of the pen, applied to a rule's own source.

`mutants(rule)` yields (what was done, the lines changed, function) for one rule of a primitive; `mutated(primitive, rule,
function)` is a primitive that has the wrong function in the place of the right one.
"""

import ast
import copy
import inspect
import textwrap
import warnings
from types import SimpleNamespace

from tinyllm.engine import Primitive, primitives

OPERATORS = {ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
             ast.MatMult: ast.Mult, ast.Mod: ast.Mult, ast.FloorDiv: ast.Mult}
COMPARISONS = {ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt), ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.Gt),
               ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
               ast.NotIn: (ast.In,)}
FUNCTIONS = {"sum": "mean", "mean": "sum", "sin": "cos", "cos": "sin", "exp": "log", "log": "exp", "zeros": "ones", "zeros_like": "ones_like",
             "maximum": "minimum", "minimum": "maximum", "argmax": "argmin"}


def mutants(rule):
    """(what was done, the lines changed, function) for every mutant of a rule; no source twice."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(rule.function)))
    right = ast.unparse(tree)
    seen = {right}
    for what, changed in _changes(tree, rule):
        source = ast.unparse(ast.fix_missing_locations(changed))
        if source not in seen:
            seen.add(source)
            space = dict(rule.function.__globals__)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")     # Python finds some of them odd, too
                    exec(compile(source, "<mutant>", "exec"), space)
            except SyntaxError:     # f(*x) without f is no expression
                continue
            yield what, _difference(right, source), space[rule.function.__name__]


def helper(function):
    """A function that rules share, in the form of a rule, for `mutants`."""
    nothing = SimpleNamespace(inputs=(), differentiable=(), variadic=None)
    return SimpleNamespace(function=function, parameters=tuple(inspect.signature(function).parameters), primitive=nothing)


def mutated(primitive, rule, function):
    """A subclass of primitive's own base, equal to it but for one rule; registered as "mutant"."""
    space = {}
    for key, value in primitive.__dict__.items():
        if isinstance(value, staticmethod):
            space[key] = value.__func__
        elif key in ("analytic", "symbol", "__doc__"):
            space[key] = value
    space[f"grad_{rule.name}"], space["name"] = function, "mutant"
    return type("Mutant", primitive.__bases__, space)


def _difference(right, wrong):
    """The lines of `wrong` that are not as in `right`; "no …" for a statement that is gone."""
    pairs = list(zip(right.splitlines()[1:], wrong.splitlines()[1:]))
    return "; ".join(f"no {one.strip()}" if two.strip() == "pass" else two.strip() for one, two in pairs if one != two)


def forget():
    """Take the mutant out of the registry."""
    primitives.pop("mutant", None)


def _changes(tree, rule):
    nodes = [n for n in ast.walk(tree) if not isinstance(n, (ast.arguments, ast.arg))]
    shapes = {n.value for n in nodes if isinstance(n, ast.Attribute) and n.attr in ("shape", "ndim", "dtype")}
    negative = {n.operand for n in nodes if isinstance(n, ast.UnaryOp)}     # -1 becomes 1, not -2
    for place, node in enumerate(nodes):
        for what, replacement in _alternatives(node, rule):
            if isinstance(node, ast.Name) and node in shapes or what == "another constant" and node in negative:
                continue
            changed = _replaced(tree, place, replacement)
            for name in {n.id for n in ast.walk(replacement) if isinstance(n, ast.Name)} & {"y", "g", *rule.primitive.inputs} - set(rule.parameters):
                if name != rule.primitive.variadic:
                    changed.body[0].args.args.append(ast.arg(arg=name))
            yield what, changed


def _replaced(tree, place, replacement):
    """A copy of the tree with the node number `place` (in the order of `_changes`) exchanged."""
    tree = copy.deepcopy(tree)
    target = [n for n in ast.walk(tree) if not isinstance(n, (ast.arguments, ast.arg))][place]

    class Exchange(ast.NodeTransformer):
        def visit(self, node):
            return copy.deepcopy(replacement) if node is target else super().generic_visit(node)

    return Exchange().visit(tree)


def _alternatives(node, rule):
    """(what was done, new node) for one node of the tree."""
    if isinstance(node, ast.BinOp):
        if type(node.op) in OPERATORS:
            yield "another operator", ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        if not isinstance(node.op, (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr)):
            yield "operands exchanged", ast.BinOp(node.right, node.op, node.left)
        yield "right operand dropped", node.left
        yield "left operand dropped", node.right
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign dropped", node.operand
    elif isinstance(node, ast.Attribute) and node.attr in ("mT", "T"):
        yield "transpose dropped", node.value
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from _other_names(node, rule)
    elif isinstance(node, ast.Call):
        yield from _other_calls(node)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in COMPARISONS.get(type(node.ops[0]), ()):
            yield "another comparison", ast.Compare(node.left, [other()], node.comparators)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        yield "another constant", ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.IfExp):
        yield "always the first branch", node.body
        yield "always the second branch", node.orelse
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "sign flipped", ast.Return(ast.UnaryOp(ast.USub(), node.value))
    elif isinstance(node, (ast.Assign, ast.AugAssign, ast.Expr)) and not _is_docstring(node):
        yield "statement dropped", ast.Pass()
        if isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
            yield "another operator", ast.AugAssign(node.target, OPERATORS[type(node.op)](), node.value)
    elif isinstance(node, ast.If):
        yield "condition negated", ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)


def _is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _other_names(node, rule):
    inputs = [n for n in rule.primitive.inputs if n in rule.primitive.differentiable]
    if node.id == "g":
        yield "g doubled", ast.BinOp(ast.Constant(2), ast.Mult(), node)
    if node.id == "y":
        yield "y taken as 1", ast.Constant(1)
    if node.id in inputs:
        for other in [*(n for n in inputs if n != node.id), "y"]:
            yield f"{other} for {node.id}", ast.Name(other, ast.Load())
    if node.id.startswith("axis"):
        yield "another axis", ast.Constant(0)
        yield "another axis", ast.Constant(-1)


def _other_calls(node):
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in FUNCTIONS:
        func = ast.Attribute(node.func.value, FUNCTIONS[name], ast.Load()) if isinstance(node.func, ast.Attribute) else ast.Name(FUNCTIONS[name], ast.Load())
        yield "another function", ast.Call(func, node.args, node.keywords)
    for i in range(len(node.args) - 1):
        args = list(node.args)
        args[i], args[i + 1] = args[i + 1], args[i]
        yield "arguments exchanged", ast.Call(node.func, args, node.keywords)
    if node.args:
        yield "call dropped", node.args[0]
    if isinstance(node.func, ast.Attribute):
        yield "call dropped", node.func.value
    for i in range(len(node.keywords)):
        yield "keyword dropped", ast.Call(node.func, node.args, node.keywords[:i] + node.keywords[i + 1:])
