"""Cross-entropy: how surprised the model is by the token that came.

With logits z (N, V), targets t (N,) and p = softmax(z),

    loss_n = -log p_n[t_n] = log Σ_v e^{z_nv} - z_n[t_n]          (nats)
    dL/dz_nv = (p_nv - [v = t_n]) · g_n

A row whose target is `ignore_index` (padding, a prompt) has loss 0 and gradient 0, and the mean is over the rows
that are left. If none is left the mean is 0, not 0/0: a batch of padding alone moves nothing.
"""

import numpy as np

from .. import ops
from ..engine import Tensor, as_array
from ._op import NOWHERE, Fused, rows
from .kernels import kernel
from .vector_math import exp, largest


def share(targets, ignore_index, reduction):
    """What each row's loss is multiplied by before the rows are added up: 1/kept, 1 or 0."""
    kept = targets != ignore_index
    return kept / max(np.count_nonzero(kept), 1) if reduction == "mean" else kept.astype(np.float64)


@kernel("in2 ids1 in1 out1 out1")
def cross_entropy_rows(logits, targets, weight, losses, logsum):
    """losses, each times its weight, and of each row log Σ e^z; a target that is ignored has weight 0."""
    for n in range(logits.shape[0]):
        row = logits[n]
        top = largest(row)
        total = logits.dtype.type(0)
        for v in range(row.size):
            total += exp(row[v] - top)
        log = logits.dtype.type(0) if top == np.inf else np.log(total)
        logsum[n] = top + log
        losses[n] = (log - (row[targets[n]] - top)) * weight[n]


@kernel("in2 ids1 in1 in1 out2")
def cross_entropy_rows_backward(logits, targets, g, logsum, dz):
    """dz = (e^(z - logsum) - [v = target]) g"""
    for n in range(logits.shape[0]):
        row, out, minus, by = logits[n], dz[n], logsum[n], g[n]
        for v in range(row.size):
            out[v] = exp(row[v] - minus) * by
        out[targets[n]] -= by


class CrossEntropy(Fused):
    """loss = -log softmax(logits)[target], reduced over the rows whose target is not ignore_index"""

    def definition(logits, targets, *, ignore_index=-100, reduction="mean"):
        weight = share(targets, ignore_index, reduction).astype(logits.dtype)
        places = np.where(targets == ignore_index, 0, targets)
        chosen = ops.take_along_axis(logits, places[..., None], axis=-1).squeeze(-1)     # (...)
        losses = (ops.logsumexp(logits, axis=-1) - chosen) * weight
        return losses if reduction == "none" else losses.sum()

    def forward(logits, targets, *, ignore_index=-100, reduction="mean", saved=NOWHERE):
        saved.weight = weight = share(targets, ignore_index, reduction).astype(logits.dtype)
        saved.places = places = np.where(targets == ignore_index, 0, targets).astype(np.int64).reshape(-1)
        losses, saved.logsum = losses_and_logsum = np.empty((2, places.size), logits.dtype)
        cross_entropy_rows(rows(logits), places, weight.reshape(-1), *losses_and_logsum)
        return losses.reshape(targets.shape) if reduction == "none" else losses.sum()

    def grad_logits(g, logits, saved):
        dz = np.empty(logits.shape, logits.dtype)
        cross_entropy_rows_backward(rows(logits), saved.places, (g * saved.weight).reshape(-1), saved.logsum, rows(dz))
        return dz

    def samples(rng):
        yield rng.normal(size=(3, 4)), np.array([0, 3, 1]), {}
        yield 10 * rng.normal(size=(2, 3, 5)), np.array([[1, -100, 4], [0, 0, -100]]), {}
        yield rng.normal(size=(3, 4)), np.array([2, -1, 1]), {"ignore_index": -1, "reduction": "sum"}
        yield rng.normal(size=(2, 2, 3)), np.array([[2, -100], [1, 0]]), {"reduction": "none"}
        yield rng.normal(size=5), np.array(4), {}


def cross_entropy(logits, targets, ignore_index=-100, reduction="mean"):
    """Mean of -log softmax(logits)[target] over the targets that are not `ignore_index`, in nats.

    `logits` (..., V), integer `targets` (...); `reduction` "mean", "sum" or "none" (one loss for each target).
    Raises TypeError for targets that are not integers, ValueError for shapes that do not go together and for a
    target outside the vocabulary.

    >>> import tinyllm as tl
    >>> cross_entropy(tl.Tensor([[0.0, 0.0], [5.0, 5.0]]), [0, 1]).item()      # ln 2: a guess between two
    0.6931471824645996
    """
    logits = logits if isinstance(logits, Tensor) else Tensor(logits)
    targets = as_array(targets)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"cross_entropy: reduction={reduction!r}; expected 'mean', 'sum' or 'none'")
    if logits.ndim != targets.ndim + 1 or logits.shape[:-1] != targets.shape:
        raise ValueError(f"cross_entropy: logits {logits.shape}, targets {targets.shape}; expected logits (..., V) with one "
                         f"target for each row, that is targets {logits.shape[:-1]}")
    check_targets("cross_entropy", targets, logits.shape[-1], ignore_index)
    return CrossEntropy.apply(logits, targets, ignore_index=ignore_index, reduction=reduction)


def check_targets(by, targets, vocabulary, ignore_index):
    """TypeError unless `targets` are integers, ValueError if one is neither in the vocabulary nor the one that is ignored."""
    if targets.dtype.kind not in "iu":
        raise TypeError(f"{by}: targets of dtype {targets.dtype.name}; expected the integer id of the right token for each row of logits")
    wrong = ((targets < 0) | (targets >= vocabulary)) & (targets != ignore_index)
    if wrong.any():
        where = np.argwhere(wrong)[0].tolist()
        raise ValueError(f"{by}: target {targets[tuple(where)]} at {where}; the logits know ids 0 to {vocabulary - 1}, "
                         f"and {ignore_index} is the target that is ignored")
