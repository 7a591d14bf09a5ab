"""Floor 1: the primitives, one family a file, and their functions under NumPy's names.

    tl.ops.exp(x)   tl.ops.sum(x, axis=0)   tl.ops.matmul(a, b)   tl.primitives["exp"].rules
"""

from . import methods
from .arithmetic import abs, add, clip, divide, maximum, minimum, multiply, negate, power, subtract, where
from .elementwise import cos, erf, exp, log, relu, sigmoid, sin, sqrt, tanh
from .gemm import matmul_backend
from .indexing import getitem, masked_fill, scatter_add, take, take_along_axis
from .matmul import einsum, matmul
from .reductions import cumsum, logsumexp, max, mean, min, sum, var
from .shaping import (astype, broadcast_to, concatenate, expand_dims, flip, pad, reshape, roll, split, squeeze, stack,
                      swapaxes, transpose)
