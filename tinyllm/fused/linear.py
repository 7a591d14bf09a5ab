"""The linear map of every layer: y = x Wᵀ + b, with W stored (out, in).

    dL/dx = g W          dL/dW = gᵀ x          dL/db = Σ over rows of g

However many leading axes x has, its vectors are the rows of one matrix, so that each of the three products is
a single large one, and the sum over the batch that dL/dW asks for happens inside it.
"""

import numpy as np

from .. import ops
from ..ops.gemm import deferred
from ..ops.matmul import product
from ._op import Fused, rows


class Linear(Fused):
    """y = x @ weight.T + bias"""

    def definition(x, weight, bias):
        return ops.matmul(x, ops.transpose(weight)) + bias

    def forward(x, weight, bias):
        y = product(rows(x), weight.T)
        if type(bias) is np.ndarray:
            y += bias
        return y.reshape(*x.shape[:-1], len(weight))

    def grad_x(g, x, weight): return product(rows(g), weight).reshape(x.shape)

    def grad_weight(g, x): return deferred(rows(g).T, rows(x))

    def grad_bias(g): return rows(g).sum(axis=0)

    def samples(rng):
        yield rng.normal(size=(2, 3)), rng.normal(size=(4, 3)), rng.normal(size=4), {}
        yield rng.normal(size=(2, 2, 3)), rng.normal(size=(3, 3)), rng.normal(size=3), {}
        yield rng.normal(size=3), rng.normal(size=(2, 3)), rng.normal(size=2), {}
        yield rng.normal(size=(2, 3)), rng.normal(size=(4, 3)), 0.0, {}
        yield rng.normal(size=(4, 6))[::2, ::-2].T, rng.normal(size=(2, 2)), rng.normal(size=2), {}

    def mend(inputs, x, weight, bias):
        if len(weight) != 2:
            return "weight has the axes (out, in)"
        if x[-1:] != weight[1:]:
            return f"x has {x[-1] if x else 'no'} features, weight (out, in) expects {weight[1]}"
        return f"bias {bias} does not fit the {weight[0]} outputs of weight" if bias and bias != weight[:1] else None


def linear(x, weight, bias=None):
    """x @ weight.T + bias for `x` (..., in), `weight` (out, in), `bias` (out,) or None.

    >>> import tinyllm as tl
    >>> linear(tl.Tensor([1.0, 2.0]), tl.Tensor([[3.0, 4.0]]), tl.Tensor([0.5])).numpy()
    array([11.5], dtype=float32)
    """
    return Linear.apply(x, weight, 0.0 if bias is None else bias)
