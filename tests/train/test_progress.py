"""The progress line, in a file and on a (pseudo) terminal."""

import io
import os
import re
import select

import pytest

from tinyllm.train.progress import Progress, clock_time

pty = pytest.importorskip("pty")


def drive(progress):
    for step in range(1, 7):
        progress.step(step, 3.0 - step / 10, tokens=100)
        if step % 3 == 0:
            progress.keep(step, 3.0 - step / 10, 2.0 + step / 100)
    progress.close()


def ticking():
    now = [0.0]

    def clock():
        now[0] += 0.05
        return now[0]
    return clock


def test_a_file_gets_one_plain_line_for_each_evaluation():
    out = io.StringIO()
    drive(Progress(6, out=out, clock=ticking()))
    lines = out.getvalue().splitlines()
    assert len(lines) == 2 and "\r" not in out.getvalue() and "\x1b" not in out.getvalue()
    assert re.fullmatch(r"step 3/6   loss 2.7000   val 2.0300   [\d,]+ tok/s   ETA 0:00", lines[0])
    assert re.fullmatch(r"step 6/6   loss 2.4000   val 2.0600   [\d,]+ tok/s", lines[1])


def test_a_terminal_sees_one_line_rewritten_and_the_evaluations_kept():
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as out:
        drive(Progress(6, out=out, clock=ticking()))
        out.flush()
        seen = ""
        while select.select([leader], [], [], 0.5)[0]:          # a terminal hands over what was written in pieces
            seen += os.read(leader, 100_000).decode()
    os.close(leader)
    screen = ""
    for piece in re.split("(\r\n|\r)", seen):                   # what a terminal would show in the end
        if piece == "\r":
            screen = screen[:screen.rfind("\n") + 1]
        else:
            screen += "\n" if piece == "\r\n" else piece
    assert [line.split("   ")[0] for line in re.sub(r"\x1b\[K", "", screen).split("\n")] == ["step 3/6", "step 6/6", ""]
    assert seen.count("\rstep ") > 2                            # it moved in between
    assert all(len(line) < 80 for line in re.split("[\r\n]", seen))


def test_the_estimate_is_the_mean_time_of_a_step_times_the_steps_left():
    clock = iter([0.0, 1.0, 2.0, 2.0, 2.0]).__next__
    out = io.StringIO()
    progress = Progress(62, out=out, clock=clock)
    progress.step(1, 1.0, 10)
    progress.step(2, 1.0, 10)
    progress.keep(2, 1.0, None)
    assert "10 tok/s   ETA 1:00" in out.getvalue()


def test_a_file_is_told_something_every_half_minute():
    now = [0.0]
    out = io.StringIO()
    progress = Progress(100, out=out, clock=lambda: now[0])
    for step in range(1, 66):
        now[0] += 1.0
        progress.step(step, 1.0, 10)
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["30/100", "60/100"]


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (90061, "25:01:01")])
def test_times_as_people_write_them(seconds, text):
    assert clock_time(seconds) == text
