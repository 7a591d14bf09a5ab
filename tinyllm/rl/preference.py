"""Learning from pairs without a reward model: DPO and its relatives.

The inputs are the log-probabilities of whole completions (sums over their tokens, end token included, prompt not), of
the policy and of a frozen reference. With the log-ratios Δ = log π - log ref and h = Δ_chosen - Δ_rejected:

    kind           loss of a pair                                                      source
    sigmoid        -log σ(βh)                                                          DPO, 2305.18290 Eq. 7
                   with label_smoothing ε: -(1-ε) log σ(βh) - ε log σ(-βh)             cDPO
    robust         (-(1-ε) log σ(βh) + ε log σ(-βh)) / (1 - 2ε)                        2403.00409
    hinge          max(0, 1 - βh); slope 0 at the kink                                 SLiC, 2305.10425
    ipo            (h - 1/2β)²                                                         2310.12036 Eq. 17
    ipo_avg        the same with Δ averaged over the tokens of each completion         as its authors advise
    sigmoid_norm   -log σ(β (Δ̄_chosen - Δ̄_rejected)), averages                         Tülu 3, 2411.15124
    apo_zero       1 - σ(βΔ_chosen) + σ(βΔ_rejected)                                   2408.06266
    apo_down       σ(βΔ_chosen) + 1 - σ(βh)                                            2408.06266

and beside them `simpo_loss` and `orpo_loss`, which need no reference, and `kto_loss`, which needs no pairs. At the start
π = ref and h = 0: log 2 for sigmoid, 1 for hinge, 1/4β² for ipo, and an accuracy of 0, for a tie is not a win.
"""

import numpy as np

from .. import ops
from ..errors import UserError
from .functions import log_one_minus_exp, log_sigmoid
from .masked import constant, tensor

KINDS = ("sigmoid", "robust", "hinge", "ipo", "ipo_avg", "sigmoid_norm", "apo_zero", "apo_down")
AVERAGED = ("ipo_avg", "sigmoid_norm")


def dpo_loss(chosen, rejected, ref_chosen=None, ref_rejected=None, *, beta=0.1, kind="sigmoid", label_smoothing=0.0,
             chosen_lengths=None, rejected_lengths=None):
    """Mean loss of B pairs; (scalar Tensor, info). All (B,): summed log-probabilities of policy and reference.

    Leaving out both references is the reference-free form. The two kinds that average need the lengths of the completions.
    `info` has the implicit rewards β(log π - log ref), their margin and the share of pairs in the right order.

    >>> loss, info = dpo_loss([-4.0], [-5.0], [-4.0], [-5.0])
    >>> round(loss.item(), 4), info["accuracy"]         # log 2: nothing learnt yet
    (0.6931, 0.0)
    """
    _check(beta, kind, label_smoothing, ref_chosen is None, ref_rejected is None)
    chosen, rejected = _pairs(chosen, rejected)
    won = chosen if ref_chosen is None else chosen - _same(ref_chosen, chosen)
    lost = rejected if ref_rejected is None else rejected - _same(ref_rejected, rejected)
    if kind in AVERAGED:
        won, lost = won / _lengths(chosen_lengths, chosen, kind), lost / _lengths(rejected_lengths, rejected, kind)
    elif chosen_lengths is not None or rejected_lengths is not None:
        raise UserError(f"{kind} works on sums of log-probabilities and has no use for lengths; the kinds that average are "
                        f"{' and '.join(AVERAGED)}")
    h = won - lost
    return _pair_losses(kind, won, lost, h, beta, label_smoothing).mean(), _info(won, lost, beta)


def _pair_losses(kind, won, lost, h, beta, smoothing):
    if kind in ("sigmoid", "sigmoid_norm"):
        right = -log_sigmoid(beta * h)
        return right if not smoothing else (1 - smoothing) * right - smoothing * log_sigmoid(-beta * h)
    if kind == "robust":
        return (smoothing * log_sigmoid(-beta * h) - (1 - smoothing) * log_sigmoid(beta * h)) / (1 - 2 * smoothing)
    if kind == "hinge":
        return ops.relu(1 - beta * h)
    if kind in ("ipo", "ipo_avg"):
        distance = h - 1 / (2 * beta)
        return distance * distance
    if kind == "apo_zero":
        return 1 - ops.sigmoid(beta * won) + ops.sigmoid(beta * lost)
    return ops.sigmoid(beta * won) + 1 - ops.sigmoid(beta * h)


def simpo_loss(chosen, rejected, chosen_lengths, rejected_lengths, *, beta=2.0, gamma=1.0):
    """-log σ(β (mean logp chosen - mean logp rejected) - γ), no reference (2405.14734); (scalar Tensor, info)."""
    _check_beta(beta)
    chosen, rejected = _pairs(chosen, rejected)
    won = chosen / _lengths(chosen_lengths, chosen, "simpo")
    lost = rejected / _lengths(rejected_lengths, rejected, "simpo")
    return -log_sigmoid(beta * (won - lost) - gamma).mean(), _info(won, lost, beta)


def orpo_loss(chosen, rejected, chosen_lengths, rejected_lengths, nll, *, weight=0.1):
    """nll - weight · log σ(log odds(chosen) - log odds(rejected)), no reference (2403.07691); (scalar Tensor, info).

    `nll`, a number or scalar Tensor, is the language-model loss of the chosen completions; the odds are p / (1 - p) of
    p = e^(mean logp).
    """
    chosen, rejected = _pairs(chosen, rejected)
    won = chosen / _lengths(chosen_lengths, chosen, "orpo")
    lost = rejected / _lengths(rejected_lengths, rejected, "orpo")
    if (won.numpy() >= 0).any() or (lost.numpy() >= 0).any():
        raise UserError("orpo: a completion has mean log-probability 0 or above; its odds p / (1 - p) are infinite")
    odds = (won - log_one_minus_exp(won)) - (lost - log_one_minus_exp(lost))
    return nll - weight * log_sigmoid(odds).mean(), _info(won, lost, 1.0)


def kto_loss(logps, ref_logps, desirable, kl_logps, kl_ref_logps, *, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0):
    """Completions that are good or bad, without pairs (2402.01306, Eq. 7); (scalar Tensor, info).

    `logps`, `ref_logps`, `desirable` (booleans) are (B,); `kl_logps`, `kl_ref_logps` are those of mismatched pairs (a prompt with
    another prompt's completion), whose mean log-ratio, at least 0, is the reference point z. z is not differentiated.
    """
    _check_beta(beta)
    logps = tensor(logps)
    ratio = logps - _same(ref_logps, logps)
    good = np.asarray(desirable, bool)
    z = max(float((constant(kl_logps) - constant(kl_ref_logps)).mean()), 0.0)
    sign = np.where(good, 1, -1).astype(logps.dtype)
    weight = np.where(good, desirable_weight, undesirable_weight).astype(logps.dtype)
    losses = (1 - ops.sigmoid(beta * sign * (ratio - z))) * weight
    rewards = beta * ratio.numpy()
    mean = lambda x: float(x.mean()) if x.size else 0.0
    return losses.mean(), {"kl": z, "losses": losses.numpy(), "reward_desirable": mean(rewards[good]),
                           "reward_undesirable": mean(rewards[~good])}


def _check(beta, kind, smoothing, no_chosen, no_rejected):
    if kind not in KINDS:
        raise UserError(f"dpo_loss: kind {kind!r}; there are {', '.join(KINDS)} (and simpo_loss, orpo_loss, kto_loss)")
    _check_beta(beta)
    if no_chosen != no_rejected:
        raise UserError("dpo_loss: one of ref_chosen and ref_rejected is missing; give both, or neither for the reference-free form")
    if not 0 <= smoothing < 0.5:
        raise UserError(f"label_smoothing is {smoothing}; expected from 0 up to, not including, 0.5: it is the share of labels that "
                        "are the wrong way round")
    if smoothing and kind not in ("sigmoid", "sigmoid_norm", "robust"):
        raise UserError(f"label_smoothing={smoothing} has no meaning for {kind!r}; the kinds that take it are sigmoid, "
                        "sigmoid_norm and robust")
    if kind == "robust" and not smoothing:
        raise UserError("robust with label_smoothing=0 is sigmoid; give the share of labels that are the wrong way round")


def _check_beta(beta):
    if not 0 < beta < np.inf:
        raise UserError(f"beta is {beta}; expected a number above 0")


def _pairs(chosen, rejected):
    chosen, rejected = tensor(chosen), tensor(rejected)
    if chosen.ndim != 1 or chosen.shape != rejected.shape or not chosen.size:
        raise UserError(f"preference pairs: chosen {chosen.shape}, rejected {rejected.shape}; expected (B,) for both with B at "
                        "least 1: one summed log-probability for each completion")
    return chosen, rejected


def _same(reference, policy):
    reference = constant(reference, policy)
    if reference.shape != policy.shape:
        raise UserError(f"reference log-probabilities of shape {reference.shape}; expected {policy.shape}, as the policy's")
    return reference


def _lengths(lengths, logps, kind):
    if lengths is None or np.shape(lengths) != logps.shape or (np.asarray(lengths) < 1).any():
        raise UserError(f"{kind} averages log-probabilities over tokens: give chosen_lengths and rejected_lengths, {logps.shape}, "
                        "each at least 1")
    return constant(np.asarray(lengths), logps)


def _info(won, lost, beta):
    reward_chosen, reward_rejected = beta * won.numpy(), beta * lost.numpy()
    return {"reward_chosen": reward_chosen, "reward_rejected": reward_rejected, "margin": reward_chosen - reward_rejected,
            "accuracy": float((reward_chosen > reward_rejected).mean())}
