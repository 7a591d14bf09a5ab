"""Filling a model from a file: first everything is compared by name and shape, then each tensor is copied to its place.

The model is built without drawing weights (`nn.init.empty`), and a tensor is looked at once and let go, so loading takes the
model's own memory and one tensor more.
"""

import numpy as np

from ..engine.guards import writable
from ..errors import UserError
from ..nn import init

SHOWN = 8               # names in a list of complaints
MOST_PIECES = 100_000   # the largest DeepSeek has 46,000


class WeightsError(UserError):
    """Weights that do not fit, or a file that is not what it should be; the message names the file and the tensor."""


def check(shapes, pieces, path):
    """WeightsError unless `shapes` (name -> shape in the file) are those of `pieces`; every difference is listed."""
    wanted = {piece.theirs: piece.shape for piece in pieces}
    missing = [f"{name} {shape}" for name, shape in wanted.items() if name not in shapes]
    unexpected = [f"{name} {tuple(shapes[name])}" for name in shapes if name not in wanted]
    differ = [f"{name} {tuple(shapes[name])}, expected {shape}" for name, shape in wanted.items()
              if name in shapes and tuple(shapes[name]) != shape]
    complaints = [f"{what} ({len(names)}): {_listed(names)}" for what, names in
                  (("missing", missing), ("unexpected", unexpected), ("of another shape", differ)) if names]
    if complaints:
        raise WeightsError(f"{path}: the tensors are not those its configuration asks for; {'; '.join(complaints)}")


def _listed(names):
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def filled(model_class, config, tensors, pieces):
    """A model of `config` in eval mode with the weights of `tensors` (name -> array), checked before."""
    if len(pieces) > MOST_PIECES:
        raise WeightsError(f"{len(pieces):,} tensors are more than any model has; at most {MOST_PIECES:,} are read")
    with init.empty():
        model = model_class(config)
    arrays = {name: writable(parameter, "loading") for name, parameter in model.named_parameters()}
    for piece in pieces:
        piece.put(tensors[piece.theirs], arrays[piece.ours])
    return model.eval()


def taken(model, pieces):
    """name -> array of the file, from a model; views of the model's own where nothing has to move."""
    arrays = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    dtype = next(iter(arrays.values())).dtype
    return {piece.theirs: np.zeros(piece.shape, dtype) if piece.ours is None else piece.take(arrays[piece.ours]) for piece in pieces}
