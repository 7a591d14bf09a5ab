"""One token under the glass: its ratio, whether it is clipped, its advantage, loss and slope, with symbols and numbers."""

import numpy as np

from ..errors import UserError
from .masked import constant


def explain_token(i, t, *, logps, old_logps, advantages, mask, clip=0.2, clip_high=None, tokens=None):
    """The PPO/GRPO loss of token t of completion i, step by step, as text.

    The arrays are those of `ppo_loss`; `tokens` (B, T), texts or ids, names the token. The slope is of the token's own loss, before the
    aggregation weighs it.

    >>> print(explain_token(0, 0, logps=[[-0.5]], old_logps=[[-1.0]], advantages=[2.0], mask=[[1]]))
    token 0 of completion 0
      log π = -0.5000, log π_old = -1.0000
      r = exp(log π - log π_old) = exp(0.5000) = 1.6487: the update has made it likelier
      A = 2.0000: better than expected
      l = max(-A r, -A clip(r, 0.8, 1.2)) = max(-3.2974, -2.4000) = -2.4000
      clipped: r > 1.2 and A > 0, the policy has gained enough from this token
      ∂l/∂log π = 0
    """
    logps, old, A, mask = (np.asarray(constant(x), np.float64) for x in (logps, old_logps, advantages, mask))
    if not (0 <= i < logps.shape[0] and 0 <= t < logps.shape[1]):
        raise UserError(f"token {t} of completion {i}: there are {logps.shape[0]} completions of {logps.shape[1]} places")
    name = f" ({tokens[i][t]!r})" if tokens is not None else ""
    head = f"token {t} of completion {i}{name}"
    if not mask[i, t]:
        return f"{head}\n  masked: padding, prompt or a tool's text, no action of the policy; loss 0, slope 0"
    low, high = 1 - clip, 1 + (clip if clip_high is None else clip_high)
    a = A[i] if A.ndim == 1 else A[i, t]
    new, before = logps[i, t], old[i, t]
    r = np.exp(np.clip(new - before, -20, 20))
    plain, held = -a * r, -a * np.clip(r, low, high)
    above, below = a > 0 and r > high, a < 0 and r < low
    moved = "as likely as it was" if r == 1 else f"the update has made it {'likelier' if r > 1 else 'less likely'}"
    judged = "neither better nor worse than expected" if a == 0 else f"{'better' if a > 0 else 'worse'} than expected"
    if above or below:
        state = (f"clipped: r > {high:g} and A > 0, the policy has gained enough from this token" if above else
                 f"clipped: r < {low:g} and A < 0, the policy has turned away from this token far enough")
        slope = "∂l/∂log π = 0"
    else:
        state = "not clipped"
        step = "likelier" if a > 0 else "less likely" if a < 0 else "neither likelier nor less likely"
        slope = f"∂l/∂log π = -A r = {plain:.4f}: a step down the slope makes it {step}"
    return "\n  ".join([
        head, f"log π = {new:.4f}, log π_old = {before:.4f}",
        f"r = exp(log π - log π_old) = exp({new - before:.4f}) = {r:.4f}: {moved}", f"A = {a:.4f}: {judged}",
        f"l = max(-A r, -A clip(r, {low:g}, {high:g})) = max({plain:.4f}, {held:.4f}) = {max(plain, held):.4f}", state, slope])
