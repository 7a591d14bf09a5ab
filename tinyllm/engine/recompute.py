"""Compute again what backward needs, instead of keeping it (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").

    y = recompute(block, x)         runs block(x) without a graph: only x is kept

When backward comes by, it runs block(x) once more, now with a graph, walks that at once and lets it go. So of a stack of blocks
the graph of one is there at a time, for one more forward pass of each. Whatever the first run drew at random is drawn
again, so the gradients are, bit for bit, those of `block(x)`.
"""

import contextlib

import numpy as np

from .primitive import Primitive
from .random import default_generator
from .state import STATE, no_grad, switched
from .tensor import Tensor


class Call:
    """A function to be called twice, the second time under the switches and from the random numbers of the first."""

    def __init__(self, function, generators=()):
        self.function, self.generators = function, generators
        self.states = [generator.get_state() for generator in generators]
        self.fused, self.dtype = STATE.fused, STATE.dtype

    def value(self, arrays):
        """The array that the function makes of `arrays`."""
        with no_grad():
            return self.function(*map(Tensor, arrays)).numpy()

    def gradients(self, g, arrays):
        """dL/d(each array) for dL/dy = g; the gradients of parameters inside the function are left in these."""
        leaves = [Tensor(array, requires_grad=True) for array in arrays]
        with switched("grad", True), switched("fused", self.fused), switched("dtype", self.dtype), self._drawing_again():
            y = self.function(*leaves)
        if y.requires_grad:
            y.backward(g)
        return [np.zeros_like(x.data) if x.grad is None else x.grad for x in leaves]

    @contextlib.contextmanager
    def _drawing_again(self):
        now = [generator.get_state() for generator in self.generators]
        for generator, state in zip(self.generators, self.states):
            generator.set_state(state)
        try:
            yield
        finally:
            for generator, state in zip(self.generators, now):
                generator.set_state(state)


class Recompute(Primitive):
    """y = call.value(inputs): a function of which the graph keeps the inputs alone"""

    def forward(*inputs, call):
        return call.value(inputs)

    def grad_inputs(g, inputs, call):
        return call.gradients(g, inputs)

    def samples(rng):
        yield rng.normal(size=(2, 3)), rng.normal(size=3), {"call": Call(lambda a, b: a * b + (a + b).tanh())}
        yield rng.normal(size=(2, 2)), {"call": Call(lambda a: a @ a)}


def recompute(function, *inputs, generators=None):
    """`function(*inputs)`, of which backward makes the graph again instead of finding it kept.

    `inputs`: tensors of floating point; `function` returns one tensor and must do the same both times it is called.
    `generators`: all that it draws from (None: the default one). Parameters that it uses get their gradients too.

    >>> import tinyllm as tl
    >>> layer, x = tl.nn.Linear(2, 2, std=1.0), tl.Tensor([1.0, 2.0], requires_grad=True)
    >>> recompute(lambda x: layer(x).tanh(), x).sum().backward()
    >>> x.grad.shape, layer.weight.grad.shape
    ((2,), (2, 2))
    """
    if not STATE.grad:
        return function(*inputs)
    if not any(x.requires_grad for x in inputs):        # a parameter inside may want a gradient: nobody can know before
        inputs = [Tensor(x.data, requires_grad=True) for x in inputs]
    return Recompute.apply(*inputs, call=Call(function, (default_generator(),) if generators is None else tuple(generators)))
