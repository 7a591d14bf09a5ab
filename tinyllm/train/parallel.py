"""Several processes, on one machine or on many, train one model together over MPI.

    pip install "tinyllm[mpi]"
    mpiexec -n 4 tinyllm train mytext.txt

Each process (a rank) has the whole model. At every step

    all         draw the same batch, and work on their own shards of it (shards.py)
    Allreduce   adds up the ranks' gradients, one flat buffer (optim/flat.py). A shard's gradients carry its share of the
                batch, so their sum is the mean over the batch, however many rows each rank had
    all         clip and update: the same numbers everywhere, so the weights stay the same everywhere

Rank 0 alone reads the text and the checkpoints (and tells the others), writes the run directory, and speaks.

How a batch is cut into shards, which windows it has, and the stream each shard draws its dropout masks from are the run's
(all ranks draw a seed for every shard, and use those of their own): so a run has the same description on any number of
ranks, and may be resumed on another number. Only the order in which the shards' gradients are added differs. Where each
of two ranks has one shard there is but one order (a + b = b + a) and the run has the same bits as on one process;
otherwise it is the same up to rounding.

Nobody spins. MPI's own waiting keeps a core busy; on a machine with more processes than cores those who wait would take the
time of those they wait for. So exchanges are started, and asked after until they are over, with a little sleep in between.

Nobody is left waiting. Before each exchange every rank says how it is; if one has failed, all of them leave there, and
the one that failed says why. A wish to stop (Ctrl-C, SIGTERM, on any rank) is exchanged after each step.
"""

import json
import os
import sys
import time
import zlib

import numpy as np

from ..engine.threads import available_cores
from ..errors import UserError, WorkError

# What launchers tell the processes they start: MPICH and Intel MPI, Open MPI, MVAPICH.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")

FAILED = 10             # what a rank says before an exchange: 0 or 1 (a wish to stop), or this plus its exit code
NAP = 1e-4              # seconds between two looks at an exchange that takes longer than AWAKE looks
AWAKE = 50
LONGEST = 4096          # bytes of a rank's message to the others
_ARRAY = "array \0"     # stands for an array in JSON; no other key has this name


def team():
    """The processes started together with this one, as a context manager: a `Team`, or `Alone` without an MPI launcher.

    UserError, on the first process only, if mpi4py is missing or belongs to another MPI than the launcher.
    """
    size = _told(SIZES, 1)
    if size == 1:
        return Alone()
    try:
        import mpi4py
        mpi4py.rc.thread_level = "funneled"     # only the main thread exchanges
        from mpi4py import MPI
        if MPI.COMM_WORLD.size == size:
            return Team(MPI)
        problem = f"mpi4py finds {MPI.COMM_WORLD.size}: it uses another MPI library than the one this mpiexec belongs to"
    except (ImportError, RuntimeError) as error:
        problem = f'training together takes mpi4py and an MPI library: pip install "tinyllm[mpi]" ({str(error).splitlines()[0]})'
    if _told(RANKS, 0) > 0:
        raise SystemExit(2)     # the first process says it
    raise UserError(f"{size} processes were started, but {problem}")


def _told(names, default):
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdecimal()), default)


class Alone:
    """A team of one: what a run without MPI has."""

    rank, size = 0, 1
    first = property(lambda self: self.rank == 0, doc="whether this is the rank that reads, writes and speaks")
    cores = property(lambda self: available_cores(), doc="how many cores each rank may keep busy")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        """Nobody has to be told."""

    def meet(self):
        """Wait here until all ranks have come."""

    def same(self, make):
        """What `make()` returns on rank 0, on every rank: JSON's kinds and arrays."""
        return make()

    def any(self, flag):
        """Whether `flag` is true on one rank at least."""
        return flag

    def sum(self, array):
        """Replace `array` by its sum over all ranks."""

    def gather(self, text):
        """The short texts of all ranks, in order."""
        return [text]

    def add_up(self, shards, losses):
        """Sum a step's gradients and counts of experts in `shards` over all ranks; returns the sums of the `losses`."""
        return losses

    def check_equal(self, array, name):
        """WorkError on all ranks unless `array` has the same bits on all of them."""


ALONE = Alone()


class Elsewhere(SystemExit):
    """Another rank has failed, and says so; this one leaves quietly, with the same exit code."""

    def __init__(self, rank, code):
        super().__init__(code)
        self.rank = rank


class Team(Alone):
    """All ranks of MPI's world. As a context manager it sees to it that they leave together, if one fails."""

    def __init__(self, mpi):
        self.mpi, self.comm = mpi, mpi.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        self._neighbours = self.comm.Split_type(mpi.COMM_TYPE_SHARED).size      # ranks on this machine, this one included

    cores = property(lambda self: max(1, available_cores() // self._neighbours))

    def __exit__(self, kind, error, traceback):
        if isinstance(error, Elsewhere):
            return
        try:
            self._ask(0 if error is None else FAILED + (2 if isinstance(error, UserError) else 1))
        except Elsewhere as news:
            if news.rank != self.rank:
                raise news from None
            if not self.first:
                said = str(error) if isinstance(error, (UserError, WorkError)) else f"{kind.__name__}: {error}"
                kind = UserError if isinstance(error, UserError) else WorkError
                raise kind(f"process {self.rank + 1} of {self.size}: {said}") from error
        except self.mpi.Exception as broken:        # MPI itself is at fault: nothing can be agreed upon any more
            print(f"tinyllm: process {self.rank + 1} of {self.size}: {error or broken}", file=sys.stderr, flush=True)
            self.comm.Abort(1)

    def _finish(self, exchange):
        looks = 0
        while not exchange.Test():
            time.sleep(0 if looks < AWAKE else NAP)
            looks += 1

    def _ask(self, mine):
        """What all ranks say, `mine` being this one's word; Elsewhere if one of them has failed."""
        words = np.empty(self.size, np.int8)
        self._finish(self.comm.Iallgather(np.array([mine], np.int8), words))
        for rank, word in enumerate(words.tolist()):
            if word >= FAILED:
                raise Elsewhere(rank, word - FAILED)
        return words

    def meet(self):
        self._ask(0)

    def same(self, make):
        value = make() if self.first else None
        self._ask(0)
        arrays = []

        def described(array):
            arrays.append(np.ascontiguousarray(array))
            return {_ARRAY: [array.dtype.str, array.shape]}

        def received(described):
            if _ARRAY not in described:
                return described
            dtype, shape = described[_ARRAY]
            arrays.append(np.empty(shape, dtype))
            return arrays[-1]

        text = bytearray(json.dumps(value, default=described).encode())
        length = np.array([len(text)])
        self._finish(self.comm.Ibcast(length))
        text = text if self.first else bytearray(int(length[0]))
        self._finish(self.comm.Ibcast(text))
        if not self.first:
            value = json.loads(text, object_hook=received)
        for array in arrays:
            self._finish(self.comm.Ibcast(array.reshape(-1).view(np.uint8)))
        return value

    def any(self, flag):
        return bool(self._ask(int(flag)).any())

    def sum(self, array):
        self._ask(0)
        self._finish(self.comm.Iallreduce(self.mpi.IN_PLACE, array))

    def gather(self, text):
        rows = np.empty((self.size, LONGEST), np.uint8)
        self._ask(0)
        self._finish(self.comm.Iallgather(np.frombuffer(text.encode()[:LONGEST].ljust(LONGEST, b"\0"), np.uint8), rows))
        return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in rows]

    def add_up(self, shards, losses):
        flat, mixtures = shards.flats[0], shards.mixtures[0]
        touched = [p.grad is not None for p in flat.parameters]
        notes = np.concatenate([losses, touched, *[mixture.load for mixture in mixtures]])      # float64, exact for counts
        self.sum(notes)
        losses, anywhere, loads = np.split(notes, [len(losses), len(losses) + len(touched)])
        for p, here, there in zip(flat.parameters, touched, anywhere):
            if not here:
                p.buffer.fill(0)
            p.grad = p.buffer if there else None
        for mixture in mixtures:
            mixture.load[:], loads = loads[:mixture.load.size], loads[mixture.load.size:]
        self._finish(self.comm.Iallreduce(self.mpi.IN_PLACE, flat.grad))
        return losses.tolist()

    def check_equal(self, array, name):
        digests = np.empty(self.size, np.int64)
        self._ask(0)
        self._finish(self.comm.Iallgather(np.array([zlib.crc32(array)]), digests))
        if len(set(digests.tolist())) > 1:
            raise WorkError(f"{name} are no longer the same in all {self.size} processes: the machines or their libraries compute differently")
