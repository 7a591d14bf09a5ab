"""Cut a row of token ids into batches: inputs x and targets y, where y is x shifted by one.

A window takes T + 1 ids: the first T are the input, the last T the targets. Three ways of choosing windows:

    RandomWindows    a window may start anywhere; batches without end (nanoGPT's way)
    EpochWindows     windows a stride apart, each once an epoch, in random order or in the text's (the way of
                     Raschka's book): (N - T - 1) // stride + 1 windows
    EvalWindows      fixed windows that cover the text: each id but the first is a target exactly once

The first two keep a state. Saved and loaded, they go on with the very batch that would have come next.
"""

import numpy as np

from tinyllm.errors import UserError

IGNORE = -100  # a target that does not count, the default `ignore_index` of the loss


def _check(ids, block_size, batch_size):
    ids = np.asanyarray(ids)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise UserError(f"ids has shape {ids.shape} and dtype {ids.dtype}; expected one row of whole numbers")
    if block_size < 1 or batch_size < 1:
        raise UserError(f"block size {block_size}, batch size {batch_size}; expected at least 1 each")
    if len(ids) < block_size + 1:
        raise UserError(f"the text has {len(ids)} tokens; a block of {block_size} takes {block_size + 1} "
                        "(each token's target is the next one): give a longer text or a smaller block")
    return ids


def _gather(ids, starts, block_size):
    """The windows that begin at `starts`: x (B, T) and y (B, T), int64."""
    rows = np.stack([ids[start:start + block_size + 1] for start in starts]).astype(np.int64)
    return rows[:, :-1], rows[:, 1:]


class RandomWindows:
    """Batches of windows that start anywhere, without end.

    `ids` (N,) integers, an array or a memory map; `generator` has `.randint(low, high, shape)`, such as
    `tl.Generator(seed)`. Each `next()` gives x and y of shape (batch_size, block_size), int64. Every start
    from 0 to N - T - 1 is equally likely, so the last id is a target too.

    >>> from tinyllm.engine.random import Generator
    >>> x, y = next(RandomWindows(np.arange(100), 4, 2, Generator(0)))
    >>> x.shape, bool((y == x + 1).all())
    ((2, 4), True)
    """

    def __init__(self, ids, block_size, batch_size, generator):
        self.ids = _check(ids, block_size, batch_size)
        self.block_size, self.batch_size, self.generator = block_size, batch_size, generator

    def __iter__(self):
        return self

    def __next__(self):
        starts = self.generator.randint(0, len(self.ids) - self.block_size, (self.batch_size,))
        return _gather(self.ids, starts, self.block_size)

    def state_dict(self):
        """What the next batch depends on."""
        return {"kind": "random", "generator": self.generator.get_state()}

    def load_state_dict(self, state):
        """Go on where `state_dict` was taken, on the same ids."""
        _check_kind(state, "random")
        self.generator.set_state(state["generator"])


class EpochWindows:
    """Every window once an epoch, epoch after epoch, without end.

    `stride` is the distance between windows (`block_size` where None, so that no token is seen twice);
    `generator` with `.randperm(n)` shuffles each epoch anew, None keeps the text's order; `drop_last` leaves
    out a last batch that is not full. `len()` is the number of batches in an epoch, `.epoch` counts them.

    >>> batches = EpochWindows(np.arange(10), block_size=4, batch_size=2, stride=2)
    >>> batches.windows, len(batches)
    (3, 1)
    >>> next(batches)[0]
    array([[0, 1, 2, 3],
           [2, 3, 4, 5]])
    """

    def __init__(self, ids, block_size, batch_size, generator=None, *, stride=None, drop_last=True):
        self.ids = _check(ids, block_size, batch_size)
        self.block_size, self.batch_size, self.generator = block_size, batch_size, generator
        self.stride = block_size if stride is None else stride
        if self.stride < 1:
            raise UserError(f"stride {stride}; expected at least 1")
        self.windows = (len(self.ids) - block_size - 1) // self.stride + 1
        self.drop_last = drop_last
        if not len(self):
            raise UserError(f"{self.windows} windows do not fill one batch of {batch_size}: take a smaller batch or stride, "
                            "or drop_last=False")
        self.epoch = 0
        self._begin()

    def _begin(self):
        self.cursor = 0
        self.order = np.arange(self.windows) if self.generator is None else self.generator.randperm(self.windows)

    def __len__(self):
        return self.windows // self.batch_size if self.drop_last else -(-self.windows // self.batch_size)

    def __iter__(self):
        return self

    def __next__(self):
        if self.cursor >= len(self):
            self.epoch += 1
            self._begin()
        chosen = self.order[self.cursor * self.batch_size:(self.cursor + 1) * self.batch_size]
        self.cursor += 1
        return _gather(self.ids, chosen * self.stride, self.block_size)

    def state_dict(self):
        """What the next batch depends on: epoch, position in it, its order, and the generator."""
        generator = None if self.generator is None else self.generator.get_state()
        return {"kind": "epoch", "epoch": self.epoch, "cursor": self.cursor, "order": self.order.tolist(), "generator": generator}

    def load_state_dict(self, state):
        """Go on where `state_dict` was taken, on the same ids."""
        _check_kind(state, "epoch")
        if len(state["order"]) != self.windows:
            raise UserError(f"the saved state has {len(state['order'])} windows, this text {self.windows}: it is another text, block size or stride")
        self.epoch, self.cursor, self.order = state["epoch"], state["cursor"], np.array(state["order"])
        if self.generator is not None:
            self.generator.set_state(state["generator"])


def _check_kind(state, kind):
    if state.get("kind") != kind:
        raise UserError(f"the saved state is of {state.get('kind')!r} batches, expected {kind!r}")


class EvalWindows:
    """A fixed set of windows that covers a text, for evaluation.

    Windows stand end to end; the last one is moved back to end with the text, and targets that the window
    before has counted are IGNORE there. So every id but the first is a target exactly once, and the mean over
    all kept targets is the mean over the text. `limit` keeps that many windows, evenly spread. Iterating gives
    (x, y) batches, always the same; `.targets` is the number of targets that count.

    >>> for x, y in EvalWindows(np.arange(8), block_size=4, batch_size=2):
    ...     print(x, y, sep="\\n")
    [[0 1 2 3]
     [3 4 5 6]]
    [[   1    2    3    4]
     [-100    5    6    7]]
    """

    def __init__(self, ids, block_size, batch_size, *, limit=None):
        self.ids = _check(ids, block_size, batch_size)
        self.block_size, self.batch_size = block_size, batch_size
        count = -(-(len(self.ids) - 1) // block_size)
        if limit is not None and limit < 1:
            raise UserError(f"an evaluation of {limit} windows; expected at least 1")
        kept = count if limit is None else min(limit, count)
        self.chosen = np.arange(kept) * count // kept
        self.targets = sum(int((y != IGNORE).sum()) for _, y in self)

    def __len__(self):
        return -(-len(self.chosen) // self.batch_size)

    def __iter__(self):
        last = len(self.ids) - self.block_size - 1
        for first in range(0, len(self.chosen), self.batch_size):
            wanted = self.chosen[first:first + self.batch_size] * self.block_size
            starts = np.minimum(wanted, last)
            x, y = _gather(self.ids, starts, self.block_size)
            moved = (wanted - starts)[:, None]  # how far a window was moved back: so many targets are repeats
            yield x, np.where(np.arange(self.block_size) < moved, IGNORE, y)
