"""`tl.trace`: look on while a function runs forward and backward, and keep what happened as plain data.

    with tl.trace(names=locals()) as tr:
        loss = model.loss(x, y)

    tr.step()              the terminal stepper
    tr.html("bp.html")     one page that opens anywhere
    print(tr.text())       every step as text
    tr.save("bp.json")     the trace itself; Trace.load opens it without the model

No change to the traced code is needed. Where the block does not call `backward()` itself, the walk from its last scalar is
recorded on leaving, and the gradients of the leaves are put back as they were. By default the definitions run, so that
softmax is seen as its exp, sum and division; `fused=True` records the kernels instead.

Values are called by `names=` (a dictionary such as locals()), by a tensor's own name (a parameter's path), by the variable
that a line of the traced script assigns, or by operation and number (`matmul_2`).
"""

import ast
import functools
import gc
import linecache
import os
import re
import sys

import numpy as np

from ..engine import STATE, Tensor, Watcher, primitives
from ..errors import UserError, WorkError
from .arrays import omit
from .record import Trace, Value, encode

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
PLUMBING = tuple(PACKAGE + floor + os.sep for floor in ("engine", "ops", "fused", "stepper"))
EXAMPLE = PACKAGE + os.path.join("stepper", "example.py")       # read as a user's script would be
LARGEST, BUDGET = 1 << 16, 1 << 23      # elements of one array, and of all, that are kept


class Recorder(Watcher):
    """The watcher behind `trace`: turns the engine's calls into the values and events of a Trace."""

    def __init__(self, title="", largest=LARGEST, budget=BUDGET):
        self.trace = Trace(title)
        self.largest, self.budget = largest, budget
        self.known = {}         # id(tensor or node) -> (it, Value): held, so that the id stays taken
        self.stored = {}        # id(array) -> (it, place in trace.arrays)
        self.chain, self.counts = [], {}
        self.last = self.walked = None
        self.kinds, self.outer = {}, (None, "")       # id(code object) -> (`seen`, it); the last frame outside the plumbing, its module

    # ---- arrays

    def keep(self, array, again=True):
        """The place of a copy of `array`; `again`: the engine does not change it later, so one copy serves all who show it."""
        found = self.stored.get(id(array)) if again else None
        if found is not None:
            return found[1]
        arrays, size = self.trace.arrays, array.size
        place = len(arrays)
        if size > self.largest:
            arrays.append(omit(array, f"{size:,} numbers, more than the {self.largest:,} that are kept of one array"))
        elif size > self.budget:
            arrays.append(omit(array, "the trace is full: it keeps no more numbers"))
        else:
            self.budget -= size
            arrays.append(array.copy())
        if again:
            self.stored[id(array)] = array, place
        return place

    # ---- values

    def add(self, key, name, kind, array, again=True, **more):
        values = self.trace.values
        value = Value(f"n{len(values)}", name, kind, self.keep(array, again), **more)
        values.append(value)
        if key is not None:
            self.known[id(key)] = key, value
        return value

    def operand(self, x):
        """The id of an operand, or the number that it is."""
        if isinstance(x, Tensor):
            found = self.known.get(id(x))
            if found is None:
                kind = "parameter" if x.requires_grad else "constant"
                found = None, self.add(x, x.name, kind, x.data, again=False, needs=x.requires_grad)
            return found[1].id
        if isinstance(x, np.ndarray) and x.ndim:
            found = self.known.get(id(x))
            return (found or (None, self.add(x, None, "constant", x)))[1].id
        return encode(x.item() if isinstance(x, np.ndarray) else x, self.keep)

    def forward(self, node, primitive, inputs, attributes, output):
        where, module, chain = self._place()
        operands = [self.operand(x) for x in inputs]
        if attributes:
            attributes = {k: encode(v, self.keep) for k, v in attributes.items() if k != "saved"}
        value = self.add(output, output.name, "result", output.data, op=primitive.name, inputs=operands, attributes=attributes,
                         where=where, module=module, groups=self._groups(chain) if chain else [], needs=node is not None)
        if node is not None:
            self.known[id(node)] = node, value
        if primitive.name not in self.trace.ops:
            self.trace.ops[primitive.name] = primitive
        self.trace.events.append({"kind": "forward", "value": value.id})
        if output.requires_grad:
            self.last = output

    def _place(self):
        """(file and line outside the plumbing, path of the module there, frames of the definitions on the way, innermost first)."""
        frame, chain, kinds = sys._getframe(3), [], self.kinds
        while frame is not None:
            code = frame.f_code
            kind = kinds.get(id(code))      # hashing a code object would read its whole bytecode
            if kind is None:
                kind, _ = kinds[id(code)] = seen(code), code
            else:
                kind = kind[0]
            if kind == "outside":
                break
            if kind:
                chain.append((frame, kind))
            frame = frame.f_back
        if frame is None:
            return "", "", chain
        if frame is not self.outer[0]:      # the variables of a frame are costly to look at
            owner = frame.f_locals.get("self")
            self.outer = frame, getattr(owner, "path", "") if hasattr(owner, "named_parameters") else ""
        return (frame.f_code.co_filename, frame.f_lineno), self.outer[1], chain

    def _groups(self, chain):
        """Names of the composites whose frames are given, e.g. ["self_attention_1", "softmax_1"]; a frame met again keeps its name."""
        names = []
        for depth, (frame, op) in enumerate(reversed(chain)):
            if depth < len(self.chain) and self.chain[depth][0] is frame:
                names.append(self.chain[depth][1])
                continue
            del self.chain[depth:]
            self.counts[op] = self.counts.get(op, 0) + 1
            names.append(f"{op}_{self.counts[op]}")
            self.trace.ops[op] = primitives[op]
            self.chain.append((frame, names[-1]))
        del self.chain[len(chain):]
        return names

    # ---- the walk: its arrays are not copied, for the walk overwrites none that somebody holds; what a leaf may adopt is

    def held(self, array):
        """The place of an array of the walk, held as it is."""
        found = self.stored.get(id(array))
        if found is not None:
            return found[1]
        if array.size > self.largest or array.size > self.budget:
            return self.keep(array)
        self.budget -= array.size
        arrays = self.trace.arrays
        self.stored[id(array)] = array, len(arrays)
        arrays.append(array)
        return len(arrays) - 1

    def rule(self, node, position, g, gradient):
        found = self.known.get(id(node))
        if found is not None:       # else it was computed before the trace began
            self.walked, value = True, found[1]
            inner = self.trace.values[int(value.inputs[position][1:])].op is not None
            self.trace.events.append({"kind": "rule", "value": value.id, "position": position, "g": self.held(g),
                                      "gradient": self.held(gradient) if inner else self.keep(gradient)})

    def unbroadcast(self, node, position, before, after):
        found = self.known.get(id(node))
        if found is not None:
            self.trace.events.append({"kind": "unbroadcast", "value": found[1].id, "position": position, "after": self.keep(after)})

    def accumulate(self, node, position, target, gradient, total):
        found, reached = self.known.get(id(node)), self.known.get(id(target))
        if found is not None and reached is not None:
            place = self.keep(total, again=False) if isinstance(target, Tensor) else self.held(total)
            self.trace.events.append({"kind": "accumulate", "value": found[1].id, "position": position, "target": reached[1].id, "total": place})

    def free(self, node):
        found = self.known.get(id(node))
        if found is not None:
            self.trace.events.append({"kind": "free", "value": found[1].id})

    def update(self, optimizer, name, parameter, stages):
        place = next((g, s) for g, p, s in _slots(optimizer) if p is parameter)
        settings = {k: encode(v, self.keep) for k, v in place[0].items() if k != "params"}
        before = self.known[id(parameter)][1] if id(parameter) in self.known else None
        after = self.add(parameter, name, "parameter", parameter.data, again=False, needs=True)
        stages = with_corrections(stages, place[0], place[1]["step"])
        self.trace.events.append({
            "kind": "update", "value": after.id, "before": before and before.id, "optimizer": type(optimizer).__name__,
            "settings": {**settings, "step": place[1]["step"]}, "stages": {k: self.keep(a, again=False) for k, a in stages.items()}})

    # ---- the end

    def walk_back(self):
        """Record the walk from the last scalar, leaving every leaf's gradient as it was."""
        leaves = [(x, x.grad, x.buffer) for x, _ in self.known.values() if isinstance(x, Tensor) and x.node is None]
        for leaf, _, _ in leaves:
            leaf.grad = leaf.buffer = None
        try:
            self.last.backward(retain_graph=True)
        finally:
            for leaf, grad, buffer in leaves:
                leaf.grad, leaf.buffer = grad, buffer

    def finish(self, names, outer):
        """Name what has no name, describe the operations, and let go of the traced program's objects.

        `names` win over a tensor's own name, the variables `outer` of the traced block do not.
        """
        trace = self.trace
        for variables, wins in ((outer, False), (names, True)):
            for name, x in variables.items():
                known = self.known.get(id(x)) if isinstance(x, (Tensor, np.ndarray)) and not name.startswith("_") else None
                if known is not None and known[0] is x and (wins or not known[1].name):
                    known[1].name = name
        _name(trace)
        trace.ops = {name: describe(primitive) for name, primitive in trace.ops.items()}
        rules = [e for e in trace.events if e["kind"] == "rule"]
        trace.root = rules[0]["value"] if rules else None
        self.known, self.stored, self.chain, self.outer, self.last = {}, {}, [], None, None
        return trace


class trace:
    """The context manager of the module's text: `with tl.trace() as tr:`; `tr` is a Trace, complete after the block.

    `names`: what to call tensors and arrays; `fused`: record kernels, not definitions; `title` heads the views; `largest`:
    arrays of more elements are kept as statistics and block means only. UserError if nothing was computed inside.

    >>> import tinyllm as tl
    >>> x = tl.Tensor([1.0, 2.0], requires_grad=True)
    >>> with tl.trace() as tr:
    ...     y = (x * x).sum()
    >>> [tr.expression(value) for value in tr.values]
    ['x', 'multiply_1 = x * x', 'y = sum(multiply_1)']
    """

    def __init__(self, names=None, *, fused=False, title="", largest=LARGEST):
        self.names, self.fused = dict(names or {}), fused
        self.recorder = Recorder(title, largest)

    def __enter__(self):
        self.before, STATE.fused = STATE.fused, self.fused
        self.collecting = gc.isenabled()
        gc.disable()            # nothing that is recorded is garbage, and looking through it takes a quarter of the time
        self.recorder.__enter__()
        return self.recorder.trace

    def __exit__(self, kind, error, traceback):
        recorder = self.recorder
        try:
            if kind is None and not recorder.walked and recorder.last is not None and recorder.last.size == 1:
                recorder.walk_back()
        finally:
            recorder.__exit__()
            STATE.fused = self.before
            if self.collecting:
                gc.enable()
        outer = {} if sys._getframe(1).f_code.co_name == "record" else sys._getframe(1).f_locals
        recorder.finish(self.names, outer)
        if kind is None and not recorder.trace.values:
            raise UserError("the trace is empty: no operation on a tinyllm Tensor ran inside the block")


def record(function, title="", optimizer=None, **options):
    """The Trace of `function()`, which returns the scalar Tensor to walk back from. UserError, in a line, if it does not.

    With `optimizer` the walk leaves its gradients in the leaves and one step of it is recorded, too.
    """
    context = trace(title=title, **options)
    called = title or getattr(function, "__name__", "the function")
    with context as result:
        try:
            loss = function()
        except Exception as error:
            raise WorkError(f"{called} raised {type(error).__name__}: {error}") from error
        if not result.values:
            raise UserError(f"{called} computed nothing with tinyllm tensors: make one with tl.Tensor(array, requires_grad=True)")
        if not isinstance(loss, Tensor) or loss.size != 1:
            what = f"a tensor of shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
            raise UserError(f"{called} returned {what}; expected a scalar Tensor, the loss to walk back from")
        if not loss.requires_grad:
            raise UserError(f"{called} returned a tensor that requires no gradient: give a leaf requires_grad=True")
        context.recorder.last = loss
        if optimizer is not None:
            loss.backward()
            optimizer.step()
    return result


def with_corrections(stages, settings, t):
    """An optimizer's stages, with Adam's two bias corrections put where they happen."""
    if not {"m", "v"} <= stages.keys() or "betas" not in settings:
        return stages
    beta1, beta2 = settings["betas"]
    corrected = {"m̂": stages["m"] / (1 - beta1**t), "v̂": stages["v"] / (1 - beta2**t)}
    return {**{k: a for k, a in stages.items() if k != "update"}, **corrected, "update": stages["update"]}


def _slots(optimizer):
    states = iter(optimizer.state)
    for group in optimizer.groups:
        for p in group["params"]:
            yield group, p, next(states)


def seen(code):
    """How frames of a code object are seen: "outside", a composite's name for its definition, or "" for plumbing."""
    if not code.co_filename.startswith(PLUMBING) or code.co_filename == EXAMPLE:
        return "outside"
    if code.co_name != "definition":
        return ""
    return next((name for name, p in primitives.items() if getattr(getattr(p, "definition", None), "__code__", None) is code), "")


@functools.lru_cache(maxsize=None)
def describe(primitive):
    """An operation in words: formula, inputs, infix symbol, text of each rule."""
    return {"doc": " ".join((primitive.__doc__ or "").split()), "inputs": list(primitive.inputs), "variadic": primitive.variadic,
            "symbol": getattr(primitive, "symbol", None), "rules": primitive.rules}


def _name(trace):
    """Names for the values: from the assignment on their line, or by operation and number; "x_2" is the second x."""
    computed, closing = [v for v in trace.values if v.op is not None], {}
    ends = {one.id for one, after in zip(computed, [*computed[1:], None]) if after is None or after.where != one.where}     # last on its line
    for value in computed:
        for group in value.groups[::-1]:
            closing[group] = value      # the last value of a composite bears its name
    titles = {value.id: group for group, value in reversed(closing.items())}
    seen, ops, source_line = {}, {}, functools.lru_cache(maxsize=None)(_source_line)
    for value in trace.values:
        if value.where:
            value.line, value.where, variable = source_line(*value.where)
            if not value.name and value.id in ends:
                value.name = variable
        value.name = value.name or titles.get(value.id)
        if not value.name:
            stem = value.op or value.kind
            ops[stem] = ops.get(stem, 0) + 1
            value.name = f"{stem}_{ops[stem]}"
        elif value.name in seen and value.op is not None:
            seen[value.name] += 1
            value.name = f"{value.name}_{seen[value.name]}"
        seen.setdefault(value.name, 1)


def _source_line(path, number):
    """(text, "file.py:41", the variable it assigns if it is a line of the traced script)."""
    line = re.sub(r"\s{2,}#.*", "", linecache.getline(path, number).strip())
    script = path == EXAMPLE or not path.startswith(PACKAGE)
    return line, f"{os.path.basename(path)}:{number}", assigned(line) if script else None


def assigned(line):
    """The variable a line of code assigns, if it is one line that assigns one.

    >>> assigned("h = (x @ W).tanh()"), assigned("return x @ W")
    ('h', None)
    """
    try:
        statement, = ast.parse(line).body
    except (SyntaxError, ValueError):
        return None
    target = statement.targets[0] if isinstance(statement, ast.Assign) else None
    return target.id if isinstance(target, ast.Name) else None
