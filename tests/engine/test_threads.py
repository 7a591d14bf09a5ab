"""Threads: results in order, switches that travel, errors that arrive, work that does not nest."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from tinyllm.engine import STATE, Tensor, no_grad, threads
from tinyllm.errors import UserError


@pytest.fixture(autouse=True)
def two_threads():
    before = threads.num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)


def test_results_come_in_order_and_from_several_threads():
    names = threads.run([lambda: (time.sleep(0.05), threading.current_thread().name)[1] for _ in range(4)])
    assert len(set(names)) == 2
    assert threads.run([lambda i=i: i for i in range(100)]) == list(range(100))


def test_pieces_see_the_callers_switches_and_leave_the_threads_as_they_were():
    def look():
        time.sleep(0.02)
        return STATE.grad, (Tensor([1.0], requires_grad=True) * 2).requires_grad

    with no_grad():
        assert threads.run([look] * 4) == [(False, False)] * 4
    assert threads.run([look] * 4) == [(True, True)] * 4


def test_switches_that_a_piece_throws_on_the_callers_thread_stay_its_own():
    """A thread that comes late, when the caller is at work on a piece already, sees the switches that `run` was called under."""
    threads.run([lambda: None] * 2)
    go, seen = threading.Event(), threading.Event()
    threads._Pool.executor.submit(go.wait)      # the only other thread

    def first():
        with no_grad():
            go.set()
            return seen.wait(10) and STATE.grad

    def second():
        seen.set()
        return STATE.grad

    assert threads.run([first, second]) == [False, True]


def test_work_inside_of_work_stays_on_its_thread():
    def inner():
        return threads.num_threads(), threads.run([threading.get_ident] * 2), threading.get_ident()

    for count, idents, own in threads.run([inner] * 2):
        assert count == 1 and idents == [own] * 2


def test_the_first_error_is_raised_and_the_rest_is_done():
    done = []

    def piece(i):
        if i in (1, 2):
            raise ValueError(f"piece {i}")
        done.append(i)

    with pytest.raises(ValueError, match="piece 1"):
        threads.run([lambda i=i: piece(i) for i in range(5)])
    assert sorted(done) == [0, 3, 4]
    assert threads.num_threads() == 2


def test_the_number_of_threads_is_checked():
    for wrong in (0, -1, 1.5):
        with pytest.raises(UserError, match="expected a whole number above 0"):
            threads.set_num_threads(wrong)


def test_threads_sleep_while_there_is_nothing_to_do():
    threads.run([lambda: np.ones(10).sum()] * 4)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own():
    assert threads.run([lambda: 1, lambda: 2]) == [1, 2]        # the parent's threads have started
    child = os.fork()
    if child == 0:
        os._exit(sum(threads.run([lambda: 3, lambda: 4])))
    end = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end:
        time.sleep(0.01)
    if done[0] == 0:
        os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(done[1]) == 7
