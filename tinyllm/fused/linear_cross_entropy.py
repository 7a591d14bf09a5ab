"""The last map of a language model and its cross-entropy in one, so that the logits are never kept whole.

    logits = x Wᵀ                   (N, V): for 16,384 tokens and 50,257 ids 3.3 GB, more than all the rest of a model
    loss = mean over n of -log softmax(logits_n)[t_n]

The gradient of the mean is known as soon as a row's logits are, for the loss is the end of the chain:

    dlogits_n = (p_n - [v = t_n]) / kept         dx = dlogits W         dW = dlogitsᵀ x

and whatever arrives from above is one number that multiplies it. So forward takes the rows in blocks, turns each block's logits
into dlogits in place, and from these makes the block's part of dx and of dW before the next block takes their memory. Few
rows, whose dlogits take less than dW would, are one block, and the products wait until backward asks for them.
"""

import functools

import numpy as np

from .. import ops
from ..engine import Deferred, as_array, threads
from ..ops.gemm import deferred
from ..ops.matmul import product
from ._op import NOWHERE, Fused, rows
from .cross_entropy import CrossEntropy, check_targets, share
from .kernels import kernel
from .vector_math import exp, largest

BLOCK = 1 << 22         # logits in a block, at least
SHARED = 1 << 20        # logits from which a block is shared among threads


@kernel("out2 ids1 in1 out1 int")
def cross_entropy_in_place(logits, targets, weight, losses, gradient):
    """losses, each times its weight; in the place of the logits, if asked for, their gradient (softmax - [v = target]) weight."""
    for n in range(logits.shape[0]):
        row, by = logits[n], weight[n]
        top = largest(row)
        at_target = row[targets[n]]
        total = logits.dtype.type(0)
        for v in range(row.size):
            e = exp(row[v] - top)
            row[v] = e
            total += e
        if top == np.inf:                       # log Σ e^z is Inf, whatever the sum says
            total = logits.dtype.type(1)
        losses[n] = (np.log(total) - (at_target - top)) * by
        if gradient:
            scale = by / total
            for v in range(row.size):
                row[v] *= scale
            row[targets[n]] -= by


@kernel("in1 number out1")
def add_multiple(x, factor, total):
    """total += factor x"""
    for i in range(x.size):
        total[i] += factor * x[i]


def block_rows(width, vocabulary):
    """How many rows of logits are in memory at once: no more numbers than in dW, unless they are few."""
    return max(width, BLOCK // vocabulary)


class LinearCrossEntropy(Fused):
    """loss = mean of -log softmax(x @ weight.T)[target] over the rows whose target is not ignore_index"""

    def definition(x, weight, targets, *, ignore_index=-100, frozen=False, block=None):
        return CrossEntropy.definition(ops.matmul(x, ops.transpose(weight)), targets, ignore_index=ignore_index)

    def forward(x, weight, targets, *, ignore_index=-100, frozen=False, block=None, saved=NOWHERE):
        xs, N = rows(x), targets.size
        kept = share(targets, ignore_index, "mean").astype(x.dtype).reshape(-1)
        places = np.where(targets == ignore_index, 0, targets).astype(np.int64).reshape(-1)
        losses = np.empty(N, x.dtype)
        size = block or block_rows(*weight.T.shape)
        dx = dweight = None
        if N > size and saved is not NOWHERE:
            dx, dweight = np.empty_like(xs), None if frozen else np.empty(weight.shape, x.dtype)
        room = np.empty((min(N, size), len(weight)), x.dtype)
        for start in range(0, N, size):
            here = slice(start, start + size)
            logits = product(xs[here], weight.T, room[:len(xs[here])])
            _by_rows(cross_entropy_in_place, logits, places[here], kept[here], losses[here], gradient=saved is not NOWHERE)
            if dx is not None:
                product(logits, weight, dx[here])
            if dweight is not None:
                product(logits.T, xs[here], dweight, start > 0)
        saved.dx, saved.dweight, saved.dlogits = dx, dweight, room if dx is None else None
        return losses.sum()

    def grad_x(g, x, weight, saved):
        dx = product(saved.dlogits, weight) if saved.dx is None else saved.dx
        return (dx * g).reshape(x.shape)

    def grad_weight(g, x, saved):
        return deferred(saved.dlogits.T, rows(x) * g) if saved.dx is None else _multiple(saved.dweight, g)

    def samples(rng):
        for block in (None, 2, 4):
            yield rng.normal(size=(5, 3)), rng.normal(size=(4, 3)), np.array([0, 3, 1, 1, 2]), {"block": block}
            padded = {"ignore_index": -1, "block": block}
            yield rng.normal(size=(2, 3, 2)), 3 * rng.normal(size=(5, 2)), np.array([[1, -1, 4], [0, 0, -1]]), padded
        yield rng.normal(size=(4, 6))[::2, ::-2].T, rng.normal(size=(4, 4))[::2, ::2].T, np.array([1, 0, 1]), {}
        yield rng.normal(size=3), rng.normal(size=(5, 3)), np.array(4), {}


def _multiple(x, factor):
    """factor x, to be written or added to the place of a leaf's gradient."""
    def fill(total, add):
        if add:
            add_multiple(x.reshape(-1), factor.item(), total.reshape(-1))
        else:
            np.multiply(x, factor, out=total)
    return Deferred(x.shape, x.dtype, fill)


def _by_rows(kernel, *arrays, gradient):
    """Call a kernel of rows; where there are many numbers, on several threads."""
    count = threads.num_threads() if arrays[0].size >= SHARED else 1
    bounds = [len(arrays[0]) * k // count for k in range(count + 1)]
    threads.run([functools.partial(kernel, *(x[low:high] for x in arrays), gradient) for low, high in zip(bounds, bounds[1:])])


def linear_cross_entropy(x, weight, targets, ignore_index=-100):
    """`cross_entropy(linear(x, weight), targets)` for `x` (..., C), `weight` (V, C), integer `targets` (...), without the logits.

    Raises TypeError for targets that are not integers, ValueError for shapes that do not go together and for a
    target outside the vocabulary.

    >>> import numpy as np, tinyllm as tl
    >>> linear_cross_entropy(tl.Tensor(np.ones((1, 2))), tl.Tensor(np.ones((4, 2))), [3])     # ln 4: all logits are 2
    Tensor(1.38629436, shape=(), dtype=float64)
    """
    targets = as_array(targets)
    if len(x.shape) != targets.ndim + 1 or x.shape[:-1] != targets.shape or len(weight.shape) != 2 or weight.shape[1] != x.shape[-1]:
        raise ValueError(f"linear_cross_entropy: x {x.shape}, weight {weight.shape}, targets {targets.shape}; expected x (..., C), "
                         "weight (V, C) and one target for each vector of x")
    check_targets("linear_cross_entropy", targets, len(weight), ignore_index)
    frozen = not getattr(weight, "requires_grad", False)
    return LinearCrossEntropy.apply(x, weight, targets, ignore_index=ignore_index, frozen=frozen)
