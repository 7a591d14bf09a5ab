"""A trace as steps: one for each operation, one for each rule, then the norms, then what the optimizer did.

What the walk did with a rule's result belongs to the rule's step: the sum over broadcast axes, the addition to what had
arrived before, the release of what was saved. Steps inside a composite (softmax: logsumexp, subtract, exp) fold into one;
`Folds` is the list that a person sees, which folds and unfolds.
"""

from dataclasses import dataclass, field

from .arrays import spell


@dataclass
class Step:
    """One step. `kind`: "forward", "rule", "norms" or "update"; arrays are places in `trace.arrays`.

    Of a rule: `position` of the operand it answers for, `g` that came in, `gradient` that came out, `summed` over broadcast
    axes (None: nothing to sum), `target` (id) and `total` there so far, `share` k of `shares` contributions, which come from
    `sources`; `freed`: the node let go of what it had saved. Of an update: `stage`, a name, a formula and an array.
    """

    kind: str
    value: str
    groups: list = field(default_factory=list)
    position: int = None
    g: int = None
    gradient: int = None
    summed: int = None
    target: str = None
    total: int = None
    share: int = 1
    shares: int = 1
    sources: list = field(default_factory=list)
    freed: bool = False
    stage: tuple = None
    walk: int = 0

    @property
    def phase(self):
        """The name of the phase: "forward", "backward" or "update"."""
        return {"rule": "backward", "norms": "backward"}.get(self.kind, self.kind)

    @property
    def contribution(self):
        """What this rule adds to its target: its gradient, after the sum over broadcast axes if there was one."""
        return self.gradient if self.summed is None else self.summed


def steps_of(trace):
    """The list of Steps of a Trace."""
    steps, walk, before = [], 0, None
    for event in trace.events:
        kind, value = event["kind"], event.get("value")
        if kind == "forward":
            steps.append(Step("forward", value, trace[value].groups))
        elif kind == "rule":
            number = int(value[1:])
            if before is None or number > before or steps[-1].kind != "rule":
                walk += 1       # a walk goes from the newest to the oldest
            before = number
            steps.append(Step("rule", value, trace[value].groups, event["position"], event["g"], event["gradient"], walk=walk))
        elif kind == "unbroadcast":
            steps[-1].summed = event["after"]
        elif kind == "accumulate":
            _accumulate(steps, event)
        elif kind == "free" and steps and steps[-1].kind == "rule" and steps[-1].value == value:
            steps[-1].freed = True
        elif kind == "update":
            steps.extend(_update(trace, event))
        if before is not None and kind in ("forward", "update"):
            before = None
    _count(steps)
    return _with_norms(steps)


def _accumulate(steps, event):
    """Give the accumulation to the rule step it belongs to: a joint rule reports all its results in a row."""
    for step in reversed(steps):
        if step.kind == "rule" and step.value == event["value"] and step.position == event["position"]:
            step.target, step.total = event["target"], event["total"]
            return


def _count(steps):
    """Number the contributions to each target of each walk."""
    rules = [s for s in steps if s.kind == "rule" and s.target]
    gathered = {}
    for step in rules:
        gathered.setdefault((step.walk, step.target), []).append(step)
    for group in gathered.values():
        for k, step in enumerate(group):
            step.share, step.shares, step.sources = k + 1, len(group), [s.value for s in group]


def _with_norms(steps):
    """A step for the table of norms behind the last rule of each walk."""
    result = []
    for step, after in zip(steps, [*steps[1:], None]):
        result.append(step)
        if step.kind == "rule" and (after is None or after.kind != "rule" or after.walk != step.walk):
            result.append(Step("norms", step.value, walk=step.walk))
    return result


def _update(trace, event):
    """The steps of one parameter's update, with the formulas of its optimizer."""
    settings, group = event["settings"], [f"{event['optimizer']} {trace[event['value']].name}"]
    for stage, array in event["stages"].items():
        yield Step("update", event["value"], group, stage=(stage, _formula(stage, settings), array))


def _formula(stage, settings):
    beta1, beta2 = settings["betas"]["tuple"] if isinstance(settings.get("betas"), dict) else settings.get("betas") or (None, None)
    t, lr, decay = settings["step"], spell(settings["lr"]), settings.get("weight_decay") or 0.0
    texts = {"gradient": "g, as backward left it"}
    if beta1 is not None:
        texts.update(
            m=f"m ← {spell(beta1)} m + {spell(1 - beta1)} g", v=f"v ← {spell(beta2)} v + {spell(1 - beta2)} g²",
            **{"m̂": f"m̂ = m / (1 - {spell(beta1)}^{t}): m began at 0, which this takes out", "v̂": f"v̂ = v / (1 - {spell(beta2)}^{t})"},
            update=f"θ ← θ - {lr} · m̂ / (√v̂ + {spell(settings['eps'])})" + (f",  weight decay {spell(decay)}" if decay else ""))
    else:
        momentum = settings.get("momentum") or 0.0
        texts.update(momentum=f"b ← {spell(momentum)} b + g" if momentum else "not used: momentum is 0",
                     update=f"θ ← θ - {lr} · {'b' if momentum else 'g'}" + (f",  weight decay {spell(decay)}" if decay else ""))
    return texts.get(stage, stage)


@dataclass
class Item:
    """One line of a folded list: steps `first` to `last`; `group` is the composite they are folded into, or None."""

    first: int
    last: int
    group: str = None


class Folds:
    """The steps as a person sees them: composites folded, but for those in `opened`."""

    def __init__(self, steps, opened=()):
        self.steps, self.opened = steps, set(opened)
        self._list()

    def _list(self):
        self.items = []
        for k, step in enumerate(self.steps):
            group = next((g for g in step.groups if g not in self.opened), None)
            last = self.items[-1] if self.items else None
            if group and last and last.group == group and self.steps[last.first].phase == step.phase and self.steps[last.first].walk == step.walk:
                last.last = k
            else:
                self.items.append(Item(k, k, group))

    def at(self, k):
        """Place in `items` of the item that holds step k."""
        return next(i for i, item in enumerate(self.items) if item.first <= k <= item.last)

    def open(self, group):
        """Show the steps of a composite one by one."""
        self.opened.add(group)
        self._list()

    def close(self, group):
        """Fold a composite again."""
        self.opened.discard(group)
        self._list()

    def open_all(self):
        """Show every step."""
        self.opened.update(g for step in self.steps for g in step.groups)
        self._list()
        return self
