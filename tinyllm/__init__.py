"""tinyllm: language models from first principles in NumPy."""

from . import ops
from .engine import Primitive, Tensor, anomaly, default_dtype, fused, no_grad, primitives
from .ops import matmul_backend
