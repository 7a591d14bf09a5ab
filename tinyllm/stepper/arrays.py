"""Numbers for people: statistics of an array, block means of a large one, and how a number is spelled."""

from dataclasses import dataclass

import numpy as np

BLOCKS = (16, 32)       # a large matrix is shown as at most so many block means


@dataclass
class Omitted:
    """Stands in for an array that was too large to keep: its statistics and its block means."""

    shape: tuple
    dtype: str
    why: str
    stats: dict
    blocks: np.ndarray

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: int(np.prod(self.shape)))


def omit(array, why):
    """The Omitted of an array."""
    return Omitted(array.shape, array.dtype.name, why, statistics(array), block_means(array))


def statistics(array):
    """min, mean, max, std, L2 norm, share of zeros, number of NaN and Inf; those that are not finite are left out of the rest."""
    if isinstance(array, Omitted):
        return array.stats
    flat = np.asarray(array, np.float64).ravel()
    finite = flat[np.isfinite(flat)]
    stats = {"nan": int(np.isnan(flat).sum()), "inf": int(np.isinf(flat).sum())}
    if finite.size:
        stats.update(min=float(finite.min()), mean=float(finite.mean()), max=float(finite.max()), std=float(finite.std()),
                     norm=float(np.sqrt((finite * finite).sum())), zeros=float((finite == 0).mean()))
    return stats


def matrix(array):
    """The array as a matrix to be looked at: leading axes one below the other."""
    if array.ndim == 2:
        return array
    return array.reshape(1, -1) if array.ndim < 2 else array.reshape(-1, array.shape[-1])


def block_means(array, most=BLOCKS):
    """Means over blocks, at most `most` rows and columns of them, as float32."""
    m = matrix(np.asarray(array))
    if not m.size:
        return m.astype(np.float32)
    for axis, limit in enumerate(most):
        n = m.shape[axis]
        if n > limit:
            starts = np.linspace(0, n, limit, endpoint=False).astype(int)
            widths = np.diff([*starts, n]).astype(np.float64)
            m = np.add.reduceat(m, starts, axis=axis, dtype=np.float64) / (widths[:, None] if axis == 0 else widths)
    return m.astype(np.float32)


def shape_words(shape):
    """`8×16`, or `scalar`."""
    return "×".join(map(str, shape)) if shape else "scalar"


def short(x):
    """A number in few characters: four significant digits.

    >>> short(0.341270), short(1e-9), short(-1234567.0), short(3), short(1.0)
    ('0.3413', '1e-09', '-1.235e+06', '3', '1')
    """
    return f"{x:.4g}" if isinstance(x, (float, np.floating)) else str(x)


def spell(x):
    """A number or setting inside an expression, as a person writes it.

    >>> spell(0.125), spell(slice(None, 3)), spell((0, slice(1, None))), spell(1 / 3)
    ('0.125', ':3', '(0, 1:)', '0.3333')
    """
    if isinstance(x, float):
        return f"{x:.4g}"
    if isinstance(x, slice):
        return ":".join("" if v is None else str(v) for v in ((x.start, x.stop) if x.step is None else (x.start, x.stop, x.step)))
    if isinstance(x, tuple):
        return f"({', '.join(map(spell, x))}{',' if len(x) == 1 else ''})"
    if x is Ellipsis:
        return "..."
    if isinstance(x, np.ndarray):
        return f"array {shape_words(x.shape)}"
    return repr(x)


def entry(index):
    """`[2, 1]`; nothing for a scalar."""
    return f"[{', '.join(map(str, index))}]" if index else ""
