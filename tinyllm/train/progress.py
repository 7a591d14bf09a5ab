"""The live line of a training run.

    step  420/2000   loss 1.9312   val 1.9871   14,210 tok/s   ETA 1:45

On a terminal one line is rewritten in place, and a copy of it stays behind at each evaluation. Where the
output is a file or a pipe there are only those lasting lines, and one after each half minute without any.
"""

import shutil
import sys
import time

REDRAW = 0.1    # seconds between two drawings of the live line
SILENCE = 30    # seconds without a word where there is no live line


class Progress:
    """Shows how far a run is; `out` is a text stream, sys.stdout if None.

    >>> progress = Progress(steps=10, start=0, out=sys.stdout, clock=iter(range(100)).__next__)
    >>> progress.step(5, 2.0, tokens=100); progress.keep(5, 2.0, 2.5)
    step  5/10   loss 2.0000   val 2.5000   100 tok/s   ETA 0:02
    """

    def __init__(self, steps, start=0, out=None, clock=time.monotonic):
        self.steps, self.first, self.val = steps, start, None
        self.out = sys.stdout if out is None else out
        self.live = self.out.isatty()
        self._clock = clock
        self._began = self._last = clock()
        self._drawn = self._said = self._began
        self._rate = None               # tokens per second of training, smoothed

    def step(self, step, loss, tokens):
        """`step` steps are done, the last of them with this loss over this many tokens."""
        now = self._clock()
        rate = tokens / max(now - self._last, 1e-9)
        self._rate = rate if self._rate is None else 0.9 * self._rate + 0.1 * rate
        self._last = now
        if not self.live and now - self._said >= SILENCE:
            self.say(self._line(step, loss))
        elif self.live and now - self._drawn >= REDRAW:
            self._drawn = now
            width = shutil.get_terminal_size().columns
            self.out.write("\r" + self._line(step, loss)[:width - 1] + "\x1b[K")
            self.out.flush()

    def keep(self, step, loss, val):
        """An evaluation is done: leave a line that stays."""
        self.val = val
        self.say(self._line(step, loss))
        self._last = self._clock()      # the evaluation's time is not the training's

    def say(self, text):
        """Print a line that stays, in place of the live one."""
        self._said = self._last
        self.out.write(("\r\x1b[K" if self.live else "") + text + "\n")
        self.out.flush()

    def close(self):
        """Leave nothing of the live line."""
        if self.live:
            self.out.write("\r\x1b[K")
            self.out.flush()

    @property
    def tokens_per_second(self):
        """Training speed, evaluations not counted; None before the first step."""
        return self._rate

    def _line(self, step, loss):
        parts = [f"step {step:>{len(str(self.steps)) }}/{self.steps}"]
        if loss is not None:
            parts.append(f"loss {loss:.4f}")
        if self.val is not None:
            parts.append(f"val {self.val:.4f}")
        if self._rate is not None:
            parts.append(f"{self._rate:,.0f} tok/s")
            done = step - self.first
            if done and step < self.steps:
                parts.append(f"ETA {clock_time((self._clock() - self._began) / done * (self.steps - step))}")
        return "   ".join(parts)


def clock_time(seconds):
    """Seconds as people write them.

    >>> clock_time(75), clock_time(3725)
    ('1:15', '1:02:05')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
