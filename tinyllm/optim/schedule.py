"""Learning-rate schedules: functions of the step.

Each name here makes one: `schedule = warmup_cosine(1e-3, warmup=100, total=2000)`, and in the loop
`optimizer.lr = schedule(step)`. A step is one update of the parameters; `step` counts those done before, so the first
update asks for `schedule(0)` and the last of `total` for `schedule(total - 1)`. Warm-up rises linearly and never starts at 0: update
number s of `warmup` (from 0) uses the share (s + 1) / (warmup + 1).
"""

import math


def constant(lr):
    """Always `lr`.

    >>> constant(0.1)(500)
    0.1
    """
    return lambda step: lr


def linear(start, end, total):
    """From `start` at step 0 in a straight line to `end` at step `total`, then `end`.

    >>> [linear(1.0, 0.0, total=4)(step) for step in (0, 1, 4, 9)]
    [1.0, 0.75, 0.0, 0.0]
    """
    return lambda step: start + (end - start) * min(step / max(total, 1), 1.0)


def warmup_cosine(lr, *, warmup, total, floor=0.0):
    """Up to `lr` over `warmup` steps, then down to `floor` at step `total` along half a cosine, then `floor`.

    >>> schedule = warmup_cosine(1.0, warmup=1, total=5)
    >>> [round(schedule(step), 3) for step in range(7)]
    [0.5, 1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    def schedule(step):
        if step < warmup:
            return lr * (step + 1) / (warmup + 1)
        progress = min((step - warmup) / max(total - warmup, 1), 1.0)
        return floor + (lr - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    return schedule


def warmup_stable_decay(lr, *, warmup, decay, total, floor=0.0):
    """Up to `lr` over `warmup` steps, constant, then in a straight line to `floor` over the last `decay` of `total` steps.

    >>> schedule = warmup_stable_decay(1.0, warmup=1, decay=2, total=6)
    >>> [schedule(step) for step in range(7)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    def schedule(step):
        if step < warmup:
            return lr * (step + 1) / (warmup + 1)
        left = min(max(total - step, 0) / max(decay, 1), 1.0)
        return floor + (lr - floor) * left
    return schedule
