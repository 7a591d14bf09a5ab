"""Losses of the policy gradient: PPO, GRPO and what came after, the value loss, REINFORCE.

The ratio r = π(token) / π_old(token) = exp(logp - old_logp) says how much likelier the update has made a token than it was
when it was sampled. A token's loss, with its advantage A (Schulman et al. 2017, Eq. 7):

    l = max(-A r, -A clip(r, 1 - clip, 1 + clip_high))        ∂l/∂logp = -A r, or 0 where the clipped branch is larger:
                                                              A > 0 and r > 1 + clip_high, or A < 0 and r < 1 - clip
What changes from paper to paper is the ratio, the bound, and how token losses become one number:

    aggregation   one number from l (B, T), mask w, n_i = Σ_t w_it
    grpo          Σ_i (Σ_t w l / n_i) / B         every completion weighs the same             2402.03300
    bnpo          Σ w l / Σ w                     every token of this micro-batch
    dapo          Σ w l / num_tokens              every token of the optimiser step            2503.14476
    dr_grpo       Σ w l / (B · L_max)             no length bias at all                        2503.20783

    ratio         token loss
    gspo          one ratio a completion, s = exp(mean_t (logp - old))                         2507.18071
    cispo         -sg[min(r, eps_max)] A logp: no token is dropped                             2506.13585
    sapo          -A · 4/τ · σ(τ (r - 1)): a gate instead of a clip                            2511.20347
    delta         r ≤ delta also where A < 0                                                   2505.07291

At a kink: on the bounds of a clip the gradient passes; two equal branches of a max or min share it half and half.
"""

import numpy as np

from .. import ops
from ..errors import UserError
from .functions import k3
from .kl import drift
from .masked import as_mask, constant, keep, masked_mean, tensor

AGGREGATIONS = ("grpo", "bnpo", "dapo", "dr_grpo")
LOSS_TYPES = {"grpo": "grpo", "bnpo": "bnpo", "dapo": "dapo", "dr_grpo": "dr_grpo", "gspo": "grpo", "cispo": "dapo", "sapo": "grpo"}
GUARD = 20.0    # |logp - old| beyond this is held there: e²⁰ is far outside of any clip


def ppo_loss(logps, old_logps, advantages, mask, *, clip=0.2, clip_high=None, dual_clip=None, aggregation="bnpo"):
    """PPO's clipped policy loss; (scalar Tensor, info). `logps`, `old_logps`, `mask` (B, T); `advantages` (B, T) or (B,).

    `clip_high` bounds the ratio from above (None: as `clip`); `dual_clip` c > 1 also holds the loss of A < 0 below -A c
    (1912.09729). `aggregation` "bnpo" is the mean over tokens, "grpo" the mean over rows of row means.

    >>> loss, info = ppo_loss([[-1.0, -1.0]], [[-1.0, -1.0]], [[1.0, -1.0]], [[1, 1]])
    >>> loss.item(), info["clip_fraction"]
    (0.0, 0.0)
    """
    low, high = _range(clip, clip_high)
    if dual_clip is not None and not dual_clip > 1:
        raise UserError(f"dual_clip is {dual_clip}; expected a number above 1: it bounds ratios that have grown")
    if aggregation not in ("bnpo", "grpo"):
        raise UserError(f'ppo_loss: aggregation {aggregation!r}; expected "bnpo" (mean over tokens) or "grpo" (over rows)')
    logps, mask, log_ratio, A = _prepare(logps, old_logps, advantages, mask)
    ratio = log_ratio.exp()
    tokens = clipped_loss(ratio, A, low, high)
    if dual_clip is not None:
        tokens = ops.where(A < 0, ops.minimum(tokens, -A * dual_clip), tokens)
    return aggregate(tokens, mask, aggregation), _info(logps, old_logps, ratio.numpy(), A, mask, low, high)


def grpo_loss(logps, old_logps, advantages, mask, *, loss_type="dapo", clip=0.2, clip_high=None, beta=0.0, ref_logps=None,
              max_completion_length=None, num_tokens=None, num_sequences=None, delta=None, eps_max=5.0, tau_pos=1.0, tau_neg=1.05,
              aggregation=None, kl_kind="k3", kl_correction=False, empty_rows="keep"):
    """GRPO and its successors; (scalar Tensor, info). `logps`, `old_logps`, `mask` (B, T); `advantages` (B,) or (B, T).

    `loss_type` is one of grpo, bnpo, dapo, dr_grpo, gspo, cispo, sapo. `beta` adds a KL penalty against `ref_logps`: k3 (or
    k2), times the ratio with `kl_correction` where the samples are an older policy's. `num_tokens` (dapo) and
    `num_sequences` (grpo, dr_grpo) are the counts of the whole optimiser step where the batch is one micro-batch of it:
    micro-batch losses then add up to the loss of the step. `max_completion_length` is dr_grpo's L_max. `empty_rows` "drop" leaves
    completions without any token out of B. UserError for options that contradict each other.

    >>> loss, info = grpo_loss([[-1.0], [-1.0]], [[-1.0], [-1.0]], [1.0, -1.0], [[1], [1]])
    >>> loss.item()
    0.0
    """
    if loss_type not in LOSS_TYPES:
        raise UserError(f"grpo_loss: loss_type {loss_type!r}; there are {', '.join(LOSS_TYPES)}")
    low, high = _range(clip, clip_high)
    how = _aggregation(loss_type, aggregation)
    _check_kl(beta, ref_logps, kl_kind, kl_correction)
    if delta is not None and not (delta > high and loss_type not in ("cispo", "sapo")):
        raise UserError(f"delta={delta} with loss_type {loss_type!r} and an upper bound of {high:g}: delta bounds the branch that is not "
                        f"clipped, so it must be above {high:g}, and cispo and sapo have no such branch")
    logps, mask, log_ratio, A = _prepare(logps, old_logps, advantages, mask)
    ratio = log_ratio.exp()
    used = ratio
    if loss_type == "gspo":
        used = ops.broadcast_to(masked_mean(log_ratio, mask, axis=1).exp().expand_dims(1), mask.shape)      # (B, T), rows constant
    if loss_type == "cispo":
        tokens = -np.minimum(ratio.numpy(), eps_max) * A * keep(logps, mask)
    elif loss_type == "sapo":
        tau = np.where(A > 0, tau_pos, tau_neg).astype(A.dtype)
        tokens = -A * (4 / tau) * ops.sigmoid((ratio - 1) * tau)
    else:
        tokens = clipped_loss(used, A, low, high, delta)
    info = _info(logps, old_logps, used.numpy(), A, mask, low, high)
    if beta:
        d = keep(logps, mask) - keep(constant(ref_logps, logps), mask)
        penalty = k3(d) if kl_kind == "k3" else d * d / 2
        info["kl"] = float(masked_mean(penalty.numpy(), mask))
        tokens = tokens + beta * (penalty * ratio if kl_correction else penalty)
    loss = aggregate(tokens, mask, how, num_tokens=num_tokens, num_sequences=num_sequences, max_length=max_completion_length,
                     empty_rows=empty_rows)
    return loss, info


def clipped_loss(ratio, advantages, low, high, delta=None):
    """max(-A r, -A clip(r, low, high)) of each token; `delta` bounds the r of the first branch."""
    bounded = ratio if delta is None else ratio.clip(high=delta)
    return ops.maximum(-advantages * bounded, -advantages * ratio.clip(low=low, high=high))


def aggregate(tokens, mask, how, *, num_tokens=None, num_sequences=None, max_length=None, empty_rows="keep"):
    """One number from token losses (B, T), as the table above says."""
    if empty_rows not in ("keep", "drop"):
        raise UserError(f'empty_rows is {empty_rows!r}; expected "keep" or "drop"')
    mask = as_mask(mask, tokens.shape)
    tokens = keep(tokens, mask)
    rows = num_sequences or (max(int(mask.any(axis=1).sum()), 1) if empty_rows == "drop" else len(mask))
    if how == "grpo":
        return masked_mean(tokens, mask, axis=1).sum() / float(rows)
    if how == "dr_grpo":
        if not max_length or max_length < mask.sum(axis=1).max():
            raise UserError(f"dr_grpo divides by the greatest length a completion may have: max_completion_length={max_length}, and the "
                            f"longest here has {int(mask.sum(axis=1).max())} tokens")
        return tokens.sum() / float(rows * max_length)
    count = num_tokens if how == "dapo" and num_tokens else max(int(mask.sum()), 1)
    return tokens.sum() / float(count)


def value_loss(values, old_values, returns, mask, *, clip=0.2):
    """0.5 · mean of max((v - ret)², (v_clipped - ret)²) over `mask`; (scalar Tensor, info). All (B, T).

    v_clipped is v held within `clip` of the old value; None does not clip.
    """
    values = tensor(values)
    mask = as_mask(mask, values.shape)
    values = keep(values, mask)
    returns, old = keep(constant(returns, values), mask), keep(constant(old_values, values), mask)
    losses = (values - returns) * (values - returns)
    plain = losses.numpy()
    if clip is not None:
        if not clip > 0:
            raise UserError(f"value_loss: clip {clip}; expected a number above 0, or None")
        difference = old + (values - old).clip(-clip, clip) - returns
        losses = ops.maximum(losses, difference * difference)
    spread = returns[mask].var() if mask.any() else 0.0
    explained = 1 - (returns - values.numpy())[mask].var() / spread if spread > 0 else 0.0
    info = {"clip_fraction": float(masked_mean((losses.numpy() > plain).astype(plain.dtype), mask)),
            "unclipped_loss": 0.5 * float(masked_mean(plain, mask)), "explained_variance": float(explained)}
    return masked_mean(losses, mask) * 0.5, info


def reinforce_loss(logps, advantages, mask):
    """-mean over completions of Σ_t A logp_t (Williams 1992); a scalar Tensor whose slope is the policy gradient's negative.

    >>> reinforce_loss([[-1.0, -2.0]], [0.5], [[1, 1]]).item()
    1.5
    """
    logps, mask, _, A = _prepare(logps, logps, advantages, mask)
    return (keep(logps, mask) * -A).sum() / float(len(mask))


def _prepare(logps, old_logps, advantages, mask):
    """(logps, boolean mask, log r with masked places 0, advantages (B, T) with masked places 0)."""
    logps = tensor(logps)
    if logps.ndim != 2:
        raise UserError(f"log-probabilities of shape {logps.shape}; expected (B, T), one row for each completion")
    mask = as_mask(mask, logps.shape)
    old, A = constant(old_logps, logps), constant(advantages, logps)
    A = np.broadcast_to(A[:, None] if A.ndim == 1 else A, mask.shape) if A.shape in ((len(mask),), mask.shape) else None
    if old.shape != mask.shape or A is None:
        raise UserError(f"old log-probabilities of shape {old.shape}, advantages of shape {np.shape(constant(advantages))}; expected "
                        f"{mask.shape} for the first and the same or {mask.shape[:1]} for the second")
    log_ratio = (keep(logps, mask) - keep(old, mask)).clip(-GUARD, GUARD)
    return logps, mask, log_ratio, keep(A, mask)


def _range(clip, clip_high):
    clip_high = clip if clip_high is None else clip_high
    if not (0 < clip < 1 and clip_high > 0):
        raise UserError(f"clip={clip}, clip_high={clip_high}; expected 0 < clip < 1 and clip_high > 0: ratios are held in "
                        "[1 - clip, 1 + clip_high]")
    return 1 - clip, 1 + clip_high


def _aggregation(loss_type, aggregation):
    how = LOSS_TYPES[loss_type] if aggregation is None else aggregation
    if how not in AGGREGATIONS:
        raise UserError(f"aggregation {how!r}; there are {', '.join(AGGREGATIONS)}")
    if loss_type == "gspo" and how != "grpo":
        raise UserError(f"gspo with aggregation {how!r}: its ratio belongs to a whole completion, and summing it over tokens would weigh "
                        'completions by their length; use "grpo"')
    if loss_type in AGGREGATIONS and how != loss_type:
        raise UserError(f"loss_type {loss_type!r} with aggregation {how!r}: the loss type is the aggregation; leave one out")
    return how


def _check_kl(beta, ref_logps, kind, correction):
    if kind == "k1":
        raise UserError("k1 as a penalty in the loss has gradient 0 on average (the mean of a score), so it would do nothing; "
                        'use kl_kind="k3" or "k2", or subtract k1 from the reward (shape_rewards)')
    if kind not in ("k2", "k3"):
        raise UserError(f'kl_kind {kind!r}; expected "k3" or "k2"')
    if beta < 0:
        raise UserError(f"beta is {beta}; expected 0 (no penalty) or above")
    if beta and ref_logps is None:
        raise UserError(f"beta={beta} penalises the distance to a reference, and ref_logps is missing")
    if not beta and correction:
        raise UserError("kl_correction=True without a penalty: beta is 0")


def _info(logps, old_logps, ratio, A, mask, low, high):
    """What is worth watching, as plain numbers; means over the mask."""
    mean = lambda x: float(masked_mean(np.asarray(x, np.float64), mask))
    below, above = (A < 0) & (ratio < low), (A > 0) & (ratio > high)
    estimates = drift(keep(logps.numpy(), mask), keep(constant(old_logps, logps), mask), mask)
    return {"clip_fraction": mean(below | above), "clip_low": mean(below), "clip_high": mean(above), "ratio_mean": mean(ratio),
            "ratio_max": float(ratio[mask].max(initial=0.0)), "approx_kl": estimates["k3"],
            "approx_kl_k1": estimates["k1"], "approx_kl_k2": estimates["k2"]}
