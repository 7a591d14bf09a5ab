"""What a gradient check found: rows of numbers, and in words what is wrong with those that fail."""

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Row:
    """One input (or parameter), compared: the place where rule and truth differ most, and what that means.

    `status`: "ok", "wrong", "kink" (no derivative here), "uninformative" (these inputs could not tell a wrong rule),
    "flat" (the true gradient is exactly 0, which is not an error). `relative` is measured against
    max(|analytic|, |numeric|, atol / rtol), the size from which on the relative tolerance is the larger one.
    """

    name: str
    shape: tuple
    entries: int = 0
    status: str = "ok"
    index: tuple = None         # of the input element
    output: tuple = None        # of the output element
    test: str = ""              # how it was looked at, if not by central differences one element at a time
    analytic: float = 0.0
    numeric: float = 0.0
    absolute: float = 0.0
    relative: float = 0.0
    sample: str = ""
    rule: str = ""
    diagnosis: str = ""
    reproduce: str = ""

    ok = property(lambda self: self.status in ("ok", "flat"))

    @property
    def place(self):
        """The worst element, as a reader would write it: `x[2, 1]`."""
        return self.name + (str(list(self.index)) if self.index else "")

    def describe(self):
        """Several lines about a failure."""
        if self.status == "kink":
            head = f"{self.place}: not differentiable near {self.place}; move it away, or test the documented subgradient by itself"
        elif self.status == "uninformative":
            head = f"{self.name} {self.shape}: uninformative sample: {self.diagnosis}"
        elif self.index is None and not self.entries:
            head = f"{self.name} {self.shape}: {self.diagnosis}"
        else:
            of = f" of output {list(self.output)}" if self.output else ""
            by = f" ({self.test})" if self.test else ""
            head = (f"{self.place}{of}{by}: the rule gives {self.analytic:.10g}, it should be {self.numeric:.10g} "
                    f"(off by {self.absolute:.2g}, relative {self.relative:.2g})")
        lines = [head]
        if self.sample:
            lines.append(f"  at         {self.sample}")
        if self.rule:
            lines.append("  rule       " + self.rule.replace("\n", "\n             "))
        if self.diagnosis and self.diagnosis not in head:
            lines.append(f"  diagnosis  {self.diagnosis}")
        if self.reproduce:
            lines.append(f"  reproduce  {self.reproduce}")
        return "\n".join(lines)


@dataclass
class GradcheckReport:
    """The outcome of a check: `ok`, `rows`, and a table when printed."""

    title: str
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    located: str = ""           # which operation is to blame, when the function is made of several
    seconds: float = 0.0

    ok = property(lambda self: all(row.ok for row in self.rows))
    failures = property(lambda self: [row for row in self.rows if not row.ok])
    entries = property(lambda self: sum(row.entries for row in self.rows))

    @property
    def error(self):
        """The largest relative error; NaN counts as infinite."""
        return max((math.inf if math.isnan(row.relative) else row.relative for row in self.rows), default=0.0)

    @property
    def headline(self):
        """The outcome in one line."""
        verdict = "ok" if self.ok else f"FAILED in {len(self.failures)} of {len(self.rows)} rows"
        return f"gradcheck {self.title}: {verdict}, {self.entries} derivatives, worst relative error {self.error:.1e}, {self.seconds:.2f} s"

    def __str__(self):
        lines = [self.headline]
        ordered = sorted(self.rows, key=lambda row: (row.ok, -row.relative if row.relative == row.relative else -math.inf))
        lines += table(("input", "shape", "at", "analytic", "numeric", "abs error", "rel error", "", ""),
                       [(row.name, str(row.shape), "" if row.index is None else str(list(row.index)), f"{row.analytic:.7g}",
                         f"{row.numeric:.7g}", f"{row.absolute:.1e}", f"{row.relative:.1e}", row.test, row.status) for row in ordered])
        for row in self.failures[:3]:
            lines += ["", row.describe()]
        if len(self.failures) > 3:
            lines += ["", f"and {len(self.failures) - 3} more rows that fail"]
        if self.located:
            lines += ["", self.located]
        return "\n".join(lines + [f"note: {note}" for note in self.notes])

    __repr__ = __str__

    def raise_on_failure(self):
        """Raise GradcheckError if a row failed."""
        if not self.ok:
            raise GradcheckError(self)


class GradcheckError(AssertionError):
    """A gradient check failed; `.report` has the numbers."""

    def __init__(self, report):
        super().__init__(str(report))
        self.report = report


@dataclass
class RegistryReport:
    """One GradcheckReport for each primitive; printed, a table with the largest error first."""

    reports: dict

    ok = property(lambda self: all(r.ok for r in self.reports.values()))
    rows = property(lambda self: [row for r in self.reports.values() for row in r.rows])
    failures = property(lambda self: [row for row in self.rows if not row.ok])
    seconds = property(lambda self: sum(r.seconds for r in self.reports.values()))

    def __str__(self):
        ordered = sorted(self.reports.items(), key=lambda item: (item[1].ok, -item[1].error))
        lines = table(("primitive", "checks", "derivatives", "rel error", "seconds", ""),
                      [(name, str(len(r.rows)), str(r.entries), f"{r.error:.1e}", f"{r.seconds:.3f}", "ok" if r.ok else "FAILED")
                       for name, r in ordered])
        failed = [name for name, r in ordered if not r.ok]
        derivatives = sum(r.entries for r in self.reports.values())
        lines.append(f"{len(self.reports)} primitives, {derivatives} derivatives, {self.seconds:.2f} s: "
                     + (f"FAILED: {', '.join(failed)}" if failed else "all ok"))
        for name in failed:
            lines += ["", f"{name}: {self.reports[name].failures[0].describe()}"]
        return "\n".join(lines)

    __repr__ = __str__

    def raise_on_failure(self):
        """Raise GradcheckError if a primitive failed."""
        if not self.ok:
            raise GradcheckError(self)


def table(heads, rows):
    """Lines of left-aligned columns under their heads."""
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in (heads, *rows)]


def compare(row, analytic, numeric, rtol, atol, output_shapes=()):
    """Put the worst element of two arrays (outputs, elements of the input) into `row`; return the mask of failures."""
    row.entries += analytic.size
    if not analytic.size:
        return np.zeros(analytic.shape, bool)
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(analytic), np.abs(numeric))
        absolute = np.abs(analytic - numeric)
        bad = ~(absolute <= atol + rtol * size) | ~np.isfinite(analytic) | ~np.isfinite(numeric)
        relative = absolute / np.maximum(size, atol / rtol)
    relative = np.where(np.isfinite(analytic) & np.isfinite(numeric), relative, np.inf)
    place(row, np.unravel_index(np.argmax(relative), relative.shape), analytic, numeric, absolute, relative, output_shapes)
    return bad


def place(row, at, analytic, numeric, absolute, relative, output_shapes):
    """Let `row` tell of the element `at` = (output element, input element)."""
    row.analytic, row.numeric = float(analytic[at]), float(numeric[at])
    row.absolute, row.relative = float(absolute[at]), float(relative[at])
    row.index = tuple(int(i) for i in np.unravel_index(at[1], row.shape))
    row.output = output_element(at[0], output_shapes)


def output_element(k, shapes):
    """Index of the k-th element of several outputs laid end to end; the output's number first if there are several."""
    for number, shape in enumerate(shapes):
        size = math.prod(shape)
        if k < size:
            index = tuple(int(i) for i in np.unravel_index(k, shape))
            return index if len(shapes) == 1 else (number, *index)
        k -= size
    return None
