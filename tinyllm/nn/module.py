"""Modules: layers that own their parameters, and a tree of them.

A module is a Python object whose attributes are its parts. An attribute that is a `Parameter` is learned, one that
is a `Module` is a child, and the path of attributes from the root is the parameter's name:

    class MLP(Module):
        def __init__(self):
            self.fc = Linear(16, 64)            # parameters fc.weight and fc.bias
            self.proj = Linear(64, 16)

        def forward(self, x):
            return self.proj(F.relu(self.fc(x)))

Attaching a module renames what is below it, so that a shape error says `blocks.0.attn.qkv.weight`. A parameter
that is an attribute of two modules (tied weights) is one parameter, under the first of its names. Arrays that belong to a module's
state without being learned are announced with `self.add_buffer(name, array)`.
"""

import numpy as np

from ..engine import Tensor, as_array
from ..engine.guards import writable


class Parameter(Tensor):
    """A tensor that is learned: it requires a gradient, and a module that has it lists it.

    >>> Parameter([0.0, 1.0], name="weight")
    Tensor([0., 1.], shape=(2,), dtype=float32, name='weight', requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data, requires_grad=True, name=None):
        super().__init__(data, requires_grad, name)

    def __deepcopy__(self, memo):
        twin = memo[id(self)] = Parameter(self.data.copy(), self.requires_grad, self.name)
        twin.grad = None if self.grad is None else self.grad.copy()
        return twin


class Module:
    """Base of all layers and models. A subclass sets attributes in `__init__` and defines `forward`."""

    training = True
    path = ""               # from the root module to this one
    buffer_names = ()

    def forward(self, *inputs):
        raise NotImplementedError(f"{type(self).__name__} has no forward(...): define what it computes")

    def __call__(self, *inputs, **options):
        return self.forward(*inputs, **options)

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        if isinstance(value, (Parameter, Module)):
            _attach(value, f"{self.path}.{name}" if self.path else name)

    def add_buffer(self, name, array):
        """Make `array` the attribute `name` and part of the module's state: saved and loaded, not learned."""
        setattr(self, name, as_array(array))
        self.buffer_names = (*self.buffer_names, name)

    # ---- the tree

    def children(self):
        """(name, module) of each module attached here."""
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Module)]

    def named_modules(self, prefix=""):
        """(path, module) of this module and all below it, parents first."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self):
        """This module and all below it, parents first."""
        return (module for _, module in self.named_modules())

    def _named(self, attributes):
        """(path, value) of what `attributes(module)` names, over the tree."""
        for path, module in self.named_modules():
            for name, value in attributes(module):
                yield f"{path}.{name}" if path else name, value

    def named_parameters(self):
        """(path, parameter), each parameter once, in the order of attachment."""
        seen = set()
        for path, parameter in self._named(lambda m: [x for x in vars(m).items() if isinstance(x[1], Parameter)]):
            if parameter not in seen:
                seen.add(parameter)
                yield path, parameter

    def parameters(self):
        """The parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self):
        """(path, array) of what `add_buffer` announced."""
        return self._named(lambda m: [(name, getattr(m, name)) for name in m.buffer_names])

    def buffers(self):
        """The arrays that `add_buffer` announced."""
        return (buffer for _, buffer in self.named_buffers())

    def num_params(self):
        """How many numbers are learned; a parameter used twice counts once."""
        return sum(parameter.size for parameter in self.parameters())

    # ---- switches

    def train(self, mode=True):
        """Training behaviour (dropout drops) here and below; returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self):
        """The behaviour in use (dropout does nothing) here and below; returns the module."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Whether the parameters here and below are learned; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = bool(requires_grad)
        return self

    def zero_grad(self):
        """Forget all gradients: `.grad` of each parameter becomes None."""
        for parameter in self.parameters():
            parameter.grad = None

    # ---- state

    def state_dict(self):
        """path -> array of every parameter and buffer: the arrays themselves, not copies."""
        return {**{path: parameter.data for path, parameter in self.named_parameters()}, **dict(self.named_buffers())}

    def load_state_dict(self, state, strict=True):
        """Copy arrays by path into this module's own, converting dtype; the module is changed only if all is well.

        Raises KeyError that lists every missing key, every unexpected key and every shape that differs.
        `strict=False` passes over the first two. Returns (missing keys, unexpected keys).
        """
        own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        missing = [key for key in own if key not in state]
        unexpected = [key for key in state if key not in own]
        differ = [f"{key}: {np.shape(state[key])} given, {own[key].shape} expected"
                  for key in own if key in state and np.shape(state[key]) != own[key].shape]
        complaints = [("missing", missing), ("unexpected", unexpected)] if strict else []
        text = [f"{what} ({len(keys)}): " + ", ".join(keys) for what, keys in (*complaints, ("of another shape", differ)) if keys]
        if text:
            raise StateError(f"state of {type(self).__name__} does not fit; " + "; ".join(text))
        for key, target in own.items():
            if key in state:
                array = writable(target, "load_state_dict") if isinstance(target, Tensor) else target
                array[...] = as_array(state[key])
        return missing, unexpected

    def details(self):
        """What stands between the brackets of `repr`."""
        return ""

    def __repr__(self):
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        if not lines:
            return f"{type(self).__name__}({self.details()})"
        head = [self.details()] if self.details() else []
        return f"{type(self).__name__}(\n  " + "\n  ".join(head + lines) + "\n)"


class StateError(KeyError):
    """A state dict that does not fit a module."""

    def __str__(self):
        return self.args[0]         # KeyError would show the message in quotes


def _attach(value, path):
    """Tell a parameter, or all that is below a module, its path from the root."""
    if isinstance(value, Parameter):
        value.name = path
        return
    value.path = path
    for name, part in vars(value).items():
        if isinstance(part, (Parameter, Module)):
            _attach(part, f"{path}.{name}")


class ModuleList(Module):
    """Modules in a row, named by their number; `forward` is left to the owner.

    >>> from tinyllm.nn import Linear
    >>> [name for name, _ in ModuleList([Linear(2, 2, bias=False), Linear(2, 2, bias=False)]).named_parameters()]
    ['0.weight', '1.weight']
    """

    def __init__(self, modules=()):
        for module in modules:
            self.append(module)

    def append(self, module):
        """Attach one more at the end."""
        setattr(self, str(len(self)), module)

    def __len__(self):
        return len(self.children())

    def __iter__(self):
        return (module for _, module in self.children())

    def __getitem__(self, i):
        return [module for _, module in self.children()][i]


class Sequential(ModuleList):
    """Modules applied one after another: `Sequential(a, b)(x)` is `b(a(x))`."""

    def __init__(self, *modules):
        super().__init__(modules)

    def forward(self, x):
        for module in self:
            x = module(x)
        return x
