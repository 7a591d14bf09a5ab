"""A training step in shards: each takes some rows of the batch, all work at once, and their gradients are added up.

    batch ─┬─ shard 0: loss, backward ─ gradients 0 ─┐
           ├─ shard 1: loss, backward ─ gradients 1 ─┼─ sum, always in this order ─ clip ─ update
           └─ …                                      ┘

A shard is a copy of the model whose parameters show the same memory and whose gradients have a buffer of their own.
How a batch is cut depends on the number of shards alone, which is part of a run's configuration; threads only take up the
work (`tl.set_num_threads`). So a run gives the same bits on any number of threads.

The loss is the mean over all targets that count: a shard's mean enters with its share of them. Terms that are not means
over targets (a mixture's balance) are those of each shard, as in training on several machines. Where masks are drawn, each
shard draws from a stream of its own, whose seed the run's generator draws at every step. What the experts of a mixture were
given is counted over all shards before the routers' biases move.
"""

import copy
import functools

import numpy as np

from ..engine import threads
from ..engine.random import Generator, default_generator
from ..fused.kernels import kernel
from ..nn import Dropout, MoE
from ..optim.flat import Flat
from ..text.batches import IGNORE

BLOCK = 1 << 16     # numbers of a gradient that are added up by one thread at a time


@kernel("in1 out1")
def add_numbers(x, total):
    """total += x"""
    for i in range(x.size):
        total[i] += x[i]


class Shards:
    """`model` and its copies: `gradients(ids, targets)` leaves the gradients of the mean loss in the model's parameters.

    `count` shards at most; `begin()` forgets the gradients, `finish()` adds up those of the shards. Where several processes
    share the work (parallel.py), this is number `rank` of `ranks` and has the shards `self.mine`.
    """

    def __init__(self, model, count, rank=0, ranks=1):
        self.count, self.mine = count, range(count * rank // ranks, count * (rank + 1) // ranks)
        self.flats = [Flat(_in_order(model))]
        self.models = [model]
        for _ in self.mine[1:]:
            twin = copy.deepcopy(model)
            self.models.append(twin)
            self.flats.append(Flat(_in_order(twin), self.flats[0].data))
        self.mixtures = [[m for m in model.modules() if isinstance(m, MoE)] for model in self.models]
        self.before_backward = None     # called with each shard's loss, whose graph is then whole
        self.draws = [[m for m in model.modules() if isinstance(m, Dropout) and m.p] for model in self.models]

    def begin(self):
        """Forget all gradients, and the counts of a step that was left out."""
        for flat, mixtures in zip(self.flats, self.mixtures):
            for p in flat.parameters:
                p.grad = None
            for mixture in mixtures:
                mixture.load[:] = 0

    def gradients(self, ids, targets, scale=1.0):
        """Add the gradients of `scale` times the mean loss of a batch to what is there; returns the loss without further terms."""
        rows = [part for part in np.array_split(np.arange(len(ids)), self.count) if len(part)]
        kept = [int((targets[part] != IGNORE).sum()) for part in rows]
        if len(rows) > 1 and self.draws[0] and self.models[0].training:
            seeds = default_generator().randint(0, 2**31, (self.count,))
            for layers, shard in zip(self.draws, self.mine):
                generator = Generator(int(seeds[shard]))
                for layer in layers:
                    layer.generator = generator
        total = max(sum(kept), 1)
        work = [functools.partial(self._shard, k, ids[rows[shard]], targets[rows[shard]], kept[shard] / total, scale)
                for k, shard in enumerate(self.mine) if shard < len(rows)]
        return sum(threads.run(work))

    def _shard(self, k, ids, targets, share, scale):
        model = self.models[k]
        if model.training != self.models[0].training:
            model.train() if self.models[0].training else model.eval()
        loss = model.loss(ids, targets)
        value = loss.item() * share
        for term in model.auxiliary_losses().values():      # of experts to keep busy, of tokens further ahead
            loss = loss + term
        if self.before_backward is not None:
            self.before_backward(loss)
        if share * scale:
            (loss * (share * scale) if share * scale != 1 else loss).backward()
        return value

    def finish(self):
        """Add the gradients of all shards into those of the model, shard by shard, and the loads of its experts."""
        for first, *others in zip(*self.mixtures):
            for other in others:
                first.load += other.load
                other.load[:] = 0
        first = self.flats[0]
        for flat in self.flats[1:]:
            for i, (total, p) in enumerate(zip(first.parameters, flat.parameters)):
                if p.grad is None:
                    if total.grad is not None:
                        p.buffer.fill(0)
                elif total.grad is None:
                    total.buffer.fill(0)
                    total.grad = total.buffer
        if len(self.flats) > 1:
            count = threads.num_threads()
            bounds = [first.size * k // (count * BLOCK) * BLOCK for k in range(count)] + [first.size]
            threads.run([functools.partial(self._add, low, high) for low, high in zip(bounds, bounds[1:])])

    def _add(self, low, high):
        for start in range(low, high, BLOCK):
            stop = min(start + BLOCK, high)
            for flat in self.flats[1:]:
                add_numbers(flat.grad[start:stop], self.flats[0].grad[start:stop])


def _in_order(model):
    """The parameters of a model, those that decay first, as in `optim.decay_groups`: an optimizer's groups then lie together."""
    return sorted(model.parameters(), key=lambda p: p.ndim < 2)
