"""Advantages: how much better an action was than what was to be expected there.

    gae                     a value function expects; token by token          (Schulman et al. 2015, Eq. 16)
    group_advantages        the other completions of the prompt expect        (GRPO, Shao et al. 2024; Dr. GRPO)
    rloo                    likewise, without the completion itself           (Ahmadian et al. 2024)
    remax                   the greedy completion of the prompt expects       (Li et al. 2023)
    reinforce_plus_plus     the whole batch expects; token by token           (Hu 2025)

A baseline that does not depend on the action it is subtracted for leaves the gradient's mean alone and lowers its
variance. The group mean does depend on it: it scales the gradient by (G-1)/G, and dividing by the group's
standard deviation bends it. `enumerate.py` shows both by summing over all completions.

Arrays in, arrays out: nothing is differentiated through an advantage.
"""

import numpy as np

from ..errors import UserError
from .kl import kl
from .logps import last_index
from .masked import as_mask, constant, keep, masked_mean


def shape_rewards(scores, logps, ref_logps, mask, *, beta=0.0, kind="k1", place="last"):
    """Rewards of single tokens (B, T): `-beta` times the KL estimate of each, and the completion's score at the end.

    `scores` (B,); `place` "last" puts the score on the last token of the mask, "after_end" one place further where there is
    room, as TRL and the summarisation codes do. Row sums are score - beta · Σ KL.
    """
    logps = constant(logps)
    mask = as_mask(mask, logps.shape)
    scores, last = constant(scores), last_index(mask)
    if (last < 0).any():
        raise UserError(f"shape_rewards: row {int(np.argmin(last))} has no token to learn from, so its score has no place")
    rewards = keep(-beta * kl(keep(logps, mask), keep(constant(ref_logps), mask), kind).numpy(), mask)
    if place == "after_end":
        last = np.minimum(last + 1, mask.shape[1] - 1)
    elif place != "last":
        raise UserError(f'shape_rewards: place {place!r}; expected "last" or "after_end"')
    rewards[np.arange(len(scores)), last] += scores
    return rewards


def penalize_missing_end(scores, truncated, penalty):
    """`scores` (B,) less `penalty` (above 0) where a completion was cut off before its end token."""
    if not penalty > 0:
        raise UserError(f"missing-end penalty {penalty}; expected a number above 0: it is subtracted")
    return constant(scores) - penalty * np.asarray(truncated)


def gae(rewards, values, mask, gamma, lam):
    """Generalised advantage estimation; (advantages, returns), both (B, T) and 0 where `mask` is.

        δ_t = r_t + γ V_{t+1} - V_t,   A_t = δ_t + γλ A_{t+1},   return_t = A_t + V_t

    `values[b, t]` is the value of the state in which token t is chosen. Beyond the last token both V and A are 0, also
    for a completion that was cut off. Masked tokens in between are stepped over: one γλ for each token of the mask.

    >>> advantages, returns = gae([[0.0, 1.0]], [[0.5, 0.5]], [[1, 1]], gamma=1.0, lam=1.0)
    >>> advantages
    array([[0.5, 0.5]])
    """
    mask = as_mask(mask, constant(rewards).shape)
    rewards, values = keep(constant(rewards).astype(np.float64), mask), keep(constant(values).astype(np.float64), mask)
    advantages, returns = np.zeros_like(rewards), np.zeros_like(rewards)
    next_value = next_advantage = np.zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        valid = mask[:, t]
        value = values[:, t]
        advantage = rewards[:, t] + gamma * next_value - value + gamma * lam * next_advantage
        advantages[:, t] = keep(advantage, valid)
        returns[:, t] = keep(advantage + value, valid)
        next_advantage = np.where(valid, advantage, next_advantage)
        next_value = np.where(valid, value, next_value)
    return advantages, returns


def whiten(x, mask, *, ddof=1, shift_mean=True):
    """`x` (B, T) with mean 0 and variance 1 over the places of `mask`, 0 elsewhere; `shift_mean=False` keeps the mean.

    >>> whiten(np.array([[1.0, 3.0, 99.0]]), np.array([[1, 1, 0]]), ddof=0).round(3)
    array([[-1.,  1.,  0.]])
    """
    x = constant(x)
    mask = as_mask(mask, x.shape)
    if mask.sum() <= ddof:
        raise UserError(f"whiten: {int(mask.sum())} value(s) left by the mask; a variance with ddof={ddof} needs {ddof + 1}")
    valid = x[mask].astype(np.float64)
    mean = valid.mean()
    y = (keep(x, mask) - mean) / np.sqrt(valid.var(ddof=ddof) + 1e-8)
    return keep(y if shift_mean else y + mean, mask)


# ---- a number for each completion

def in_groups(rewards, group_size):
    """`rewards` as float64 (prompts, group_size): completions of one prompt stand together."""
    rewards = np.asarray(constant(rewards), np.float64)
    if group_size < 2:
        raise UserError(f"group_size is {group_size}; expected 2 or more: a completion is measured against the others of its "
                        "prompt, and alone there is nothing to learn from")
    if rewards.size % group_size:
        raise UserError(f"{rewards.size} rewards do not make groups of {group_size}")
    return rewards.reshape(-1, group_size)


def group_advantages(rewards, group_size, *, scale="group", ddof=1, eps=1e-4):
    """(reward - mean of its group) / (std + eps), in the shape of `rewards`; the completions of a prompt stand together.

    `scale`: "group" divides by the group's standard deviation (GRPO), "batch" by that of all rewards, "none" by nothing
    (Dr. GRPO). `ddof` 1 as TRL and verl have it, 0 as NumPy. A reward of NaN (not scorable) is left out of the statistics and
    gets advantage 0; where all rewards of a group are equal, all advantages are exactly 0.

    >>> group_advantages([1.0, 0.0, 0.5, 0.5], 2, scale="none")
    array([ 0.5, -0.5,  0. ,  0. ])
    """
    groups = in_groups(rewards, group_size)
    known = np.isfinite(groups)
    if np.isinf(groups).any():
        raise UserError("group_advantages: a reward is infinite; give NaN for a completion that cannot be scored")
    centred = keep(groups - _mean(groups, known), known)
    centred = np.where(no_signal(groups)[:, None], 0.0, centred)
    if scale == "group":
        count = np.maximum(known.sum(axis=1, keepdims=True) - ddof, 1)
        centred = centred / (np.sqrt((centred ** 2).sum(axis=1, keepdims=True) / count) + eps)
    elif scale == "batch":
        valid = groups[known]
        centred = centred / ((valid.std(ddof=ddof) if valid.size > ddof else 0.0) + eps)
    elif scale != "none":
        raise UserError(f'group_advantages: scale {scale!r}; expected "group", "batch" or "none"')
    return centred.reshape(np.shape(constant(rewards)))


def no_signal(groups):
    """Which rows of `groups` (P, G) have no two different rewards: their gradient is 0."""
    known = np.isfinite(groups)
    return np.where(known, groups, -np.inf).max(axis=1) <= np.where(known, groups, np.inf).min(axis=1)


def zero_signal_fraction(rewards, group_size):
    """Share of the groups whose rewards are all equal.

    >>> zero_signal_fraction([1, 1, 0, 1], 2)
    0.5
    """
    return float(no_signal(in_groups(rewards, group_size)).mean())


def _mean(groups, known):
    return masked_mean(groups, known, axis=1)[:, None]


def rloo(rewards, group_size):
    """r_i minus the mean of the other rewards of its group, in the shape of `rewards`.

    >>> rloo([1.0, 0.0, 0.0], 3)
    array([ 1. , -0.5, -0.5])
    """
    centred = group_advantages(rewards, group_size, scale="none")
    return centred * (group_size / (group_size - 1))


def remax(rewards, greedy_rewards, group_size):
    """r_i minus the reward of the greedy completion of its prompt; `greedy_rewards` (prompts,)."""
    groups = in_groups(rewards, group_size)
    return (groups - constant(greedy_rewards)[:, None]).reshape(np.shape(constant(rewards)))


def reinforce_plus_plus(token_rewards, mask, *, gamma=1.0):
    """Rewards to come of each token, whitened over the batch; `token_rewards` (B, T) as `shape_rewards` makes them."""
    token_rewards = constant(token_rewards)
    to_go, _ = gae(token_rewards, np.zeros_like(token_rewards), mask, gamma, 1.0)
    return whiten(to_go, mask)


def reinforce_plus_plus_baseline(rewards, mask, group_size):
    """Rewards (B,) minus the mean of their group, on every token, whitened over the batch (B, T)."""
    centred = group_advantages(np.ravel(constant(rewards)), group_size, scale="none")
    return whiten(np.broadcast_to(centred[:, None], np.shape(mask)), mask)


def overlong_penalty(lengths, max_length, cache):
    """Soft punishment of long completions (DAPO, Yu et al. 2025, Eq. 13): 0 up to max_length - cache, then down to -1.

    >>> overlong_penalty([10, 16, 20, 21], max_length=20, cache=5)
    array([ 0. , -0.2, -1. , -1. ])
    """
    if not 0 < cache <= max_length:
        raise UserError(f"overlong_penalty: cache {cache} of max_length {max_length}; expected 0 < cache <= max_length")
    return -np.clip((np.asarray(lengths, np.float64) - (max_length - cache)) / cache, 0.0, 1.0) + 0.0
