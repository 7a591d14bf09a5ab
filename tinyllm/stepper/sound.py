"""Whether what a file holds is a trace: every reference leads somewhere, every shape is the one it has to be.

The views rely on it and ask no further. What a file says about operations is text to be shown; running them again
(replay.py) is another matter, and is bounded there.
"""

import base64
import math

from ..untrusted import checked_fields, shown

CODES = {"f8": 8, "f4": 4, "i4": 4, "i8": 8, "u1": 1}
DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool")
COUNTS, STATISTICS = ("nan", "inf"), ("min", "mean", "max", "std", "norm", "zeros")      # as arrays.statistics makes them
LONGEST = 20_000        # characters of one text


class Unsound(ValueError):
    """What is wrong, in words."""


def check(data, value_type):
    """Raise Unsound unless `data`, the JSON of a trace, is whole; `value_type` is the dataclass of a value."""
    want(isinstance(data, dict) and {"title", "root", "ops", "values", "events", "arrays"} <= data.keys(), "a part is missing")
    text(data["title"], "the title")
    for name, kind in (("ops", dict), ("values", list), ("events", list), ("arrays", list)):
        want(type(data[name]) is kind, lambda: f"{name} is {shown(data[name])}")
    shapes = [array_shape(record, f"array {k}") for k, record in enumerate(data["arrays"])]
    for name, op in data["ops"].items():
        operation(name, op)
    values = data["values"]
    for k, value in enumerate(values):
        checked_fields(value_type, value, f"value {k}", Unsound)
        value_at(k, value, values, data["ops"], shapes)
    want(data["root"] is None or number(data["root"], values) is not None, lambda: f"the root is {shown(data['root'])}")
    _Walk(values, shapes, data["ops"]).check(data["events"])


def want(good, words):
    """Unsound if it is not so, with `words` or what they return: `shown` takes a while, and is seldom needed."""
    if not good:
        raise Unsound(words() if callable(words) else words)


def text(x, what):
    want(isinstance(x, str) and len(x) <= LONGEST, lambda: f"{what} is {shown(x)}, expected a text")
    if not x.isprintable():
        want(not any(c < " " and c not in "\n\t" or "\x7f" <= c < "\xa0" or "\ud800" <= c <= "\udfff" for c in x), f"{what} has control characters")


def number(x, values):
    """The k of "nk", None for anything else."""
    good = isinstance(x, str) and x[:1] == "n" and x[1:].isascii() and x[1:].isdigit() and len(x) < 12 and int(x[1:]) < len(values)
    return int(x[1:]) if good and x == f"n{int(x[1:])}" else None


def array_shape(record, what, omitted=True):
    """The shape of an array's record."""
    want(isinstance(record, dict) and isinstance(record.get("dtype"), str) and record["dtype"] in DTYPES, lambda: f"{what} is {shown(record)}")
    shape = record.get("shape")
    want(isinstance(shape, list) and len(shape) <= 32 and all(type(n) is int and 0 <= n < 1 << 40 for n in shape), lambda: f"{what} has the shape {shown(shape)}")
    if "omitted" in record:
        want(omitted and isinstance(record.get("stats"), dict), f"{what} has no statistics")
        text(record["omitted"], f"{what}'s reason")
        want(set(record["stats"]) in (set(COUNTS), {*COUNTS, *STATISTICS}), lambda: f"{what} has the statistics {shown(list(record['stats']))}")
        for name, value in record["stats"].items():
            want(type(value) in (int, float) and abs(value) < 1 << 1000, lambda: f"{what}: {name} is {shown(value)}")
        want(len(array_shape(record.get("blocks"), f"{what}'s block means", False)) == 2, f"{what}'s block means are no matrix")
        return tuple(shape)
    code, coded = record.get("code"), record.get("data")
    want(isinstance(code, str) and code in CODES and isinstance(coded, str), f"{what} has no data")
    size = math.prod(shape) * CODES[code]
    want(4 * -(-size // 3) == len(coded), f"{what} of shape {tuple(shape)} takes {size} bytes; it has {len(coded)} characters of base64")
    try:
        want(len(base64.b64decode(coded, validate=True)) == size, f"{what} does not take the {size} bytes of its shape")
    except ValueError as error:
        raise Unsound(f"{what}: {error}") from None
    return tuple(shape)


def operation(name, op):
    """An operation in words, as trace.describe makes it."""
    what = f"operation {shown(name)}"
    want(isinstance(op, dict) and isinstance(op.get("inputs"), list) and isinstance(op.get("rules"), dict), lambda: f"{what} is {shown(op)}")
    text(name, what)
    text(op.get("doc"), what)
    symbol = op.get("symbol", ...)
    want(symbol is None or isinstance(symbol, str) and len(symbol) < 10, lambda: f"{what}: symbol {shown(symbol)}")
    want(op.get("variadic") is None or isinstance(op["variadic"], str), lambda: f"{what}: variadic {shown(op.get('variadic'))}")
    want(all(isinstance(x, str) and x.isidentifier() for x in [*op["inputs"], *op["rules"]]) and (op["inputs"] or not op.get("variadic")), f"{what}: its inputs")
    for rule in op["rules"].values():
        text(rule, what)


def attribute(x, shapes, what):
    """A setting, as record.encode makes it."""
    if isinstance(x, list):
        for one in x:
            attribute(one, shapes, what)
    elif isinstance(x, dict):
        want(len(x) == 1, lambda: f"{what} is {shown(x)}")
        (kind, content), = x.items()
        good = {"array": lambda: place(content, shapes), "float": lambda: content in ("nan", "inf", "-inf"), "ellipsis": lambda: content is True,
                "dtype": lambda: content in DTYPES, "unknown": lambda: isinstance(content, str),
                "slice": lambda: isinstance(content, list) and len(content) == 3 and all(x is None or type(x) is int for x in content),
                "tuple": lambda: isinstance(content, list)}
        want(kind in good and (kind == "array" or not isinstance(content, dict)) and good[kind](), lambda: f"{what} is {shown(x)}")
        if kind == "tuple":
            attribute(content, shapes, what)
    elif isinstance(x, str):
        text(x, what)
    else:
        want(x is None or type(x) is bool or type(x) is int and abs(x) < 1 << 63 or type(x) is float and math.isfinite(x), lambda: f"{what} is {shown(x)}")


def place(x, shapes):
    return type(x) is int and 0 <= x < len(shapes)


def value_at(k, value, values, ops, shapes):
    """Value number k, whose fields have their types."""
    what = f"value {k}"
    want(value["id"] == f"n{k}" and place(value["array"], shapes), lambda: f"{what} is {shown(value['id'])}, array {shown(value['array'])}")
    for name in ("name", "module", "where", "line"):
        text(value.get(name, ""), f"{what}, its {name}")
    op, inputs = value.get("op"), value.get("inputs", [])
    want(value["kind"] in (("parameter", "constant") if op is None else ("result",)), lambda: f"{what} is of kind {shown(value['kind'])}")
    want(op is None and not inputs or op in ops, lambda: f"{what}: operation {shown(op)}")
    if op is not None:
        want(len(inputs) <= len(ops[op]["inputs"]) or ops[op].get("variadic"), f"{what} has {len(inputs)} operands")
    for x in inputs:
        if isinstance(x, str):
            at = number(x, values)
            want(at is not None and at < k, lambda: f"{what} reads {shown(x)}")
        else:
            attribute(x, shapes, what)
    for name, setting in value.get("attributes", {}).items():
        want(name.isidentifier(), lambda: f"{what}: setting {shown(name)}")
        attribute(setting, shapes, f"{what}, {name}")
    for group in value.get("groups", []):
        text(group, what)
        want("_" in group and group.rsplit("_", 1)[0] in ops, lambda: f"{what} is in {shown(group)}, no operation that is described")


class _Walk:
    """The events, checked in their order."""

    def __init__(self, values, shapes, ops):
        self.values, self.shapes, self.ops, self.rules, self.last = values, shapes, ops, {}, None

    def check(self, events):
        for k, event in enumerate(events):
            kind = event.get("kind") if isinstance(event, dict) else None
            want(isinstance(kind, str) and kind in ("forward", "rule", "unbroadcast", "accumulate", "free", "update"), lambda: f"event {k} is {shown(event)}")
            want(number(event.get("value"), self.values) is not None, lambda: f"event {k} is about {shown(event.get('value'))}")
            value = self.values[number(event["value"], self.values)]
            want(value.get("op") is not None or kind == "update", f"event {k} is about a leaf")
            getattr(self, kind)(event, value, f"event {k}, {kind}")
        for (value, position), (_, given) in self.rules.items():
            want(given == self.operand(self.values[number(value, self.values)], position), f"the rule of {value} for operand {position} gives {given}")

    def shape(self, x, what):
        want(place(x, self.shapes), lambda: f"{what}: {shown(x)} is no array")
        return self.shapes[x]

    def operand(self, value, position):
        return self.shapes[self.values[number(value["inputs"][position], self.values)]["array"]]

    def forward(self, event, value, what):
        self.last = None

    def free(self, event, value, what):
        pass

    def rule(self, event, value, what):
        position = event.get("position")
        want(type(position) is int and 0 <= position < len(value["inputs"]) and isinstance(value["inputs"][position], str), lambda: f"{what}: position {shown(position)}")
        names = self.ops[value["op"]]["inputs"]
        want(names[min(position, len(names) - 1)] in self.ops[value["op"]]["rules"], f"{what}: {value['op']} has no rule for it")
        want(self.shape(event.get("g"), what) == self.shapes[value["array"]], f"{what}: g has another shape than {event['value']}")
        self.last = event["value"], position
        self.rules[self.last] = event, self.shape(event.get("gradient"), what)

    def unbroadcast(self, event, value, what):
        want(self.last is not None and (event["value"], event.get("position")) == self.last, f"{what}: no rule comes before it")
        given, after = self.rules[self.last][1], self.shape(event.get("after"), what)
        want(len(after) <= len(given) and all(n in (1, m) for n, m in zip(after[::-1], given[::-1])), f"{what}: {given} cannot become {after}")
        self.rules[self.last] = self.rules[self.last][0], after

    def accumulate(self, event, value, what):
        position = event.get("position")
        want(type(position) is int and (event["value"], position) in self.rules, f"{what}: no rule comes before it")
        want(event.get("target") == value["inputs"][position], lambda: f"{what}: {shown(event.get('target'))} is not operand {position}")
        want(self.shape(event.get("total"), what) == self.operand(value, position), f"{what}: a total of another shape")

    def update(self, event, value, what):
        self.last = None
        want(event.get("before") is None or number(event["before"], self.values) is not None, lambda: f"{what}: before {shown(event.get('before'))}")
        text(event.get("optimizer"), what)
        settings, stages = event.get("settings"), event.get("stages")
        want(isinstance(settings, dict) and isinstance(stages, dict) and stages, lambda: f"{what}: {shown(settings)}, {shown(stages)}")
        for name, setting in settings.items():
            attribute(setting, self.shapes, f"{what}, {shown(name)}")
        betas = settings.get("betas")
        betas = betas.get("tuple") if isinstance(betas, dict) else betas
        want(not betas or isinstance(betas, list) and len(betas) == 2 and all(type(b) in (int, float) for b in betas), lambda: f"{what}: betas {shown(betas)}")
        want(type(settings.get("step")) is int and all(type(settings.get(name)) in (int, float) for name in (("lr", "eps") if betas else ("lr",)))
             and all(type(settings.get(name)) in (int, float, type(None)) for name in ("momentum", "weight_decay")), lambda: f"{what}: settings {shown(settings)}")
        for name, array in stages.items():
            text(name, what)
            want(self.shape(array, what) == self.shapes[value["array"]], f"{what}: stage {name} has another shape")
