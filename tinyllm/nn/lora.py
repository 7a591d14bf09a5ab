"""Low-rank adapters (Hu et al. 2021): fine-tune a large map by learning a small one beside it.

    y = W x + s · B A x,        A (r, in), B (out, r),       s = alpha / r

W stays as it is; A and B have r (in + out) numbers where W has in · out. B starts at 0, so a model with fresh adapters
computes what it did before. Afterwards s · B A can be added into W (`merge`), and the model is as fast as it was.

    adapters = tl.nn.lora(model, rank=8, targets=("qkv", "proj"))       from now on only the adapters are learned
    AdamW(adapters.parameters(), lr=1e-3) …
    adapters.save("adapters.safetensors");  adapters.merge()
"""

import numpy as np

from ..engine.guards import writable
from ..errors import UserError
from . import functional as F
from . import init
from .linear import Linear
from .module import Parameter


class LoRALinear(Linear):
    """A `Linear` layer with an adapter beside it; `weight` and `bias` keep their names, `lora_a` and `lora_b` join them."""

    def __init__(self, linear, rank, alpha, generator=None):
        out_features, in_features = linear.weight.shape
        self.weight, self.bias = linear.weight, linear.bias
        self.scale, self.original = alpha / rank, None
        dtype = linear.weight.dtype
        self.lora_a = Parameter(init.fan_in_uniform((rank, in_features), in_features, generator).astype(dtype))
        self.lora_b = Parameter(np.zeros((out_features, rank), dtype))

    def forward(self, x):
        y = F.linear(x, self.weight, self.bias)
        return y if self.original is not None else y + F.linear(F.linear(x, self.lora_a), self.lora_b) * self.scale

    def matrix(self):
        return self.weight if self.original is not None else self.weight + self.lora_b @ self.lora_a * self.scale

    def merge(self):
        """Add the adapter into `weight`, keeping the original aside."""
        if self.original is None:
            self.original = self.weight.numpy().copy()
            array = writable(self.weight, "merge")
            array += self.scale * (self.lora_b.numpy() @ self.lora_a.numpy())

    def unmerge(self):
        """Put the original back, bit for bit."""
        if self.original is not None:
            self.weight.copy_(self.original)
            self.original = None

    def details(self):
        return f"{super().details()}, rank={len(self.lora_a)}"


class Adapters:
    """The adapters of one model: what `lora` returns."""

    def __init__(self, model, layers, learned_before):
        self.model, self.layers, self._learned_before = model, layers, learned_before      # path -> LoRALinear

    def parameters(self):
        """What is learned."""
        return [p for layer in self.layers.values() for p in (layer.lora_a, layer.lora_b)]

    def num_params(self):
        """How many numbers are learned."""
        return sum(p.size for p in self.parameters())

    def merge(self):
        """Add every adapter into its layer's weight; the model computes the same, as fast as without."""
        for layer in self.layers.values():
            layer.merge()

    def unmerge(self):
        """Take every adapter out again: the weights are those of before, bit for bit."""
        for layer in self.layers.values():
            layer.unmerge()

    def remove(self, merge=False):
        """Give the model its plain layers back, with the adapters in their weights if `merge`."""
        for path, layer in self.layers.items():
            (layer.merge if merge else layer.unmerge)()
            owner, name = _owner(self.model, path)
            plain = Linear.__new__(Linear)
            plain.weight, plain.bias = layer.weight, layer.bias
            setattr(owner, name, plain)
        for parameter in self._learned_before:
            parameter.requires_grad = True

    def state_dict(self):
        """path -> array of the adapters alone."""
        return {f"{path}.{name}": getattr(layer, name).numpy() for path, layer in self.layers.items() for name in ("lora_a", "lora_b")}

    def load_state_dict(self, state):
        """Take the values of adapters of the same targets and rank; UserError that lists what does not fit."""
        own = self.state_dict()
        wrong = [f"{key} is missing" for key in own if key not in state]
        wrong += [f"{key} is not wanted" for key in state if key not in own]
        wrong += [f"{key}: {np.shape(state[key])} given, {own[key].shape} expected" for key in own
                  if key in state and np.shape(state[key]) != own[key].shape]
        if wrong:
            raise UserError(f"these are adapters of another model, rank or choice of layers: {'; '.join(wrong)}")
        for path, layer in self.layers.items():
            for name in ("lora_a", "lora_b"):
                getattr(layer, name).copy_(state[f"{path}.{name}"])

    def save(self, path):
        """Write the adapters alone to a safetensors file."""
        from ..weights import safetensors
        safetensors.save(path, self.state_dict())

    def load(self, path):
        """Read what `save` wrote."""
        from ..weights import safetensors
        self.load_state_dict(safetensors.load(path))


def lora(model, rank, targets=("qkv", "proj"), alpha=None, generator=None):
    """Put an adapter of `rank` beside each Linear layer of `model` whose path ends in one of `targets`; returns `Adapters`.

    A target is the end of a path, in whole words: "qkv", "attn.proj", "blocks.0.mlp.up"; "all" is every Linear layer but the
    head. `alpha` (None: `rank`, a scale of 1) divided by the rank scales the adapter. Every other parameter is frozen.

    >>> from tinyllm.nn import Linear, Sequential
    >>> model = Sequential(Linear(100, 100), Linear(100, 10))
    >>> adapters = lora(model, rank=4, targets=["0"])
    >>> adapters.num_params(), sorted(adapters.state_dict())
    (800, ['0.lora_a', '0.lora_b'])
    """
    if rank < 1:
        raise UserError(f"lora: rank={rank}; expected a whole number above 0")
    targets = (targets,) if isinstance(targets, str) else tuple(targets)
    linear = {path: module for path, module in model.named_modules() if isinstance(module, Linear)}
    if any(isinstance(module, LoRALinear) for module in linear.values()):
        raise UserError("lora: the model has adapters already; call their remove() first, with merge=True to keep what they learned")
    chosen = {path: module for path, module in linear.items()
              if any(t == "all" and path != "head" or f".{path}".endswith(f".{t}") for t in targets)}
    if not chosen:
        names = sorted({path.rsplit(".", 1)[-1] for path in linear})
        raise UserError(f"lora: no Linear layer is called {' or '.join(targets)}; this model has {', '.join(names)}")
    learned = [p for p in model.parameters() if p.requires_grad]
    model.requires_grad_(False)
    layers = {}
    for path, module in chosen.items():
        owner, name = _owner(model, path)
        layers[path] = LoRALinear(module, rank, rank if alpha is None else alpha, generator)
        setattr(owner, name, layers[path])
    return Adapters(model, layers, learned)


def _owner(model, path):
    """The module that has the module at `path` as an attribute, and the attribute's name."""
    *parents, name = path.split(".")
    for parent in parents:
        model = getattr(model, parent)
    return model, name
