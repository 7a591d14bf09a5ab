"""The embedding table: row `ids` of a matrix, one vector for each token.

    y_n = W[id_n]            dL/dW[v] = Σ over the n with id_n = v of g_n

A token that occurs twice collects both gradients; a row whose token does not occur gets exactly 0.
"""

import numpy as np

from .. import ops
from ..engine import Deferred, as_array
from ._op import Fused, rows
from .kernels import kernel


@kernel("in2 ids1 out2")
def scatter_rows(g, ids, dw):
    """dw[ids[n]] += g[n], in the order of n."""
    for n in range(ids.size):
        row, total = g[n], dw[ids[n]]
        for c in range(row.size):
            total[c] += row[c]


class Embedding(Fused):
    """y = weight[ids]"""

    def definition(ids, weight):
        return ops.take(weight, ids, axis=0)

    def forward(ids, weight): return weight[ids]

    def grad_weight(g, ids, weight):
        def fill(dw, add):
            if not add:
                dw.fill(0)
            scatter_rows(rows(g), np.ascontiguousarray(ids, np.int64).reshape(-1), dw)

        return Deferred(weight.shape, g.dtype, fill)

    def samples(rng):
        yield np.array([1, 0, 1, 3]), rng.normal(size=(4, 3)), {}
        yield np.array([[2, 2], [0, 4]]), rng.normal(size=(5, 2)), {}
        yield np.array(1), rng.normal(size=(3, 2)), {}
        yield np.zeros((0, 2), int), rng.normal(size=(3, 2)), {}


def embedding(ids, weight):
    """weight[ids]: for integer `ids` (...) and `weight` (V, C) the vectors (..., C).

    Raises TypeError if ids are not integers, IndexError (naming the first) if one is not a row of `weight`.

    >>> import tinyllm as tl
    >>> embedding([2, 0], tl.Tensor([[0.0, 0.1], [1.0, 1.1], [2.0, 2.1]])).numpy()
    array([[2. , 2.1],
           [0. , 0.1]], dtype=float32)
    """
    ids = as_array(ids)
    if ids.dtype.kind not in "iu":
        if ids.size:
            raise TypeError(f"embedding: ids of dtype {ids.dtype.name}; expected integers, one token id each")
        ids = ids.astype(np.int64)
    wrong = (ids < 0) | (ids >= len(weight))
    if wrong.any():
        where = np.argwhere(wrong)[0].tolist()
        raise IndexError(f"embedding: id {ids[tuple(where)]} at {where}; the table {getattr(weight, 'name', None) or ''} has the rows "
                         f"0 to {len(weight) - 1}: was the text encoded with another tokenizer?")
    return Embedding.apply(ids, weight)
