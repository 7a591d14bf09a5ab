"""Reward models: a number for a completion, learnt from comparisons.

Bradley and Terry (1952): that completion c is preferred to r has probability σ(r_c - r_r), so the loss of a comparison is

    L = -log σ(D),  D = r_c - r_r - margin          ∂L/∂r_c = -σ(-D),   ∂L/∂r_r = σ(-D)

Only differences are learnt: a constant may be added to all scores of a prompt. `center` holds them near 0 by adding
center · (r_c + r_r)², and `Normaliser` moves them, once trained, to mean 0 and standard deviation 1 on chosen completions.
"""

from dataclasses import dataclass

import numpy as np

from ..engine import as_array
from ..errors import UserError
from .functions import log_sigmoid
from .logps import last_index
from .masked import constant, tensor


def reward_loss(chosen, rejected, *, margin=0.0, center=0.0):
    """Mean Bradley-Terry loss of B comparisons; (scalar Tensor, info). `chosen`, `rejected` (B,); `margin` a number or (B,).

    >>> loss, info = reward_loss([1.0], [1.0])
    >>> round(loss.item(), 4), info["accuracy"]         # log 2, and a tie is not a win
    (0.6931, 0.0)
    """
    chosen, rejected = tensor(chosen), tensor(rejected)
    if chosen.ndim != 1 or chosen.shape != rejected.shape or not chosen.size:
        raise UserError(f"reward_loss: chosen {chosen.shape}, rejected {rejected.shape}; expected (B,) for both, with B at least 1")
    if (np.asarray(margin) < 0).any() or center < 0:
        raise UserError(f"reward_loss: margin {margin}, center {center}; expected numbers of 0 or above")
    loss = -log_sigmoid(chosen - rejected - constant(np.asarray(margin), chosen)).mean()
    if center:
        total = chosen + rejected
        loss = loss + center * (total * total).mean()
    return loss, {"accuracy": accuracy(chosen, rejected), "margin": float((chosen.numpy() - rejected.numpy()).mean()),
                  "reward_min": float(min(chosen.numpy().min(), rejected.numpy().min())),
                  "reward_max": float(max(chosen.numpy().max(), rejected.numpy().max())),
                  "reward_mean": float((chosen.numpy() + rejected.numpy()).mean() / 2)}


def ranking_loss(scores):
    """Mean loss over all K(K-1)/2 pairs of K completions ranked best first (Ouyang et al. 2022, Eq. 1); `scores` (B, K).

    The pairs of one prompt stay in one batch: spread over several they are seen K - 1 times each, and overfitted.
    """
    scores = tensor(scores)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise UserError(f"ranking_loss: scores of shape {scores.shape}; expected (B, K), K at least 2, the best first")
    better, worse = np.triu_indices(scores.shape[1], 1)
    return -log_sigmoid(scores[:, better] - scores[:, worse]).mean()


def last_token_scores(token_scores, mask):
    """The score (B,) at the last token of `mask` (B, T) in each row; what stands elsewhere does not matter.

    >>> last_token_scores(np.array([[0.1, 0.9, 7.0]]), np.array([[1, 1, 0]])).numpy()
    array([0.9])
    """
    token_scores, last = tensor(token_scores), last_index(mask)
    if (last < 0).any():
        raise UserError(f"last_token_scores: row {int(np.argmin(last))} is all padding")
    return token_scores[np.arange(len(last)), last]


def accuracy(chosen, rejected):
    """Share of comparisons in which the chosen one scores higher; a tie is not a win."""
    return float((as_array(chosen) > as_array(rejected)).mean())


@dataclass
class Normaliser:
    """score · gain + bias."""

    gain: float = 1.0
    bias: float = 0.0

    @classmethod
    def fit(cls, scores):
        """The one that gives these scores mean 0 and standard deviation 1.

        >>> Normaliser.fit([1.0, 3.0])(np.array([1.0, 3.0]))
        array([-1.,  1.])
        """
        scores = constant(scores)
        std = scores.std() if scores.size else 0.0
        if not std > 0:
            raise UserError(f"{scores.size} score(s), all equal: nothing to normalise by")
        return cls(float(1 / std), float(-scores.mean() / std))

    def __call__(self, scores):
        return scores * self.gain + self.bias


def calibration(chosen, rejected, bins=5):
    """Does σ(margin) tell the truth? Rows of (low, high, comparisons, mean predicted, share right), by the size of the margin.

    Comparisons are put into `bins` bins of equal count. In a calibrated model the last two columns agree.

    >>> calibration([1.0, 2.0], [0.0, 3.0], bins=1)
    [(1.0, 1.0, 2, 0.7310585786300049, 0.5)]
    """
    difference = as_array(chosen).astype(np.float64) - as_array(rejected)
    order = np.argsort(np.abs(difference), kind="stable")
    rows = []
    for part in np.array_split(order, bins):
        if part.size:
            size = np.abs(difference[part])
            rows.append((float(size.min()), float(size.max()), part.size, float((1 / (1 + np.exp(-size))).mean()),
                         float((difference[part] > 0).mean())))
    return rows
