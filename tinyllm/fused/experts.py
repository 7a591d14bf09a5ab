"""Sending rows to experts and adding up what comes back.

N rows choose k of E experts each, N·k choices in all. `order` sorts the choices by expert, so that each expert finds its
rows next to each other and works on them with one matrix product:

    rows = dispatch(x, order)           rows_r = x_⌊order_r / k⌋            (N·k, C), grouped by expert
    y = grouped_linear(rows, W_1 … W_E) each group by its own matrix        (N·k, F)
    out = combine(y, gates, order)      out_n = Σ_j gates_nj · (what expert j made of row n)

No row is dropped and none is computed twice. Backward, the choices go the same ways: `dispatch` collects from a row's k
copies, `combine` hands the row's cotangent to each of them, scaled by its gate.
"""

import numpy as np

from .. import ops
from ..ops.matmul import product
from ._op import Fused


def _restored(rows, order, k):
    """Rows in the order of the experts (N·k, C) back in the order of the choices, (N, k, C)."""
    choices = np.empty_like(rows)
    choices[order] = rows
    return choices.reshape(-1, k, rows.shape[-1])


class Dispatch(Fused):
    """y_r = x at row ⌊order_r / k⌋: a row for each choice, sorted by expert"""

    def definition(x, order, *, k): return ops.take(x, order // k, axis=0)

    def forward(x, order, *, k): return x[order // k]

    def grad_x(g, order, k): return _restored(g, order, k).sum(axis=1)

    def samples(rng):
        yield rng.normal(size=(3, 4)), np.array([2, 0, 5, 1, 3, 4]), {"k": 2}
        yield rng.normal(size=(2, 3)), np.array([1, 0]), {"k": 1}


class GroupedLinear(Fused):
    """y = x Wᵀ, the first counts[0] rows by the first matrix, the next counts[1] by the second, …"""

    def definition(x, *weights, counts):
        return ops.concatenate([rows @ w.T for rows, w in zip(ops.split(x, np.cumsum(counts)[:-1]), weights)])

    def forward(x, *weights, counts):
        y = np.empty((len(x), len(weights[0])), x.dtype)
        for group, w in zip(_groups(counts), weights):
            y[group] = product(x[group], w.T)
        return y

    def grad_x(g, x, weights, counts):
        dx = np.empty_like(x)
        for group, w in zip(_groups(counts), weights):
            dx[group] = product(g[group], w)
        return dx

    def grad_weights(g, x, counts): return [product(g[group].T, x[group]) for group in _groups(counts)]

    def samples(rng):
        yield rng.normal(size=(5, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), {"counts": (4, 1)}
        yield rng.normal(size=(3, 2)), rng.normal(size=(4, 2)), {"counts": (3,)}


def _groups(counts):
    ends = np.cumsum(counts)
    return [slice(end - count, end) for end, count in zip(ends, counts)]


class Combine(Fused):
    """out_n = Σ_j gates_nj rows_r, r being the place of choice (n, j) in `order`"""

    def definition(rows, gates, order):
        n, k = gates.shape
        choices = ops.take(rows, np.argsort(order), axis=0).reshape(n, k, -1)
        return (choices * gates.reshape(n, k, 1)).sum(axis=1)

    def forward(rows, gates, order): return np.einsum("nk,nkc->nc", gates, _restored(rows, order, gates.shape[1]))

    def grad_rows(g, rows, gates, order): return (gates[..., None] * g[:, None]).reshape(rows.shape)[order]

    def grad_gates(g, rows, gates, order): return np.einsum("nc,nkc->nk", g, _restored(rows, order, gates.shape[1]))

    def samples(rng):
        yield rng.normal(size=(6, 4)), rng.normal(size=(3, 2)), np.array([2, 0, 5, 1, 3, 4])
        yield rng.normal(size=(2, 3)), rng.normal(size=(2, 1)), np.array([1, 0])


def dispatch(x, order, k):
    """`x` (N, C) -> (N·k, C): a copy of each row for each of its k choices, in the order of the experts.

    >>> import numpy as np, tinyllm as tl
    >>> dispatch(tl.Tensor([[1.0], [2.0]]), np.array([0, 3, 1, 2]), k=2).numpy().ravel()
    array([1., 2., 1., 2.], dtype=float32)
    """
    return Dispatch.apply(x, order, k=k)


def grouped_linear(x, weights, counts):
    """x Wᵀ where rows of `x` (N, C) come in groups: `counts[i]` of them meet `weights[i]` (F, C).

    >>> import numpy as np, tinyllm as tl
    >>> one, ten = tl.Tensor([[1.0]]), tl.Tensor([[10.0]])
    >>> grouped_linear(tl.Tensor([[1.0], [2.0], [3.0]]), [one, ten], counts=(2, 1)).numpy().ravel()
    array([ 1.,  2., 30.], dtype=float32)
    """
    if len(weights) != len(counts) or sum(counts) != len(x):
        raise ValueError(f"grouped_linear: {len(weights)} matrices and groups of {tuple(counts)} rows for x {x.shape}; expected as many "
                         "counts as matrices, and their sum to be the number of rows")
    return GroupedLinear.apply(x, *weights, counts=tuple(counts))


def combine(y, gates, order):
    """Weighted sums (N, C) of what the experts made of each row: `y` (N·k, C) in their order, `gates` (N, k).

    >>> import numpy as np, tinyllm as tl
    >>> combine(tl.Tensor([[1.0], [2.0]]), tl.Tensor([[0.5, 10.0]]), np.array([1, 0])).numpy()
    array([[11.]], dtype=float32)
    """
    return Combine.apply(y, gates, order)
