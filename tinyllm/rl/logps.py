"""How probable the policy found each token of a completion.

A row is a prompt of P tokens and a completion of C. The logits at place t are the distribution of token t + 1, so
completion token j (from 0) is scored by the logits at P - 1 + j, and the last row of logits by nobody:

    ids      [p₀ p₁ | c₀ c₁ c₂]            P = 2, C = 3
    logits    z₀ z₁   z₂ z₃ z₄
    scored        └c₀ └c₁ └c₂              log π(c_j) = z[c_j] - log Σ e^z,  z = logits / temperature

The temperature divides logits before the softmax, here as in the sampler, for policy, old policy and reference alike.
"""

import numpy as np

from ..engine import as_array
from ..errors import UserError
from ..nn import functional as F
from .masked import tensor


def token_logps(logits, ids, temperature=1.0):
    """log π(ids[b, t]) under `logits[b, t]` (B, T, V), for whole numbers `ids` (B, T); a Tensor (B, T).

    The caller aligns the two (`completion_logps` does it for a prompt of one length). UserError for a temperature that
    is not above 0.

    >>> token_logps(np.zeros((1, 1, 4)), np.array([[2]])).numpy().round(4)      # log 1/4
    array([[-1.3863]])
    """
    ids = as_array(ids)
    return -F.cross_entropy(scaled(logits, temperature), ids, ignore_index=-1, reduction="none")


def completion_logps(logits, ids, prompt_length, temperature=1.0):
    """log π of the tokens of `ids` (B, L) from `prompt_length` on, under the logits (B, L, V) of the whole rows; (B, C)."""
    ids, logits = as_array(ids), tensor(logits)
    if not 1 <= prompt_length < ids.shape[1]:
        raise UserError(f"completion_logps: prompt_length {prompt_length} in rows of {ids.shape[1]} tokens; expected at least 1 "
                        "(something must predict the first token) and less than the row (something must be scored)")
    return token_logps(logits[:, prompt_length - 1:-1], ids[:, prompt_length:], temperature)


def entropy(logits, temperature=1.0):
    """H = -Σ p log p in nats of each row of `logits` (B, T, V); a Tensor (B, T).

    >>> entropy(np.zeros((1, 1, 4))).numpy().round(4)       # four equal choices: log 4
    array([[1.3863]])
    """
    logp = F.log_softmax(scaled(logits, temperature))
    return -(logp.exp() * logp).sum(axis=-1)


def scaled(logits, temperature):
    """logits / temperature; UserError for one that is not a number above 0."""
    if not 0 < temperature < np.inf:
        raise UserError(f"temperature is {temperature}; expected a number above 0: at 0 nothing is sampled, so no "
                        "log-probability belongs to it")
    logits = tensor(logits)
    return logits if temperature == 1 else logits / temperature


def completion_mask(completions, eos_id):
    """(mask, truncated) of sampled tokens `completions` (B, C): booleans (B, C) and (B,).

    The first end token is an action and is kept, so that stopping can be learnt; what follows is not. A row without one is
    all ones and truncated.

    >>> mask, truncated = completion_mask(np.array([[7, 1, 0], [7, 8, 9]]), eos_id=1)
    >>> mask.astype(int).tolist(), truncated.tolist()
    ([[1, 1, 0], [1, 1, 1]], [False, True])
    """
    ended = as_array(completions) == eos_id
    return ended.cumsum(axis=1) - ended == 0, ~ended.any(axis=1)


def last_index(mask):
    """Place of the last 1 of each row of `mask` (B, T); -1 for a row without any.

    >>> last_index(np.array([[1, 0, 1, 0], [0, 0, 0, 0]])).tolist()
    [2, -1]
    """
    mask = as_array(mask).astype(bool)
    length = mask.shape[1]
    return np.where(mask.any(axis=1), length - 1 - mask[:, ::-1].argmax(axis=1), -1)
