"""Work for several threads: a few large pieces at a time, on threads that sleep in between.

Compiled kernels let go of Python's lock, so threads that run them use several cores. The rule here is that a program's
results never depend on how many threads there are: who calls `run` cuts the work into pieces (by the shape of the
arrays, or by a run's configuration), and the threads only decide when each piece is done.

Nobody spins while waiting: beside another busy process a run slows down in proportion, and no further.
"""

import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from ..errors import UserError
from .state import STATE


def available_cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Pool:
    """The number of threads asked for, and the executor that holds them once they are needed."""

    size = available_cores()
    executor = None
    lock = threading.Lock()


def _forget():
    """In a forked process: the executor's threads were not forked with it."""
    _Pool.executor, _Pool.lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class _Here(threading.local):
    working = False         # inside a piece of work: what it runs in turn stays on its own thread


_here = _Here()


def num_threads():
    """How many threads `run` uses; 1 inside a piece of work."""
    return 1 if _here.working else _Pool.size


def set_num_threads(n):
    """Use `n` threads for training steps and large kernels; results do not depend on it.

    >>> before = num_threads()
    >>> set_num_threads(1); num_threads()
    1
    >>> set_num_threads(before)
    """
    if not isinstance(n, int) or n < 1:
        raise UserError(f"set_num_threads({n!r}): expected a whole number above 0")
    with _Pool.lock:
        if n != _Pool.size and _Pool.executor is not None:
            _Pool.executor.shutdown()
            _Pool.executor = None
        _Pool.size = n


def run(pieces):
    """Call each of `pieces` (functions without arguments); their results in order. The first error is raised.

    The caller's thread takes part. Each piece sees the switches (no_grad, default dtype, …) of the caller.

    >>> run([lambda: 1, lambda: 2])
    [1, 2]
    """
    count = min(num_threads(), len(pieces))
    if count <= 1:
        return [piece() for piece in pieces]
    results, errors = [None] * len(pieces), {}
    take, own = itertools.count().__next__, STATE.own
    given = own.grad, own.fused, own.dtype, own.watchers        # as they are now: the caller's own pieces may change them

    def work():
        own = STATE.own
        before = own.grad, own.fused, own.dtype, own.watchers
        own.grad, own.fused, own.dtype, own.watchers = given
        _here.working = True
        try:
            while (i := take()) < len(pieces):
                try:
                    results[i] = pieces[i]()
                except BaseException as error:
                    errors[i] = error
        finally:
            _here.working = False
            own.grad, own.fused, own.dtype, own.watchers = before

    with _Pool.lock:
        if _Pool.executor is None:
            _Pool.executor = ThreadPoolExecutor(_Pool.size - 1, thread_name_prefix="tinyllm")
        waiting = [_Pool.executor.submit(work) for _ in range(count - 1)]
    work()
    for future in waiting:
        future.result()
    if errors:
        raise errors[min(errors)]
    return results


def shares(sizes, parts):
    """Indices of items of these sizes in `parts` lists of about equal size, each in order.

    >>> shares([4, 1, 1, 3, 1], 2)
    [[0, 2], [1, 3, 4]]
    """
    lists, loads = [[] for _ in range(parts)], [0] * parts
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        least = loads.index(min(loads))
        lists[least].append(i)
        loads[least] += sizes[i]
    return [sorted(items) for items in lists if items]
