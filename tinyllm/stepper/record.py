"""A trace as plain data: values, events, arrays; written to JSON and read back without the model.

    values    n0, n1, … in the order in which they came to be: leaves, constants, and the result of every operation
    events    what happened, in order: forward, rule, unbroadcast, accumulate, free, update
    arrays    every number, each array once; an event or a value refers to one by its place in the list
    ops       the operations met: their formula, inputs, and the text of each rule as it ran

Two runs of the same program give the same ids, so that two traces can be compared line by line. An array above the size
cap is kept as `Omitted`: its shape, its statistics and a picture of block means, and the words that say so.
"""

import base64
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..untrusted import parse_json, read_bytes, shown
from .arrays import Omitted, spell
from .sound import check

FORMAT, VERSION = "tinyllm-trace", 1
LARGEST = 256 << 20        # bytes of a file; the arrays of a full trace take a third of it

_CODES = {"f8": np.float64, "f4": np.float32, "i4": np.int32, "i8": np.int64, "u1": np.uint8}


@dataclass
class Value:
    """One tensor: a leaf (`op` None) or the result of an operation.

    `kind`: "parameter" (a leaf that wants a gradient), "constant", or "result"; `inputs`: an id for each operand, or the
    number itself; `groups`: the composites it was computed in, outermost first; `needs`: it passes gradients on.
    """

    id: str
    name: str
    kind: str
    array: int
    op: str | None = None
    inputs: list = field(default_factory=list)
    attributes: dict = field(default_factory=dict)
    groups: list = field(default_factory=list)
    module: str = ""
    where: str = ""
    line: str = ""
    needs: bool = False


class Trace:
    """What a `tl.trace` recorded; see the module's text. `title` is what its views are headed with."""

    def __init__(self, title=""):
        self.title = title
        self.values, self.events, self.arrays, self.ops = [], [], [], {}
        self.root = None            # id of the value that backward started from
        self.loaded = False         # from a file, which anybody may have written

    def __getitem__(self, key):
        """The Value of an id ("n3"); KeyError says what there is."""
        number = key[1:] if isinstance(key, str) and key[:1] == "n" else ""
        if not number.isdigit() or int(number) >= len(self.values):
            raise KeyError(f"{key!r} is no value of this trace: it has n0 to n{len(self.values) - 1}")
        return self.values[int(number)]

    def array(self, value):
        """The ndarray (or Omitted) of a Value or of an id."""
        return self.arrays[(value if isinstance(value, Value) else self[value]).array]

    def find(self, name):
        """The Value called `name` (or with that id), or None."""
        return next((v for v in self.values if name in (v.id, v.name)), None)

    def expression(self, value):
        """`h = x @ W1`, `y = exp(h)`, `m = sum(h, axis=0)`: the operation with the names of its operands."""
        if value.op is None:
            return value.name
        operands = [self[x].name if isinstance(x, str) else spell(x) for x in value.inputs]
        symbol = self.ops[value.op].get("symbol")
        if symbol and len(operands) == 2:
            return f"{value.name} = {operands[0]} {symbol} {operands[1]}"
        settings = [f"{k}={self._setting(v)}" for k, v in value.attributes.items() if k != "saved"]
        return f"{value.name} = {value.op}({', '.join(operands + settings)})"

    def _setting(self, v):
        if isinstance(v, dict) and "array" in v:
            return f"array {self.arrays[v['array']].shape}".replace(",)", ")")
        return spell(decode(v, self.arrays))

    # ---- views, each imported when it is asked for

    def step(self, other=None, seed=0):
        """Open the terminal stepper; `other` is a second trace for its key d, `seed` chooses the exercises."""
        from .predict import Quiz
        from .terminal import Stepper
        from .tty import run
        run(Stepper(self, other, Quiz(seed)))

    def text(self, width=100):
        """Every step, as text."""
        from .text import full_text
        return full_text(self, width)

    def html(self, path, seed=0):
        """Write the page of this trace, one file that opens anywhere; returns its path."""
        from .page import write_page
        return write_page(self, path, seed)

    def json(self):
        """The trace as a JSON text."""
        return self.to_json()

    # ---- JSON

    def to_json(self, small=None):
        """The trace as a JSON text; `small` replaces each array before it is written (the page leaves large ones out)."""
        data = {"format": FORMAT, "version": VERSION, "title": self.title, "root": self.root, "ops": self.ops,
                "values": [asdict(v) for v in self.values], "events": self.events,
                "arrays": [encode_array(small(a) if small else a) for a in self.arrays]}
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    def save(self, path):
        """Write the JSON text to a file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path):
        """Read what `save` wrote. UserError for what is no trace, or a trace of another version."""
        return cls.from_json(read_bytes(path, UserError, LARGEST), str(path))

    @classmethod
    def from_json(cls, text, source="the text"):
        """A trace from its JSON text; `source` is what errors call it."""
        data = parse_json(text, f"{source} is not a trace: it", UserError)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise UserError(f'{source} is not a trace: "format" is not "{FORMAT}"')
        if data.get("version") != VERSION:
            raise UserError(f"{source} is a trace of version {shown(data.get('version'))}; this tinyllm reads version {VERSION}: record it again")
        try:
            check(data, Value)
            trace = cls(data["title"])
            trace.loaded = True
            trace.root, trace.ops, trace.events = data["root"], data["ops"], data["events"]
            trace.values = [Value(**v) for v in data["values"]]
            trace.arrays = [decode_array(a) for a in data["arrays"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{source} is a damaged trace: {type(error).__name__}: {error}") from None
        return trace


def encode_array(array):
    """An array as JSON: base64 of its little-endian bytes, exact; an Omitted with its statistics and block means."""
    if isinstance(array, Omitted):
        return {"shape": list(array.shape), "dtype": array.dtype, "omitted": array.why, "stats": array.stats,
                "blocks": encode_array(array.blocks)}
    kind = array.dtype.kind
    code = "u1" if kind == "b" else "f8" if array.dtype == np.float64 else "f4" if kind == "f" else "i8"
    if code == "i8" and (not array.size or np.abs(array).max() < 2**31):
        code = "i4"
    raw = np.ascontiguousarray(array, np.dtype(_CODES[code]).newbyteorder("<")).tobytes()
    return {"shape": list(array.shape), "dtype": array.dtype.name, "code": code, "data": base64.b64encode(raw).decode()}


def decode_array(record):
    """The array that `encode_array` wrote."""
    shape = tuple(record["shape"])
    if "omitted" in record:
        return Omitted(shape, record["dtype"], record["omitted"], record["stats"], decode_array(record["blocks"]))
    flat = np.frombuffer(base64.b64decode(record["data"], validate=True), np.dtype(_CODES[record["code"]]).newbyteorder("<"))
    return flat.astype(record["dtype"]).reshape(shape)


# ---- attributes: what is no JSON gets a one-key dictionary

def encode(x, keep):
    """An attribute as JSON; `keep(array)` stores an array and returns its place."""
    if isinstance(x, np.ndarray):
        return {"array": keep(x)}
    if isinstance(x, np.generic):
        x = x.item()
    if isinstance(x, float) and not np.isfinite(x):
        return {"float": str(x)}
    if isinstance(x, slice):
        return {"slice": [encode(v, keep) for v in (x.start, x.stop, x.step)]}
    if isinstance(x, tuple):
        return {"tuple": [encode(v, keep) for v in x]}
    if isinstance(x, list):
        return [encode(v, keep) for v in x]
    if x is Ellipsis:
        return {"ellipsis": True}
    if isinstance(x, (np.dtype, type)):
        return {"dtype": np.dtype(x).name}
    if isinstance(x, (bool, int, float, str, type(None))):
        return x
    return {"unknown": type(x).__name__}


def decode(x, arrays):
    """The attribute that `encode` wrote."""
    if isinstance(x, list):
        return [decode(v, arrays) for v in x]
    if not isinstance(x, dict):
        return x
    (kind, content), = x.items()
    return {"array": lambda: arrays[content], "float": lambda: float(content), "dtype": lambda: np.dtype(content), "ellipsis": lambda: Ellipsis,
            "slice": lambda: slice(*[decode(v, arrays) for v in content]),
            "tuple": lambda: tuple(decode(v, arrays) for v in content), "unknown": lambda: content}[kind]()
