"""What every optimizer shares: parameter groups, state that can be stored, and skipping what was not touched.

An optimizer is given parameters, or groups of them with settings of their own:

    AdamW(model.parameters(), lr=3e-4)
    AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=3e-4)

A parameter whose `.grad` is None took no part in the loss: it neither moves nor decays, and its moments stay.
`optimizer.lr = schedule(step)` sets the rate of all groups.
"""

import functools

import numpy as np

from ..engine import STATE, Tensor, threads
from ..engine.guards import writable


class Optimizer:
    """Base: a subclass names its `settings` and `moments`, and changes one array in `update`."""

    moments = ()            # names of the arrays kept for each parameter

    def __init__(self, params_or_groups, **settings):
        items = list(params_or_groups)
        if not items:
            raise ValueError(f"{type(self).__name__}: no parameters were given (a generator that was used up before is empty)")
        groups = items if isinstance(items[0], dict) else [{"params": items}]
        self.groups = []
        for group in groups:
            unknown = set(group) - {"params", *settings}
            if unknown:
                raise TypeError(f"{type(self).__name__}: a group has {', '.join(sorted(unknown))}; known are params, {', '.join(settings)}")
            self.groups.append({**settings, **group, "params": list(group["params"])})
        self.parameters = [p for group in self.groups for p in group["params"]]
        for p in self.parameters:
            if not isinstance(p, Tensor):
                raise TypeError(f"{type(self).__name__}: {type(p).__name__} given; expected tensors, as model.parameters() yields them")
        if len(set(self.parameters)) < len(self.parameters):
            raise ValueError(f"{type(self).__name__}: a parameter was given twice; it would be moved twice in each step")
        self.state = [{} for _ in self.parameters]      # for each parameter: step count and moments, once it has moved

    @property
    def lr(self):
        """The learning rate (of the first group); setting it sets that of all groups."""
        return self.groups[0]["lr"]

    @lr.setter
    def lr(self, value):
        for group in self.groups:
            group["lr"] = value

    def step(self):
        """Move every parameter that has a gradient, in place."""
        moves, by = [], f"{type(self).__name__}.step"
        groups = (group for group in self.groups for _ in group["params"])
        for p, state, group in zip(self.parameters, self.state, groups):
            if p.grad is None:
                continue
            if not state:
                state["step"] = 0
                state.update({name: np.zeros_like(p.data) for name in self.moments})
            state["step"] += 1
            moves.append((p, writable(p, by), state, group))
        if STATE.watchers:
            for move in moves:
                self._watched(*move)
        elif moves:
            parts = threads.shares([p.size for p, *_ in moves], threads.num_threads())
            threads.run([functools.partial(self._move, [moves[i] for i in part]) for part in parts])

    def _move(self, moves):
        for p, array, state, group in moves:
            self.update(array, p.grad, state, group)

    def _watched(self, p, array, state, group):
        before = array.copy()
        self.update(array, p.grad, state, group)
        stages = {"gradient": p.grad, **{name: state[name] for name in self.moments}, "update": array - before}
        for watcher in STATE.watchers:
            watcher.update(self, p.name, p, stages)

    def update(self, array, grad, state, group):
        """Change `array` in place; `state` holds the number of this step (1, 2, …) and the moments."""
        raise NotImplementedError

    def zero_grad(self):
        """Forget the gradients: `.grad` of every parameter becomes None."""
        for p in self.parameters:
            p.grad = None

    def state_dict(self):
        """Everything the next step depends on but the parameters: {"state": [...], "groups": [...]}.

        `state` has, for each parameter in the order given, its "step" (0 if it never moved) and its moments as
        arrays (the optimizer's own, not copies); `groups` has plain numbers.
        """
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.groups]
        return {"state": [dict(state) if state else {"step": 0} for state in self.state], "groups": groups}

    def load_state_dict(self, saved):
        """Continue from what `state_dict` returned; ValueError if it belongs to other parameters."""
        if len(saved["state"]) != len(self.state) or len(saved["groups"]) != len(self.groups):
            raise ValueError(f"{type(self).__name__}: the saved state has {len(saved['state'])} parameters in {len(saved['groups'])} groups, "
                             f"this optimizer {len(self.state)} in {len(self.groups)}")
        loaded = [self._restored(p, state) for p, state in zip(self.parameters, saved["state"])]
        for group, settings in zip(self.groups, saved["groups"]):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
        self.state = loaded

    def _restored(self, p, state):
        if not state.get("step"):
            return {}
        for name in self.moments:
            if name not in state or np.shape(state[name]) != p.shape:
                given = np.shape(state[name]) if name in state else "missing"
                raise ValueError(f"{type(self).__name__}: saved {name} of {p.name or 'a parameter'} is {given}; expected {p.shape}")
        return {"step": int(state["step"]), **{name: np.array(state[name], p.dtype) for name in self.moments}}
