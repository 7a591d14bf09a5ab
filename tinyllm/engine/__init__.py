"""Floor 0: the autograd engine. A tensor, a primitive, the walk between them."""

from .anomaly import AnomalyError, anomaly, calling_line
from .backward import backward, unbroadcast
from .deferred import Deferred
from .explain import ShapeError
from .guards import writable
from .primitive import Node, Primitive, primitives
from .random import Generator, default_generator, manual_seed
from .recompute import recompute
from .state import STATE, Watcher, default_dtype, fused, no_grad
from .tensor import Tensor, as_array
