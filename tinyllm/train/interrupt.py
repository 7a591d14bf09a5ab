"""Ctrl-C asks; it does not tear.

The first SIGINT or SIGTERM only leaves a note, which the training loop reads between two steps; a second
Ctrl-C is the usual KeyboardInterrupt, for somebody who will not wait for the step to end.
"""

import signal
import threading


class StopRequest:
    """`with StopRequest() as stop: ...` has `stop.requested` once a signal to stop has come."""

    def __init__(self):
        self.requested = False

    def __enter__(self):
        self._old = {}
        if threading.current_thread() is threading.main_thread():      # Python lets no other thread handle signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._note)
        return self

    def _note(self, number, frame):
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *exception):
        for number, handler in self._old.items():
            signal.signal(number, handler)
