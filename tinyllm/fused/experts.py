"""A mixture's experts: each row of x goes to k of E small feed-forward layers, and comes back as their weighted sum.

    y_n = Σ_j gates_nj · expert_e(x_n),   e = chosen_nj,        expert(x) = down (silu(gate x) · up x)

The N·k choices are sorted by expert, so that each expert finds its rows next to each other and multiplies them by its three
matrices in one product each. No row is dropped and none is computed twice. With h = silu(a) · b the hidden row of a choice,
a = gate x, b = up x, and g the cotangent of y, the chain runs back through the same choices:

    dgate_nj = (downᵀ g_n) · h              the gate's gradient needs no second look at the expert's result
    dh = gate_nj downᵀ g_n                  then SwiGLU's rules for da and db
    dx_n = Σ_j (gateᵀ da + upᵀ db)          dgate = Σ da xᵀ,   dup = Σ db xᵀ,   ddown = Σ gate_nj g_n hᵀ
"""

import functools

import numpy as np

from .. import ops
from ..engine import Tensor, threads
from ._op import NOWHERE, Fused, rows
from .swiglu import Swiglu

SHARED_WORK = 1 << 25       # multiply-adds from which experts are shared among threads


@functools.cache
def _kernels():
    from . import experts_kernels           # needs numba to be imported
    return experts_kernels


class Choices:
    """The choices (N, k) of experts 0 … E-1, sorted: `order` of the choices, expert e's are ends[e] to ends[e + 1]."""

    def __init__(self, chosen, experts):
        flat = np.ascontiguousarray(chosen, np.int64).reshape(-1)
        self.order = np.argsort(flat, kind="stable")
        self.ends = np.zeros(experts + 1, np.int64)
        np.cumsum(np.bincount(flat, minlength=experts), out=self.ends[1:])


def _matrices(weights, dtype):
    """The matrices in C order, and where in memory they begin, (E, 3)."""
    matrices = [np.ascontiguousarray(w, dtype) for w in weights]
    return matrices, np.array([w.__array_interface__["data"][0] for w in matrices], np.int64).reshape(-1, 3)


def _by_expert(kernel, ends, work, *arguments):
    """Call `kernel(*arguments, first, last)` for all experts, where there is much to do in a share of them for each thread."""
    experts, count = len(ends) - 1, threads.num_threads()
    if count == 1 or work < SHARED_WORK:
        return kernel(*arguments, 0, experts)
    bounds = np.searchsorted(ends, ends[-1] * np.arange(count + 1) / count)
    bounds[0], bounds[-1] = 0, experts
    threads.run([functools.partial(kernel, *arguments, low, high) for low, high in zip(bounds, bounds[1:]) if low < high])


def _gradients(g, inputs, chosen, saved):
    """(dx, dgates, dgate_0, dup_0, ddown_0, …): all in one sweep over the experts."""
    (x, gates, *weights), (matrices, addresses), choices = inputs, saved.matrices, saved.choices
    dx, dgates = np.zeros(x.shape, x.dtype), np.empty(gates.shape, x.dtype)
    drows = np.empty((chosen.size, x.shape[-1]), x.dtype)
    dweights = np.empty((len(addresses), 3, matrices[0].size if matrices else 0), x.dtype)
    _by_expert(_kernels().backward, choices.ends, 9 * saved.gate.size * x.shape[-1], rows(g), rows(x), rows(gates), choices.order, choices.ends,
               addresses, _kernels().product_address(x.dtype), saved.gate, saved.up, drows, rows(dgates), dweights)
    _kernels().collect(drows, choices.order, chosen.shape[-1], rows(dx))
    return dx, dgates, *(d.reshape(w.shape) for d, w in zip(dweights.reshape(-1, dweights.shape[-1]), weights))


class Experts(Fused):
    """y_n = Σ_j gates_nj · down_e(silu(gate_e x_n) · up_e x_n),  e = chosen_nj"""

    def definition(*inputs, chosen):
        x, gates, *weights = inputs
        shape, chosen = x.shape, chosen.reshape(-1, chosen.shape[-1])
        x, gates = x.reshape(len(chosen), shape[-1]), gates.reshape(chosen.shape)
        y = Tensor(np.zeros(x.shape, x.dtype))
        for e in range(len(weights) // 3):
            gate, up, down = weights[3 * e:3 * e + 3]
            row, place = np.nonzero(chosen == e)
            rows = ops.take(x, row, axis=0)
            part = Swiglu.definition(rows @ gate.T, rows @ up.T) @ down.T
            y = ops.scatter_add(y, row, part * gates[row, place].reshape(-1, 1))
        return y.reshape(shape)

    def forward(*inputs, chosen, saved=NOWHERE):
        x, gates, *weights = inputs
        saved.matrices = matrices, addresses = _matrices(weights, x.dtype)
        saved.choices = choices = Choices(chosen, len(addresses))
        R, F, y = chosen.size, len(weights[0]) if weights else 0, np.zeros(x.shape, x.dtype)
        saved.gate, saved.up = gate, up = np.empty((2, R, F), x.dtype)
        down = np.empty((R, x.shape[-1]), x.dtype)
        _by_expert(_kernels().forward, choices.ends, 3 * gate.size * x.shape[-1], rows(x), rows(gates), choices.order, choices.ends, addresses,
                   _kernels().product_address(x.dtype), gate, up, down)
        _kernels().collect(down, choices.order, chosen.shape[-1], rows(y))
        return y

    def grad_inputs(g, inputs, chosen, saved): return _gradients(g, inputs, chosen, saved)

    def samples(rng):
        def matrices(experts):
            return [rng.normal(size=shape) for _ in range(experts) for shape in ((4, 3), (4, 3), (3, 4))]

        yield rng.normal(size=(5, 3)), rng.normal(size=(5, 2)), *matrices(3), {"chosen": np.array([[2, 0], [0, 1], [1, 2], [0, 2], [2, 1]])}
        yield rng.normal(size=(2, 3)), rng.normal(size=(2, 1)), *matrices(1), {"chosen": np.zeros((2, 1), int)}
        yield rng.normal(size=(2, 2, 3)), rng.normal(size=(2, 2, 1)), *matrices(2), {"chosen": np.array([[[0], [1]], [[1], [1]]])}
        yield rng.normal(size=(6, 4))[::2, 2::-1], rng.normal(size=(2, 3)).T, *matrices(2), {"chosen": np.array([[0, 1], [1, 0], [0, 1]])}


def experts(x, gates, chosen, weights):
    """Σ_j gates_j · down_e(silu(gate_e x) · up_e x) for vectors `x` (..., C), `gates` (..., k) and `chosen` experts e (..., k).

    `weights` are (gate_0, up_0, down_0, gate_1, …): three matrices (F, C), (F, C) and (C, F) for each expert. An expert nobody
    chose takes no part: its matrices get no gradient.

    >>> import numpy as np, tinyllm as tl
    >>> one, two = np.array([[1.0]]), np.array([[2.0]])
    >>> x, gates, chosen = tl.Tensor([[30.0], [40.0]]), tl.Tensor([[1.0, 0.5], [1.0, 0.5]]), np.array([[0, 1], [1, 0]])
    >>> experts(x, gates, chosen, [tl.Tensor(w, name=None) for w in (one, one, one, one, one, two)]).numpy().ravel()
    array([1800., 4000.])
    """
    chosen, count = np.asarray(chosen), len(weights) // 3
    if len(weights) % 3 or not chosen.ndim or chosen.shape != gates.shape or x.shape[:-1] != chosen.shape[:-1]:
        raise ValueError(f"experts: x {x.shape}, gates {gates.shape}, chosen {chosen.shape} and {len(weights)} matrices; expected vectors "
                         "(..., C), gates and chosen (..., k), and three matrices for each expert")
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < count:
        raise ValueError(f"experts: chosen {chosen.min()} to {chosen.max()}; the matrices are those of the experts 0 to {count - 1}")
    used = np.bincount(chosen.reshape(-1), minlength=count) > 0
    if not used.all():
        chosen = (np.cumsum(used) - 1)[chosen]          # their numbers among those that are used
    return Experts.apply(x, gates, *(w for e in np.flatnonzero(used) for w in weights[3 * e:3 * e + 3]), chosen=chosen)
