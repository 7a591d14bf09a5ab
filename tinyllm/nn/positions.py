"""Rotary positions: the angles by which each pair of a head's numbers turns, and how they are stretched for long texts.

    angle(t, i) = t · f_i,      f_i = θ^(-2i/D),      i < D/2

Small i turn fast and tell neighbours apart, large i turn slowly and tell far from near. A model trained on O positions
has seen the slow pairs make only part of a turn; beyond O it meets angles it never saw. The scalings slow those
pairs down and leave the fast ones alone. With λ = 2π/f the length of one turn:

    linear    f/factor for every pair (Chen et al. 2023)
    llama3    s = clip((O/λ - low)/(high - low), 0, 1);    f' = (1 - s)·f/factor + s·f            (Llama 3.1)
    yarn      r = clip((i - i_fast)/(i_slow - i_fast), 0, 1); f' = r·f/factor + (1 - r)·f  (Peng et al. 2023), where i_β is
              the pair that makes β turns within O positions: D ln(O/(2πβ)) / (2 ln θ). Attention over a longer text is
              flatter, so the scores are sharpened: m(factor, a) = 0.1 a ln factor + 1 scales cos and sin, or the scores.

The settings are spelled as in Hugging Face's config.json: {"rope_type": "llama3", "factor": 8.0, …}.

Two layouts of the pairs exist, (2i, 2i + 1), "interleaved", in Meta's files and (i, i + D/2) in Hugging Face's. The same
model in the other layout has the rows of its query and key maps in another order: `to_halves`, `to_interleaved`.
"""

import math
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from ..untrusted import shown
from . import functional as F

SETTINGS = {    # rope_type: (settings it needs, settings it may have)
    "default": ((), ()),
    "linear": (("factor",), ()),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"), ()),
    "yarn": (("factor", "original_max_position_embeddings"), ("beta_fast", "beta_slow", "mscale", "mscale_all_dim",
                                                             "attention_factor", "truncate")),
}
LARGEST = 1e15                              # of any number among the settings
MAY_BE_0 = ("mscale", "mscale_all_dim")     # which is as if they were missing


def checked_scaling(scaling):
    """`scaling` with its type under "rope_type"; UserError for one that is unknown or incomplete, None for none.

    >>> checked_scaling({"type": "linear", "factor": 2.0})
    {'rope_type': 'linear', 'factor': 2.0}
    """
    if scaling is None:
        return None
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if not isinstance(kind, str) or kind not in SETTINGS:
        raise UserError(f"rope_scaling of type {shown(kind)}; known are {', '.join(SETTINGS)}")
    needed, optional = SETTINGS[kind]
    missing = [name for name in needed if scaling.get(name) is None]
    if missing:
        raise UserError(f"rope_scaling of type {kind!r} needs {', '.join(missing)}")
    settings = {name: scaling[name] for name in (*needed, *optional) if scaling.get(name) is not None}
    for name, value in settings.items():
        if name == "truncate":
            if not isinstance(value, bool):
                raise UserError(f"rope_scaling: truncate is {shown(value)}; expected true or false")
        elif not isinstance(value, (int, float)) or not (0 < value < LARGEST or value == 0 and name in MAY_BE_0):
            raise UserError(f"rope_scaling: {name} is {shown(value)}; expected a number above 0")
    if kind == "llama3" and settings["low_freq_factor"] >= settings["high_freq_factor"]:
        raise UserError(f"rope_scaling: low_freq_factor {settings['low_freq_factor']} is not below high_freq_factor {settings['high_freq_factor']}")
    return {"rope_type": kind, **settings}


def frequencies(size, theta=10000.0, scaling=None):
    """f_i for each of a head's size/2 pairs, in radians a position, as float64; `scaling` as in the module's text.

    >>> frequencies(4, theta=100.0)
    array([1. , 0.1])
    """
    if size % 2:
        raise UserError(f"rotary positions for heads of size {size}; a head is turned pair by pair, expected an even size")
    if not 1 < theta < LARGEST:
        raise UserError(f"rope_theta is {theta}; expected a number above 1")
    f = theta ** (-np.arange(0, size, 2) / size)
    scaling = checked_scaling(scaling) or {"rope_type": "default"}
    if scaling["rope_type"] == "default":
        return f
    if scaling["rope_type"] == "linear":
        return f / scaling["factor"]
    if scaling["rope_type"] == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        turns = scaling["original_max_position_embeddings"] * f / (2 * math.pi)       # O/λ
        kept = np.clip((turns - low) / (high - low), 0, 1)
    else:
        first, last = yarn_range(size, theta, scaling)
        kept = 1 - np.clip((np.arange(size // 2) - first) / (last - first), 0, 1)
    return (1 - kept) * f / scaling["factor"] + kept * f


def yarn_range(size, theta, scaling):
    """Between which pairs YaRN passes from keeping a frequency to dividing it.

    >>> yarn_range(64, 10000.0, {"factor": 40, "original_max_position_embeddings": 4096})      # DeepSeek
    (10, 23)
    """
    def pair(turns):
        return size * math.log(scaling["original_max_position_embeddings"] / (2 * math.pi * turns)) / (2 * math.log(theta))

    first, last = pair(scaling.get("beta_fast", 32)), pair(scaling.get("beta_slow", 1))
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    return first, last if last > first else first + 0.001


def magnitude(factor, a=1.0):
    """YaRN's m(factor, a), 1 where nothing is stretched.

    >>> round(magnitude(40, 1.0) ** 2, 4)       # what DeepSeek-V3 multiplies its scores by
    1.8739
    """
    return 1.0 if factor <= 1 else 0.1 * a * math.log(factor) + 1


def table_factor(scaling):
    """What cos and sin are multiplied by: 1 but for YaRN."""
    scaling = checked_scaling(scaling)
    if scaling is None or scaling["rope_type"] != "yarn":
        return 1.0
    if scaling.get("attention_factor") is not None:
        return scaling["attention_factor"]
    factor, a, all_dim = scaling["factor"], scaling.get("mscale"), scaling.get("mscale_all_dim")
    return magnitude(factor, a) / magnitude(factor, all_dim) if a and all_dim else magnitude(factor)


class Rotation(NamedTuple):
    """The angles of some positions: `turn(x)` turns queries or keys (..., T, D) by them."""

    cos: np.ndarray             # (T, D/2), or (B, 1, T, D/2) where the rows of a batch have positions of their own
    sin: np.ndarray
    interleaved: bool = False

    def turn(self, x):
        """`x` (..., T, D) with each pair turned by its position's angle."""
        return F.rope(x, self.cos, self.sin, self.interleaved)


class RotaryPositions:
    """`at(positions, dtype)` gives the `Rotation` of whole numbers (T,), or (B, T) where rows differ.

    >>> RotaryPositions(4).at(np.arange(3)).cos.shape
    (3, 2)
    """

    def __init__(self, size, theta=10000.0, scaling=None, interleaved=False):
        self.frequencies, self.factor, self.interleaved = frequencies(size, theta, scaling), table_factor(scaling), interleaved

    def at(self, positions, dtype=np.float32):
        """The rotation of these positions; tables are made in float64 and rounded once."""
        angles = positions[..., None] * self.frequencies                # (T, D/2) or (B, T, D/2)
        if positions.ndim == 2:
            angles = angles[:, None]                                    # all heads of a row alike
        return Rotation((np.cos(angles) * self.factor).astype(dtype), (np.sin(angles) * self.factor).astype(dtype), self.interleaved)


def to_halves(weight, n_head):
    """Rows of a query or key map (H·D, …) for interleaved pairs, in the order that pairs i with i + D/2.

    >>> to_halves(np.arange(6), n_head=1)
    array([0, 2, 4, 1, 3, 5])
    """
    return weight.reshape(n_head, -1, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def to_interleaved(weight, n_head):
    """The way back from `to_halves`, bit for bit.

    >>> to_interleaved(np.array([0, 2, 4, 1, 3, 5]), n_head=1)
    array([0, 1, 2, 3, 4, 5])
    """
    return weight.reshape(n_head, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
