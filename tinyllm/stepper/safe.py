"""Evaluate what a person typed, without ever running it as Python: a walk over its syntax tree that knows a few things.

Allowed are numbers, the names that are offered, + - * / ** @, comparisons, indexing, keyword arguments, the attributes and
methods of an array in ATTRIBUTES, and the functions of NumPy in FUNCTIONS (as np.exp or exp). Everything else is refused by
name before anything is computed.
"""

import ast
import math
import operator

import numpy as np

FUNCTIONS = {name: getattr(np, name) for name in (
    "exp log sqrt tanh sin cos abs sign sum mean max min maximum minimum where transpose reshape swapaxes matmul broadcast_to "
    "zeros_like ones_like expand_dims squeeze cumsum flip outer dot").split()}
ATTRIBUTES = {"T", "mT", "shape", "ndim", "size", "sum", "mean", "max", "min", "transpose", "reshape", "swapaxes", "dot", "cumsum", "squeeze"}
CONSTANTS = {"pi": math.pi, "True": True, "False": False, "None": None}
LARGEST = 10**6         # elements, and exponents

_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
              ast.MatMult: operator.matmul, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
              ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.USub: operator.neg, ast.UAdd: operator.pos}


class Refused(ValueError):
    """What was typed is not among the things that are evaluated; the message names it."""


def evaluate(text, names):
    """The value of an expression over `names` (name -> array or number). Raises Refused in one line, and never runs anything else.

    >>> evaluate("g @ W.mT", {"g": np.ones((1, 2)), "W": np.array([[1.0, 2.0]])})
    array([[3.]])
    >>> evaluate("open", {"g": 1.0})
    Traceback (most recent call last):
    ...
    tinyllm.stepper.safe.Refused: 'open' is no name here; there are g, np
    """
    if len(text) > 500:
        raise Refused("that is longer than 500 characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Refused(f"{text.strip()!r} is no expression") from None
    _check(tree, names)
    try:
        with np.errstate(all="ignore"):
            return _value(tree, names)
    except Refused:
        raise
    except (ValueError, TypeError, IndexError, ArithmeticError, AttributeError, MemoryError, RecursionError) as error:
        raise Refused(f"{type(error).__name__}: {error}") from None


def _check(node, names):
    """Refuse whatever is not on the list, before any of it is computed."""
    kind = type(node)
    if kind is ast.Constant:
        if node.value is not None and not isinstance(node.value, (int, float, bool)):
            raise Refused(f"{node.value!r} is not allowed; numbers are")
    elif kind is ast.Name:
        if node.id not in names and node.id not in FUNCTIONS and node.id not in CONSTANTS:
            raise Refused(f"{node.id!r} is no name here; there are {', '.join([*names, 'np'])}")
    elif kind is ast.Attribute:
        if _is_numpy(node.value, names):
            if node.attr not in FUNCTIONS and node.attr not in CONSTANTS:
                raise Refused(f"np.{node.attr} is not on the list; allowed are {', '.join(FUNCTIONS)}")
            return
        if node.attr not in ATTRIBUTES:
            raise Refused(f".{node.attr} is not on the list; allowed are {', '.join(sorted(ATTRIBUTES))}")
        _check(node.value, names)
    elif kind in (ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Subscript, ast.Tuple, ast.List, ast.Slice, ast.keyword):
        if kind is ast.Call and not isinstance(node.func, (ast.Name, ast.Attribute)):
            raise Refused("only a function of the list can be called")
        if kind is ast.Call and isinstance(node.func, ast.Name) and node.func.id not in FUNCTIONS:
            raise Refused(f"{node.func.id}(…) is not on the list; allowed are {', '.join(FUNCTIONS)}")
        if kind is ast.Call and any(k.arg not in ("axis", "keepdims") for k in node.keywords):
            raise Refused("of keyword arguments only axis and keepdims are allowed")
        for operation in [getattr(node, "op", None), *getattr(node, "ops", ())]:
            if operation is not None and type(operation) not in _OPERATORS:
                raise Refused(f"the operator {type(operation).__name__} is not on the list")
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (ast.operator, ast.unaryop, ast.cmpop, ast.expr_context)):
                _check(child, names)
    else:
        raise Refused(f"{kind.__name__} is not allowed; an expression over {', '.join(names) or 'numbers'} is")


def _value(node, names):
    kind = type(node)
    if kind is ast.Constant:
        return float(node.value) if isinstance(node.value, int) and abs(node.value) > LARGEST else node.value
    if kind is ast.Name:
        return names[node.id] if node.id in names else FUNCTIONS.get(node.id, CONSTANTS.get(node.id))
    if kind is ast.Attribute:
        if _is_numpy(node.value, names):
            return FUNCTIONS.get(node.attr, CONSTANTS.get(node.attr))
        owner = np.asarray(_value(node.value, names))
        return getattr(owner, node.attr)
    if kind in (ast.Tuple, ast.List):
        return tuple(_value(x, names) for x in node.elts)
    if kind is ast.Slice:
        return slice(*(None if x is None else _value(x, names) for x in (node.lower, node.upper, node.step)))
    if kind is ast.UnaryOp:
        return _OPERATORS[type(node.op)](_value(node.operand, names))
    if kind is ast.Compare:
        if len(node.ops) > 1:
            raise Refused("compare two things at a time")
        return _OPERATORS[type(node.ops[0])](_value(node.left, names), _value(node.comparators[0], names))
    if kind is ast.BinOp:
        left, right = _value(node.left, names), _value(node.right, names)
        if isinstance(left, tuple) or isinstance(right, tuple):
            raise Refused("arithmetic on tuples is not allowed")
        if isinstance(node.op, ast.Pow):
            left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
        _afford(left, right, kind="product" if isinstance(node.op, ast.MatMult) else "")
        return _OPERATORS[type(node.op)](left, right)
    if kind is ast.Subscript:
        return np.asarray(_value(node.value, names))[_value(node.slice, names)]
    arguments = [_value(x, names) for x in node.args]
    function = _value(node.func, names)
    shape = arguments[-1] if arguments and isinstance(arguments[-1], tuple) else ()
    if math.prod(abs(n) for n in shape if isinstance(n, int)) > LARGEST:
        raise Refused(f"an array of shape {shape} is too large")
    owner = [_value(node.func.value, names)] if isinstance(node.func, ast.Attribute) and not _is_numpy(node.func.value, names) else []
    arrays = [x for x in (*owner, *arguments) if isinstance(x, (np.ndarray, float, int))]
    if len(arrays) > 1:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        _afford(*arrays, kind={"outer": "outer", "matmul": "product", "dot": "product"}.get(called, ""))
    return function(*arguments, **{k.arg: _value(k.value, names) for k in node.keywords})


def _is_numpy(node, names):
    return isinstance(node, ast.Name) and node.id == "np" and "np" not in names


def _afford(*arrays, kind=""):
    """Refuse a result, or a product, that would be too large; before it is computed."""
    sizes = [np.size(a) for a in arrays]
    if kind == "outer":
        size = math.prod(sizes)
    elif kind == "product":
        inner = max(1, np.shape(arrays[0])[-1] if np.ndim(arrays[0]) else 1)
        size = sizes[0] * sizes[1] // inner // (inner if np.ndim(arrays[1]) > 1 else 1) if sizes[0] * sizes[1] // inner <= 100 * LARGEST else 2 * LARGEST
    else:
        try:
            size = math.prod(np.broadcast_shapes(*map(np.shape, arrays)))
        except ValueError:
            return              # the operation itself will say that the shapes do not fit
    if size > LARGEST:
        raise Refused("the result is too large")
