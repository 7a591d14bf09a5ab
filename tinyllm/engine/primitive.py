"""A primitive: one operation, its forward in NumPy and one rule per input, written once.

    class Multiply(Primitive):
        '''y = a * b'''
        def forward(a, b):      return a * b
        def grad_a(g, y, a, b): return g * b      # ∂(a·b)/∂a = b
        def grad_b(g, y, a, b): return g * a

A subclass is a namespace, never an object. Defining it registers it under its name in snake_case. Positional
parameters of `forward` are its inputs, keyword-only ones its attributes (`axis`, `shape`). The rule of
input `x` is `grad_x`; its parameters are any of `g` (the incoming cotangent, dL/dy), `y`, the inputs and
the attributes, by name. An input without a rule carries no gradient. A variadic input (`*arrays`) has one rule that returns one
gradient for each.

What a rule reads decides what a node keeps until backward: the engine looks at the rule's own bytecode, keeps
`y` or an input only if some needed rule loads it, and keeps only shape and dtype where that is all a rule
asks for (`a.shape`). Summing over broadcast axes, dtype, skipping inputs that need no gradient and adding up
happen in the walk (`backward.py`), never in a rule.
"""

import dis
import inspect
import re
import textwrap

import numpy as np
from numpy import ndarray

from .guards import lock, release
from .state import STATE
from .tensor import Tensor, as_array

primitives = {}     # name -> class: everything the engine can differentiate

_PLAIN = frozenset((ndarray, float, int, bool, np.float32, np.float64))
_METADATA = frozenset(("shape", "dtype", "ndim", "size"))


_new = object.__new__     # skips __init__: apply sets every slot itself


class Like:
    """Stands in for an array of which a rule reads only the shape and the dtype."""

    __slots__ = ("shape", "dtype")

    def __init__(self, array):
        self.shape = getattr(array, "shape", ())
        self.dtype = getattr(array, "dtype", None)

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: int(np.prod(self.shape)))


class Node:
    """One recorded operation: what made a tensor, from what, and what its rules will read.

    `plan`: the rules to call; `parents`: the Node or leaf Tensor behind each input that wants a gradient (which these
    are, `plan.positions` says); `saved`, `attributes`: what the rules read; `index`: place in the order of creation;
    `g`: dL/dy while it is being gathered; `retain`: a weak reference to the tensor that asked to keep it; `where`: a
    watcher's note.
    """

    __slots__ = ("plan", "parents", "saved", "attributes", "index", "shape", "dtype", "g", "retain", "where")

    primitive = property(lambda self: self.plan.primitive)

    def release(self):
        """Let go of everything saved; a later backward through here raises."""
        release(self.saved)
        self.saved = self.parents = self.attributes = None

    def __del__(self):
        if self.saved:
            release(self.saved)


class Plan:
    """What a primitive's nodes do, given which inputs want gradients: which rules they call, what they keep.

    `positions`: the places of these inputs; `names`: of what is kept. The functions are put together from the rules'
    signatures, as source, so that a node runs straight through them. For Multiply, where both inputs want gradients:

        save = lambda y, arrays: (arrays[0], arrays[1])                                     a and b are kept
        pull = lambda g, saved, settings: (grad_a(g, saved[1]), grad_b(g, saved[0]))        one dL/d(input) a position

    and for a primitive with attributes, such as Sum, `settle = lambda *, axis=None, keepdims=False: (axis, keepdims)`.
    """

    def __init__(self, primitive, needs, count):
        self.primitive = primitive
        self.positions = tuple([i for i in needs if primitive.inputs[min(i, len(primitive.inputs) - 1)] in primitive.differentiable])
        self.trim = None        # drops the parents that no rule answers for
        if len(self.positions) < len(needs):
            self.trim = lambda parents: [p for i, p in zip(needs, parents) if i in self.positions]
        rules = [rule for rule in primitive.rule_list if any(p in self.positions for p in rule.positions(count))]
        reads = {name for rule in rules for name in rule.reads}
        full = {name for rule in rules for name in rule.full_reads}
        self.names = tuple(n for n in ("y", *primitive.inputs, "shapes") if n in reads)
        here = {n: f"arrays[{i}]" for i, n in enumerate(primitive.inputs)} | {"y": "y", "shapes": "shapes(arrays)"}
        if primitive.variadic:
            here[primitive.variadic] = f"tuple(arrays[{len(primitive.inputs) - 1}:])"
        kept = [here[n] if n in full or n == "shapes" else f"Like({here[n]})" for n in self.names]
        self.save = _function("y, arrays", kept, Like=Like, shapes=_shapes)
        there = {"g": "g"} | {n: f"saved[{i}]" for i, n in enumerate(self.names)}
        there |= {n: f"settings[{i}]" for i, n in enumerate(primitive.attributes)}
        calls = [rule.call(there, [p - rule.place for p in self.positions if p >= rule.place]) for rule in rules]
        self.pull = _function("g, saved, settings", calls, **{f"grad_{rule.name}": rule.function for rule in rules})
        self.settle = None
        if primitive.attributes:
            self.settle = _function("*, " + ", ".join(primitive.attributes), primitive.attributes)
            self.settle.__kwdefaults__ = primitive.forward.__kwdefaults__


def _function(parameters, results, **names):
    """`lambda parameters: (results)`, where `names` are the functions that `results` call."""
    return eval(f"lambda {parameters}: ({''.join(f'{r}, ' for r in results)})", names)


def _shapes(arrays):
    return tuple([np.shape(a) for a in arrays])


class Rule:
    """A `grad_x` function: its text, its parameters and which of them it really reads."""

    def __init__(self, primitive, name, function):
        self.primitive, self.name, self.function = primitive, name, function
        self.parameters = tuple(inspect.signature(function).parameters)
        known = {"g", "y", "shapes", *primitive.inputs, *primitive.attributes}
        for p in self.parameters:
            if p not in known:
                raise TypeError(f"{primitive.__name__}.grad_{name} asks for {p!r}; a rule may ask for "
                                f"{', '.join(sorted(known))}")
        self.reads, self.full_reads = _reads(function.__code__, set(self.parameters) - {"g"})
        self.joint = name == primitive.variadic
        self.place = primitive.inputs.index(name)

    def positions(self, count):
        """Positions of the inputs this rule answers for, of `count` inputs."""
        return tuple(range(self.place, count)) if self.joint else (self.place,)

    def call(self, where, wanted):
        """A call of the rule, as source: `where` its arguments are found, None for a parameter that no rule reads.

        Of the gradients that the rule of a variadic input returns, those at `wanted` are picked.
        """
        call = f"grad_{self.name}({', '.join(where.get(p, 'None') for p in self.parameters)})"
        return f"*[gradients[i] for gradients in [{call}] for i in {wanted}]" if self.joint else call

    @property
    def text(self):
        """The rule as it is written, e.g. `g @ b.mT`."""
        try:
            source = textwrap.dedent(inspect.getsource(self.function)).strip()
        except (OSError, TypeError):
            return "(source not available)"
        body = re.split(r"\)\s*:\s*(?:#[^\n]*)?\s*", source, maxsplit=1)[-1]
        body = "\n".join(re.sub(r"\s\s+#.*$|^#.*$", "", line) for line in body.splitlines())
        return textwrap.dedent(re.sub(r"^return\s+", "", body.strip()))


def _reads(code, parameters):
    """(names loaded, names loaded as more than a carrier of shape and dtype) among `parameters`."""
    loaded, full = set(), set()
    instructions = list(dis.get_instructions(code))
    for here, after in zip(instructions, [*instructions[1:], None]):
        if not here.opname.startswith("LOAD_"):
            continue
        names = here.argval if isinstance(here.argval, tuple) else (here.argval,)
        for k, name in enumerate(names):
            if name in parameters:
                loaded.add(name)
                last = k == len(names) - 1
                if not (last and after is not None and after.opname == "LOAD_ATTR" and after.argval in _METADATA):
                    full.add(name)
    inner = parameters & set(code.co_cellvars)      # read by a lambda or comprehension inside the rule
    return loaded | inner, full | inner


class RuleTexts:
    """`SomePrimitive.rules`: input name -> the source of its rule, which is what runs."""

    def __get__(self, _, cls):
        return {rule.name: rule.text for rule in cls.rule_list}


class Primitive:
    """Base of all operations; see the module's text. `apply` runs one; `rules` shows its rules.

    Optional in a subclass: `name`; `analytic = True` (forward accepts complex numbers, so the complex step
    can check it); `samples(rng)`, yielding tuples of inputs, a last dict being attributes; `mend(inputs, *shapes)`.
    """

    analytic = False
    inputs = attributes = rule_list = ()

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if "forward" not in cls.__dict__:
            return
        signature = inspect.signature(cls.__dict__["forward"]).parameters.values()
        cls.inputs = tuple(p.name for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL))
        cls.variadic = next((p.name for p in signature if p.kind == p.VAR_POSITIONAL), None)
        cls.defaults = {p.name: p.default for p in signature if p.kind == p.KEYWORD_ONLY}
        cls.attributes = tuple(cls.defaults)
        cls.name = cls.__dict__.get("name") or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        for key, value in list(cls.__dict__.items()):
            if inspect.isfunction(value) and key not in ("apply",):
                setattr(cls, key, staticmethod(value))
        cls.rule_list = tuple(Rule(cls, n, cls.__dict__[f"grad_{n}"].__func__) for n in cls.inputs if f"grad_{n}" in cls.__dict__)
        for key in cls.__dict__:
            if key.startswith("grad_") and key[5:] not in cls.inputs:
                raise TypeError(f"{cls.__name__}.{key}: forward has no input {key[5:]!r}; it has {', '.join(cls.inputs)}")
        cls.differentiable = frozenset(rule.name for rule in cls.rule_list)
        cls._plans = {}
        primitives[cls.name] = cls

    rules = RuleTexts()

    @classmethod
    def apply(cls, *inputs, **attributes):
        """Run forward on tensors, arrays or numbers; record a node if any input wants a gradient."""
        arrays, parents, needs, bit = [], [], 0, 1
        for x in inputs:
            if type(x) is Tensor or isinstance(x, Tensor):
                arrays.append(x.data)
                if x.requires_grad:
                    needs += bit
                    parents.append(x.node or x)
            else:
                arrays.append(x if type(x) in _PLAIN else as_array(x))
            bit += bit
        try:
            y = cls.forward(*arrays, **attributes) if attributes else cls.forward(*arrays)
        except (ValueError, IndexError, TypeError) as error:
            from .explain import explain
            raise explain(cls, inputs, arrays, attributes, error) from error
        if type(y) is not ndarray:
            y = np.asarray(y)
        output = _new(Tensor)
        output.data = y
        output.grad = output.name = output.buffer = output.node = None
        output.requires_grad = False
        switches = STATE.own
        if needs and switches.grad:
            plan = cls._plans.get(needs + bit) or cls._plan(needs + bit)
            if plan.positions:
                output.requires_grad = True
                output.node = node = Node()
                node.plan = plan
                node.parents = parents if plan.trim is None else plan.trim(parents)
                node.index = switches.next_index()
                node.shape = y.shape
                node.dtype = y.dtype
                node.g = node.retain = node.where = None
                node.attributes = plan.settle(**attributes) if plan.settle else ()
                node.saved = saved = plan.save(y, arrays)
                if saved:
                    lock(saved)
        if switches.watchers:
            for watcher in switches.watchers:
                watcher.forward(output.node, cls, inputs, attributes, output)
        return output

    @classmethod
    def _plan(cls, key):
        """The plan for the inputs whose bits are set in `key`, below a leading bit that says how many inputs there are."""
        count = key.bit_length() - 1
        cls._plans[key] = plan = Plan(cls, [i for i in range(count) if key & 1 << i], count)
        return plan

    @classmethod
    def function(cls):
        """`apply` as a plain function with forward's own signature: attributes may be given by position."""
        apply, count = cls.apply, len(cls.inputs)

        def operation(*inputs, **attributes):
            if len(inputs) > count:
                if len(inputs) > count + len(cls.attributes):
                    raise TypeError(f"{cls.name}{signature}: {len(inputs)} arguments were given")
                attributes.update(zip(cls.attributes, inputs[count:]))
                inputs = inputs[:count]
            return apply(*inputs, **attributes)

        signature = inspect.signature(cls.forward)
        signature = signature.replace(parameters=[
            p.replace(kind=p.POSITIONAL_OR_KEYWORD) if cls.variadic is None else p for p in signature.parameters.values()])
        operation.__name__ = operation.__qualname__ = cls.name
        operation.__doc__, operation.__module__, operation.__signature__ = cls.__doc__, cls.__module__, signature
        return operation

    def mend(inputs, *shapes):
        """A hint for the message when shapes do not fit; None where there is none."""
        return None
