"""Linear maps and embedding tables."""

from . import functional as F
from . import init
from .module import Module, Parameter


class Linear(Module):
    """y = x Wᵀ + b, for x (..., in); `weight` (out, in), `bias` (out,) or None.

    `std` None draws as PyTorch does, uniform in ±1/√in, weight then bias; otherwise weights are normal with that
    standard deviation and biases 0.

    >>> Linear(3, 2)
    Linear(3, 2, bias=True)
    """

    def __init__(self, in_features, out_features, bias=True, *, std=None, generator=None):
        shape = (out_features, in_features)
        self.weight = Parameter(init.fan_in_uniform(shape, in_features, generator) if std is None
                                else init.normal(shape, std, generator))
        self.bias = None
        if bias:
            self.bias = Parameter(init.fan_in_uniform(out_features, in_features, generator) if std is None
                                  else init.constant(out_features, 0))

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)

    def matrix(self):
        """The matrix that `forward` multiplies by, for a layer that uses it in another way."""
        return self.weight

    def details(self):
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """Row `id` of a table: ids (...) -> (..., C); `weight` (V, C), drawn normal with `std` (PyTorch's is 1).

    >>> Embedding(6, 3)
    Embedding(6, 3)
    """

    def __init__(self, num_embeddings, embedding_dim, *, std=1.0, generator=None):
        self.weight = Parameter(init.normal((num_embeddings, embedding_dim), std, generator))

    def forward(self, ids):
        return F.embedding(ids, self.weight)

    def details(self):
        return "{}, {}".format(*self.weight.shape)
