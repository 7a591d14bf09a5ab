"""What is looked at while a model learns, beside its loss: how large the gradients of each layer are, and what it writes.

Both go into `metrics.jsonl` at every evaluation (`layer_grad_norms`, `sample`) and from there onto the report's page.
"""

import math

import numpy as np

from ..tokenizers.base import TokenizerError

TEMPERATURE = 0.8
LENGTH = 60         # tokens of a sample


def layer_grad_norms(model):
    """layer -> Euclidean norm of its gradients now, in the order of the forward pass; layers without any are left out.

    >>> from tinyllm import nn
    >>> model = nn.Sequential(nn.Linear(2, 1, bias=False))
    >>> (model(np.array([[3.0, 4.0]], np.float32)) * 2).sum().backward()
    >>> layer_grad_norms(model)
    {'0': 10.0}
    """
    squares = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            first, *rest = name.split(".")
            layer = f"{first}.{rest[0]}" if rest[0].isdigit() else first
            flat = parameter.grad.ravel()
            squares[layer] = squares.get(layer, 0.0) + float(np.dot(flat, flat))
    return {layer: math.sqrt(square) for layer, square in squares.items()}


class Sampler:
    """Called with a model, writes a few words with it: always the same random numbers, so that only the weights make a difference."""

    def __init__(self, tokenizer, seed):
        self.tokenizer, self.seed = tokenizer, seed
        self.start = tokenizer.encode_array(opening(tokenizer), disallowed_special=())

    def __call__(self, model):
        ids = model.generate(self.start, LENGTH, temperature=TEMPERATURE, stop=(), seed=self.seed)
        return self.tokenizer.decode(ids[len(self.start):])


def opening(tokenizer):
    """What stands before a new piece of text: an empty line, or the first character the tokenizer knows if it knows no lines."""
    try:
        tokenizer.encode("\n\n")
        return "\n\n"
    except TokenizerError:
        return tokenizer.decode([0])
