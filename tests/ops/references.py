"""What each primitive should compute, written as plain loops over Python numbers.

A gradient check holds a rule to its forward; these hold the forward to the mathematics. Nothing here calls
the NumPy function of the same name.
"""

import itertools
import math

import numpy as np


def elementwise(f):
    """f of Python numbers, applied to every element of broadcast arrays."""
    def reference(*arrays, **attributes):
        arrays = [np.asarray(a) for a in arrays]
        out = {}
        shape = stretched([a.shape for a in arrays])
        for index in np.ndindex(shape):
            out[index] = f(*[a[own(index, a.shape)].item() for a in arrays], **attributes)
        return filled(shape, out)
    return reference


def stretched(shapes):
    """The shape that shapes broadcast to: each axis as long as the one that is not 1."""
    rank = max(len(s) for s in shapes)
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    return tuple(next((n for n in lengths if n != 1), 1) for lengths in zip(*padded))


def own(index, shape):
    """The place in an array of `shape` that a broadcast index reads."""
    return tuple(0 if n == 1 else i for i, n in zip(index[len(index) - len(shape):], shape))


def filled(shape, values):
    """An array from a dict of index -> number."""
    out = np.full(shape, np.nan)
    for index, value in values.items():
        out[index] = value
    return out


def erf(x):
    """The Maclaurin series 2/√π Σ (-1)ⁿ x²ⁿ⁺¹ / (n! (2n+1)), whose terms fall fast for |x| <= 2."""
    return 2 / math.sqrt(math.pi) * math.fsum((-1) ** n * x ** (2 * n + 1) / (math.factorial(n) * (2 * n + 1)) for n in range(40))


def clip(x, low=None, high=None):
    if low is not None and x < low:
        return low
    return high if high is not None and x > high else x


def reduction(f):
    """f of a list of numbers, over the elements along `axis`."""
    def reference(a, axis=None, keepdims=False, **attributes):
        axes = range(a.ndim) if axis is None else [x % a.ndim for x in (axis if isinstance(axis, tuple) else (axis,))]
        groups = {}
        kept = tuple(n for i, n in enumerate(a.shape) if i not in axes)
        for index in np.ndindex(kept):
            groups[index] = []
        for index in np.ndindex(a.shape):
            groups[tuple(i for k, i in enumerate(index) if k not in axes)].append(a[index].item())
        out = filled(kept, {index: f(values, **attributes) for index, values in groups.items()})
        return relaid(out, tuple(1 if i in axes else n for i, n in enumerate(a.shape))) if keepdims else out
    return reference


def variance(values, ddof=0):
    middle = math.fsum(values) / len(values)
    return math.fsum((x - middle) ** 2 for x in values) / (len(values) - ddof)


def cumsum(a, axis=None):
    if axis is None:
        a, axis = relaid(a, (a.size,)), 0
    out = {}
    for index in np.ndindex(a.shape):
        i = index[axis]
        before = [index[:axis % a.ndim] + (k,) + index[axis % a.ndim + 1:] for k in range(i + 1)]
        out[index] = math.fsum(a[b] for b in before)
    return filled(a.shape, out)


def relaid(a, shape):
    """The elements of a, last axis fastest, laid into another shape."""
    return filled(shape, {to: a[place] for to, place in zip(np.ndindex(shape), np.ndindex(a.shape))})


def reshape(a, shape):
    known = math.prod(n for n in shape if n != -1)
    return relaid(a, tuple(a.size // known if n == -1 else n for n in shape))


def transpose(a, axes=None):
    axes = tuple(range(a.ndim))[::-1] if axes is None else tuple(x % a.ndim for x in axes)
    shape = tuple(a.shape[x] for x in axes)
    return filled(shape, {tuple(index[x] for x in axes): a[index] for index in np.ndindex(a.shape)})


def swapaxes(a, axis1, axis2):
    axes = list(range(a.ndim))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return transpose(a, axes)


def broadcast_to(a, shape):
    return filled(shape, {index: a[own(index, a.shape)] for index in np.ndindex(shape)})


def expand_dims(a, axis):
    axes = axis if isinstance(axis, tuple) else (axis,)
    rank, lengths = a.ndim + len(axes), iter(a.shape)
    return relaid(a, tuple(1 if i in [x % rank for x in axes] else next(lengths) for i in range(rank)))


def squeeze(a, axis=None):
    axes = [i for i, n in enumerate(a.shape) if n == 1] if axis is None else [x % a.ndim for x in (axis if isinstance(axis, tuple) else (axis,))]
    return relaid(a, tuple(n for i, n in enumerate(a.shape) if i not in axes))


def concatenate(*arrays, axis=0):
    axis %= arrays[0].ndim
    out, start = {}, 0
    for a in arrays:
        for index in np.ndindex(a.shape):
            out[index[:axis] + (index[axis] + start,) + index[axis + 1:]] = a[index]
        start += a.shape[axis]
    return filled(arrays[0].shape[:axis] + (start,) + arrays[0].shape[axis + 1:], out)


def stack(*arrays, axis=0):
    axis %= arrays[0].ndim + 1
    shape = arrays[0].shape
    out = {index[:axis] + (k,) + index[axis:]: a[index] for k, a in enumerate(arrays) for index in np.ndindex(shape)}
    return filled(shape[:axis] + (len(arrays),) + shape[axis:], out)


def pad(a, width, value=0):
    pairs = [(width, width)] * a.ndim if isinstance(width, int) else [width] * a.ndim if isinstance(width[0], int) else width
    shape = tuple(n + before + after for n, (before, after) in zip(a.shape, pairs))
    out = {index: value for index in np.ndindex(shape)}
    out.update({tuple(i + before for i, (before, _) in zip(index, pairs)): a[index] for index in np.ndindex(a.shape)})
    return filled(shape, out)


def flip(a, axis=None):
    axes = range(a.ndim) if axis is None else [x % a.ndim for x in (axis if isinstance(axis, tuple) else (axis,))]
    return filled(a.shape, {tuple(a.shape[k] - 1 - i if k in axes else i for k, i in enumerate(index)): a[index] for index in np.ndindex(a.shape)})


def roll(a, shift, axis=None):
    if axis is None:
        return relaid(roll(relaid(a, (a.size,)), shift, 0), a.shape)
    moves = {x % a.ndim: s for x, s in zip(*[v if isinstance(v, tuple) else (v,) for v in (axis, shift)])}
    return filled(a.shape, {tuple((i + moves.get(k, 0)) % a.shape[k] for k, i in enumerate(index)): a[index] for index in np.ndindex(a.shape)})


def getitem(a, index):
    """Indexing in NumPy's sense, for index arrays that stand next to each other."""
    parts = []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, np.ndarray) and part.dtype == bool:
            true = [i for i in np.ndindex(part.shape) if part[i]]
            parts += [np.array([i[k] for i in true], dtype=int) for k in range(part.ndim)]
        else:
            parts.append(part)
    rest = a.ndim - sum(p is not None and p is not Ellipsis for p in parts)
    at = parts.index(Ellipsis) if any(p is Ellipsis for p in parts) else len(parts)
    parts = parts[:at] + [slice(None)] * rest + parts[at + 1:]
    arrays = [p for p in parts if isinstance(p, np.ndarray)]
    common = stretched([p.shape for p in arrays]) if arrays else ()
    axes, source = [], []           # for each axis of the result its length; for each axis of a, how a result index gives its place
    placed = False
    for part in parts:
        if part is None:
            axes.append(1)
        elif isinstance(part, int):
            source.append(lambda index, i=part: i)
        elif isinstance(part, slice):
            places = range(a.shape[len(source)])[part]
            source.append(lambda index, places=places, k=len(axes): places[index[k]])
            axes.append(len(places))
        else:
            first = len(axes) - (len(common) if placed else 0)
            if not placed:
                axes += common
            placed = True
            source.append(lambda index, p=part, k=first: p[own(index[k:k + len(common)], p.shape)])
    return filled(tuple(axes), {index: a[tuple(s(index) for s in source)] for index in np.ndindex(*axes)})


def take(a, indices, axis=None):
    if axis is None:
        a, axis = relaid(a, (a.size,)), 0
    axis %= a.ndim
    shape = a.shape[:axis] + indices.shape + a.shape[axis + 1:]
    out = {}
    for index in np.ndindex(shape):
        place = int(indices[index[axis:axis + indices.ndim]])
        out[index] = a[index[:axis] + (place,) + index[axis + indices.ndim:]]
    return filled(shape, out)


def take_along_axis(a, indices, axis=-1):
    axis %= a.ndim
    return filled(indices.shape, {i: a[i[:axis] + (int(indices[i]),) + i[axis + 1:]] for i in np.ndindex(indices.shape)})


def scatter_add(base, index, source):
    out = {i: base[i] for i in np.ndindex(base.shape)}
    for i in np.ndindex(index.shape):
        for rest in np.ndindex(base.shape[1:]):
            out[(int(index[i]), *rest)] += source[own(i + rest, source.shape)]
    return filled(base.shape, out)


def matmul(a, b):
    (rows, inner), columns = a.shape[-2:], b.shape[-1]
    lead = stretched([a.shape[:-2], b.shape[:-2]])
    out = {}
    for batch in np.ndindex(lead):
        one, two = a[own(batch, a.shape[:-2])], b[own(batch, b.shape[:-2])]
        for i, j in itertools.product(range(rows), range(columns)):
            out[(*batch, i, j)] = math.fsum(one[i, k] * two[k, j] for k in range(inner))
    return filled((*lead, rows, columns), out)


def einsum(*operands, subscripts):
    inputs, output = subscripts.split("->")
    lengths = {c: n for letters, a in zip(inputs.split(","), operands) for c, n in zip(letters, a.shape)}
    terms = {index: [] for index in np.ndindex(*[lengths[c] for c in output])}
    for places in itertools.product(*[range(n) for n in lengths.values()]):
        at = dict(zip(lengths, places))
        terms[tuple(at[c] for c in output)].append(math.prod(a[tuple(at[c] for c in letters)] for letters, a in zip(inputs.split(","), operands)))
    return filled(tuple(lengths[c] for c in output), {index: math.fsum(values) for index, values in terms.items()})


REFERENCES = {
    "add": elementwise(lambda a, b: a + b), "subtract": elementwise(lambda a, b: a - b),
    "multiply": elementwise(lambda a, b: a * b), "divide": elementwise(lambda a, b: a / b),
    "negate": elementwise(lambda a: 0 - a), "power": elementwise(math.pow), "exp": elementwise(math.exp), "log": elementwise(math.log),
    "sqrt": elementwise(math.sqrt), "tanh": elementwise(math.tanh), "sigmoid": elementwise(lambda x: 1 / (1 + math.exp(-x))),
    "erf": elementwise(erf), "relu": elementwise(lambda x: x if x > 0 else 0.0), "sin": elementwise(math.sin), "cos": elementwise(math.cos),
    "abs": elementwise(lambda x: -x if x < 0 else x), "clip": elementwise(clip), "where": elementwise(lambda c, a, b: a if c else b),
    "maximum": elementwise(lambda a, b: a if a > b else b), "minimum": elementwise(lambda a, b: a if a < b else b),
    "masked_fill": elementwise(lambda a, mask, value: value if mask else a), "astype": lambda a, dtype: a,
    "sum": reduction(math.fsum), "mean": reduction(lambda v: math.fsum(v) / len(v)), "var": reduction(variance),
    "max": reduction(lambda v: sorted(v)[-1]), "min": reduction(lambda v: sorted(v)[0]),
    "logsumexp": reduction(lambda v: math.log(math.fsum(math.exp(x) for x in v))), "cumsum": cumsum,
    "reshape": reshape, "transpose": transpose, "swapaxes": swapaxes, "broadcast_to": broadcast_to, "expand_dims": expand_dims,
    "squeeze": squeeze, "concatenate": concatenate, "stack": stack, "pad": pad, "flip": flip, "roll": roll,
    "getitem": getitem, "take": take, "take_along_axis": take_along_axis, "scatter_add": scatter_add,
    "matmul": matmul, "einsum": einsum,
}
