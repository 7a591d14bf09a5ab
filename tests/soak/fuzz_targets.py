"""What fuzz.py damages: a sound file, how it is read, and what has to be equal afterwards.

`Target.read()` reads the way a user would and goes on to use what came out; it returns what has to be equal where a checksum
says so. `believed(data, content)` looks at an accepted file with a few lines of its own and says what a shape should have told.
"""

import hashlib
from dataclasses import dataclass
from typing import Callable, NamedTuple

import numpy as np

from tinyllm.engine import no_grad

TEXT = "the theme of the thesis is the other thing, naïve 日本語 it's 12345\n" * 4


class Layer(NamedTuple):
    """How to open what holds the content, and to close it again."""

    open: Callable
    close: Callable
    json: bool = False


@dataclass
class Target:
    """A sound file, and how it is read."""

    path: object
    read: Callable
    json: bool = False
    layers: tuple = ()
    checksum: bool = False              # every damage to the content is to be seen
    believed: Callable = lambda data, content: None
    original: bytes = b""
    content: object = None


def digest(arrays):
    """One number for named arrays."""
    whole = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        whole.update(f"{name!r} {array.shape} {array.dtype}".encode("utf-8", "replace") + array.tobytes())
    return whole.hexdigest()


def used(model):
    """The weights of a model that has been looked at and run."""
    with no_grad(), np.errstate(all="ignore"):
        model(np.zeros((1, min(2, model.config.block_size)), int))
    return digest(model.state_dict())
