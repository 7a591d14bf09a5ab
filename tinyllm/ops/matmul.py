"""Matrix products: matmul with NumPy's rules for 1-D, 2-D and batched operands, and einsum.

Both gradients of a matrix product are matrix products. With y_ij = Σ_k a_ik b_kj and g = ∂L/∂y,

    ∂L/∂a_ik = Σ_j g_ij b_kj    which is  g @ bᵀ
    ∂L/∂b_kj = Σ_i a_ik g_ij    which is  aᵀ @ g

and for a batch of products the same holds slice by slice; the walk sums over a batch axis that was broadcast.
`product` itself is computed by `gemm.py`, a kernel built up from the triple loop, or by the BLAS that NumPy
ships with, as `tl.matmul_backend` says.
"""

import numpy as np

from ..engine import Primitive, Tensor
from .gemm import dispatch as product
from .samples import away
from .shaping import expand_dims, squeeze


class MatMul(Primitive):
    """y = a @ b for matrices, over broadcast leading axes; `tl.ops.matmul` and `@` also take vectors"""
    name, symbol, analytic = "matmul", "@", True

    def forward(a, b):
        if np.ndim(a) < 2 or np.ndim(b) < 2:
            raise ValueError("the primitive multiplies matrices: tl.ops.matmul, or @, takes vectors too")
        return product(a, b)

    def grad_a(g, b): return product(g, b.mT)
    def grad_b(g, a): return product(a.mT, g)

    def samples(rng):
        for a, b in (((3, 3), (3, 3)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((2, 1, 2, 3), (4, 3, 2)),
                     ((2, 0), (0, 3)), ((0, 2), (2, 3)), ((2, 2, 3), (2, 3, 2))):
            yield rng.normal(size=a), rng.normal(size=b)
        yield away(rng, (1, 1), 0.0), away(rng, (1, 1), 0.0)
        yield rng.normal(size=(3, 2)).T, rng.normal(size=(6, 8))[::2, ::-2]

    def mend(inputs, a, b):
        if not a or not b:
            return "a scalar has no matrix product; use *"
        if len(a) < 2 or len(b) < 2:
            return None
        if a[-1] != b[-2]:
            hint = ""
            for operand, name, fits in ((inputs[1], "b", a[-1] == b[-1]), (inputs[0], "a", a[-2] == b[-2])):
                if fits:
                    name, suffix = getattr(operand, "name", None) or name, ".T" if len(a) == len(b) == 2 else ".mT"
                    hint = f"; did you mean {name.removesuffix(suffix) if name.endswith(suffix) else name + suffix}?"
                    break
            return f"inner sizes {a[-1]} and {b[-2]} differ{hint}"
        return f"leading axes {a[:-2]} and {b[:-2]} do not broadcast"


class Einsum(Primitive):
    """y = np.einsum(subscripts, *operands), e.g. "bhqd,bhkd->bhqk"

    The gradient of one operand is again an einsum: swap its letters with the output's. Every letter of the
    operand must be found in the output or another operand, and no operand repeats a letter.
    """
    analytic = True

    def forward(*operands, subscripts): return np.einsum(_checked(subscripts, operands), *operands)

    def grad_operands(g, operands, subscripts):
        inputs, output = _parse(subscripts)
        gradients = []
        for i, letters in enumerate(inputs):
            others = [x for j, x in enumerate(operands) if j != i]
            spelling = ",".join([*(s for j, s in enumerate(inputs) if j != i), output])
            gradients.append(_alone(spelling, letters, operands[i].shape, *others, g))
        return gradients

    def samples(rng):
        for subscripts, *shapes in (("ij,jk->ik", (2, 3), (3, 4)), ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
                                    ("i,i->", (3,), (3,)), ("ij->ji", (2, 3)), ("ij,j->i", (2, 3), (3,)), ("ij->i", (2, 3)),
                                    ("i,j->ij", (2,), (3,)), ("ij,jk,kl->il", (2, 3), (3, 2), (2, 4)), ("ij,ij->ij", (2, 2), (2, 2))):
            yield *[rng.normal(size=s) for s in shapes], {"subscripts": subscripts}


def _parse(subscripts):
    inputs, output = subscripts.replace(" ", "").split("->")
    return inputs.split(","), output


def _checked(subscripts, operands):
    if "->" not in subscripts or "." in subscripts:
        raise ValueError(f"write the output and every axis out, as in 'ij,jk->ik' (got {subscripts!r})")
    inputs, _ = _parse(subscripts)
    if len(inputs) != len(operands):
        raise ValueError(f"{subscripts!r} names {len(inputs)} operands, {len(operands)} were given")
    for letters, operand in zip(inputs, operands):
        if len(set(letters)) < len(letters):
            raise ValueError(f"{letters!r} repeats a letter: take the diagonal first (a[i, i] by indexing)")
        if len(letters) != np.ndim(operand):
            raise ValueError(f"{letters!r} has {len(letters)} letters for an operand of shape {np.shape(operand)}")
    return subscripts


def _alone(spelling, letters, shape, *arrays):
    """einsum whose output may have letters found nowhere else: those were summed, so the gradient repeats along them."""
    found = "".join(c for c in letters if c in spelling)
    part = np.einsum(f"{spelling}->{found}", *arrays)
    return np.broadcast_to(part.reshape([n if c in found else 1 for c, n in zip(letters, shape)]), shape)


def matmul(a, b):
    """a @ b as np.matmul: a vector is a row on the left and a column on the right.

    Shapes (..., M, K) @ (..., K, N) -> (..., M, N), leading axes broadcast. Raises ShapeError (a ValueError) that
    names both operands and the likely mend.

    >>> import tinyllm as tl
    >>> tl.ops.matmul(tl.Tensor([[1.0, 2.0], [3.0, 4.0]]), tl.Tensor([1.0, -1.0])).numpy()
    array([-1., -1.], dtype=float32)
    """
    a, b = (x if isinstance(x, Tensor) else Tensor(x) for x in (a, b))
    row, column = a.ndim == 1, b.ndim == 1      # what is less still, a scalar, the primitive refuses
    y = MatMul.apply(_matrix(a, 0) if row else a, _matrix(b, 1) if column else b)
    return squeeze(y, (-2,) * row + (-1,) * column) if row or column else y


def _matrix(vector, axis):
    matrix = expand_dims(vector, axis)
    matrix.name = vector.name
    return matrix


def einsum(subscripts, *operands):
    """np.einsum with an explicit output, differentiable in every operand.

    >>> import tinyllm as tl
    >>> tl.ops.einsum("ij,j->i", tl.Tensor([[1.0, 2.0], [3.0, 4.0]]), tl.Tensor([1.0, -1.0])).numpy()
    array([-1., -1.], dtype=float32)
    """
    return Einsum.apply(*operands, subscripts=subscripts)
