"""What every optimizer shares: parameter groups, state that can be stored, and skipping what was not touched.

An optimizer is given parameters, or groups of them with settings of their own:

    AdamW(model.parameters(), lr=3e-4)
    AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=3e-4)

A parameter whose `.grad` is None took no part in the loss: it neither moves nor decays, and its moments stay.
`optimizer.lr = schedule(step)` sets the rate of all groups.

Where a model's parameters lie in one buffer (flat.py), `optimizer.lie_like(flat)` puts the moments into one buffer each, and neighbours
of one group that have taken as many steps are moved in one sweep.
"""

import functools

import numpy as np

from ..engine import STATE, Tensor, threads
from ..engine.guards import writable


BLOCK = 1 << 16     # numbers: a thread's part of a sweep is a multiple of it
PIECE = 1 << 18     # numbers whose gradients are scaled and then used: what was just written is in the cache still


class Optimizer:
    """Base: a subclass names its `settings` and `moments`, and changes one array in `update`."""

    moments = ()            # names of the arrays kept for each parameter
    flat = None             # the `Flat` whose order the moments have, each in its one of `buffers`

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

    def lie_like(self, flat):
        """Keep the moments as `flat` keeps its parameters, which must be this optimizer's: each in one buffer, in the same order."""
        if set(flat.parameters) != set(self.parameters):
            raise ValueError(f"{type(self).__name__}.lie_like: the {len(flat.parameters)} parameters of the buffer are not the "
                             f"{len(self.parameters)} of this optimizer")
        self.flat, self.buffers = flat, {name: flat.zeros() for name in self.moments}
        self.places = {p: i for i, p in enumerate(flat.parameters)}
        for p, state in zip(self.parameters, self.state):
            for name in state.keys() & set(self.moments):
                state[name] = self._moment(p, name, state[name])

    def _moment(self, p, name, value=None):
        """The array of a moment of `p`, filled with `value` or 0."""
        array = np.zeros_like(p.data) if self.flat is None else self.flat.view(self.buffers[name], self.places[p])
        if value is not None:
            array[...] = value
        return array

    def step(self, scale=1.0):
        """Move every parameter that has a gradient, in place, after all gradients were multiplied by `scale` (see `clip_factor`)."""
        moves, by = [], f"{type(self).__name__}.step"
        groups = (group for group in self.groups for _ in group["params"])
        for p, state, group in zip(self.parameters, self.state, groups):
            if p.grad is None:
                continue
            if not state:
                state["step"] = 0
                state.update({name: self._moment(p, name) for name in self.moments})
            state["step"] += 1
            moves.append((p, writable(p, by), state, group))
        if STATE.watchers:
            for move in moves:
                self._watched(*move, scale)
        elif moves:
            sweeps, rest = self._sweeps(moves)
            parts, count = threads.shares([p.size for p, *_ in rest], threads.num_threads()), threads.num_threads()
            threads.run([functools.partial(self._move, [rest[i] for i in part], scale) for part in parts] +
                        [functools.partial(self._sweep, sweeps, k, count, scale) for k in range(count) if sweeps])

    def _move(self, moves, scale):
        for p, array, state, group in moves:
            self.update(array, _scaled(p.grad, scale), state, group)

    def _sweeps(self, moves):
        """([first number, place behind the last parameter, steps taken, group] of each stretch of the buffers, moves of what lies elsewhere)."""
        flat, sweeps, rest = self.flat, [], []
        if flat is None:
            return sweeps, moves
        for move in sorted(moves, key=lambda move: self.places[move[0]]):
            p, array, state, group = move
            place = self.places[p]
            if array is not flat.views[place] or p.grad is not p.buffer:
                rest.append(move)
            elif sweeps and sweeps[-1][1] == place and sweeps[-1][2] == state["step"] and sweeps[-1][3] is group:
                sweeps[-1][1] += 1
            else:
                sweeps.append([flat.starts[place], place + 1, state["step"], group])
        return sweeps, rest

    def _sweep(self, sweeps, part, parts, scale):
        """Update one of `parts` equal parts of every stretch."""
        ends = [*self.flat.starts, self.flat.size]
        for start, place, step, group in sweeps:
            size = ends[place] - start
            low, high = (size * k // parts // BLOCK * BLOCK if k < parts else size for k in (part, part + 1))
            for first in range(start + low, start + high, PIECE):
                here = slice(first, min(first + PIECE, start + high))
                state = {"step": step, **{name: buffer[here] for name, buffer in self.buffers.items()}}
                self.update(self.flat.data[here], _scaled(self.flat.grad[here], scale), state, group)

    def _watched(self, p, array, state, group, scale):
        before = array.copy()
        self.update(array, _scaled(p.grad, scale), state, group)
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
        return {"step": int(state["step"]), **{name: self._moment(p, name, state[name]) for name in self.moments}}


def _scaled(grad, scale):
    """`grad`, multiplied by `scale` in place."""
    return grad if scale == 1 else np.multiply(grad, scale, out=grad)
