"""The terminal stepper through a real pseudo-terminal, its keys one by one, and what it says where something is missing."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

import numpy as np
import pytest

import tinyllm as tl
from tinyllm.stepper import record, worked
from tinyllm.stepper.pictures import picture
from tinyllm.stepper.predict import Quiz
from tinyllm.stepper.terminal import Stepper, play

ENVIRONMENT = {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm", "COLUMNS": "100", "LINES": "50"}


def press(stepper, keys):
    for key in keys:
        stepper.press({"\n": "enter"}.get(key, key))
    return "\n".join(stepper.screen(100))


@pytest.fixture
def stepper():
    return Stepper(worked.trace_example(), quiz=Quiz(0))


# ---- in a pseudo-terminal

def _like_a_login_shell():
    """A session and a terminal of its own, and Ctrl-C heard even where the tests run in a background job, which ignores it."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Terminal:
    """A process behind a pty; `screen()` is what stands on it after the last time it was cleared."""

    def __init__(self, *arguments, **environment):
        self.master, slave = pty.openpty()
        command = [sys.executable, "-m", "tinyllm", "step", *arguments]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env={**ENVIRONMENT, **environment},
                                        preexec_fn=_like_a_login_shell)
        os.close(slave)
        self.output = b""

    def wait_for(self, words, seconds=60):
        """Read until the screen shows `words`."""
        until = time.monotonic() + seconds
        while words not in self.screen():
            assert time.monotonic() < until, f"{words!r} did not come; the screen is\n{self.screen()}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self.master, 65536)
                except OSError:         # the process has closed its side
                    break
        return self.screen()

    def send(self, keys):
        os.write(self.master, keys.encode())

    def raw(self):
        return self.output.decode(errors="replace").split("\x1b[H\x1b[2J")[-1]

    def screen(self):
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw()).replace("\r", "")


@pytest.fixture
def terminal():
    opened = []

    def start(*arguments, **environment):
        opened.append(Terminal(*arguments, **environment))
        return opened[-1]
    yield start
    for one in opened:
        one.process.kill()
        one.process.wait()
        os.close(one.master)


def test_a_session_in_a_terminal(terminal):
    t = terminal()
    t.wait_for("step 1/16")
    assert "\x1b[36m" in t.raw()                        # forward, in colour
    t.send("nnn")
    t.wait_for("step 4/16")
    t.send("s")
    t.wait_for("transpose_1 = transpose(W2)")
    t.send("o")
    t.wait_for("step 4/16")
    t.send("f")
    assert "backward  cross_entropy" in t.wait_for("step 6/16")
    t.send("c")
    assert " ok" in t.wait_for("central difference at dz[")
    t.send("/W1\r")
    t.wait_for("dL/dW1")
    t.send("\x1b[A")                                    # arrow up
    t.wait_for("dW1[1, 1]")
    t.send("p")
    t.wait_for("step 10/16")
    t.send("?")
    t.wait_for("into a composite")
    t.send("?q")
    assert t.process.wait(30) == 0
    try:
        while select.select([t.master], [], [], 0.2)[0]:
            t.output += os.read(t.master, 65536)
    except OSError:
        pass
    assert t.output.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")      # cursor and first screen are back


def test_no_color_is_honoured(terminal):
    t = terminal(NO_COLOR="1")
    t.wait_for("step 1/16")
    assert not re.search(r"\x1b\[\d+m", t.raw())


def test_ctrl_c_leaves_the_terminal_as_it_was(terminal):
    t = terminal()
    t.wait_for("step 1/16")
    t.send("\x03")
    assert t.process.wait(30) == 1
    os.set_blocking(t.master, False)
    try:
        t.output += os.read(t.master, 65536)
    except OSError:
        pass
    assert b"\x1b[?1049l" in t.output


def test_a_prompt_can_be_corrected(terminal):
    t = terminal()
    t.wait_for("step 1/16")
    t.send("g9")
    t.wait_for("go to step: 9")
    t.send("\x7f7")
    t.wait_for("go to step: 7")
    t.send("\r")
    t.wait_for("step 7/16")


def test_without_a_terminal_every_step_is_printed():
    done = subprocess.run([sys.executable, "-m", "tinyllm", "step"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "\x1b" not in done.stdout
    assert [f"step {k}/16" in done.stdout for k in range(1, 17)] == [True] * 16


# ---- the keys, without a terminal

def test_next_and_back(stepper):
    assert "this is the first step" in press(stepper, "p")
    press(stepper, "n n")
    assert stepper.place == 3
    press(stepper, "n" * 40)
    assert stepper.place == 15 and "this is the last step" in press(stepper, "n")


def test_into_and_out_of_a_composite(stepper):
    press(stepper, "nnnn")
    assert "cross_entropy" in press(stepper, "") and stepper.item.group == "cross_entropy_1"
    press(stepper, "s")
    assert stepper.item.group is None and len(stepper.folds.items) > 16
    press(stepper, "o")
    assert stepper.item.group == "cross_entropy_1" and len(stepper.folds.items) == 16
    assert "single operation" in press(stepper, "ppps")
    assert "no opened composite" in press(stepper, "o")


def test_phases(stepper):
    assert "backward begins" in press(stepper, "f")
    assert "update begins" in press(stepper, "f")
    assert "update is the last phase" in press(stepper, "f")


def test_go_to_and_find(stepper):
    assert stepper.press("g") is None and "go to step:" in press(stepper, "")
    assert press(stepper, "7\n").startswith("step 7/16")
    assert "is no step; they are numbered 1 to 16" in press(stepper, "g99\n")
    assert "W1" in press(stepper, "/W1\n")
    assert "no tensor is called 'zebra'" in press(stepper, "/zebra\n")


@pytest.mark.parametrize("condition, there", [("tanh", "h = tanh(u)"), ("cross_entropy", "cross_entropy"), ("b1", "b1"), ("|g| > 0.29", "dL/dz")])
def test_breakpoints(stepper, condition, there):
    screen = press(stepper, f"b{condition}\n")
    assert f"stopped at {condition}" in screen and there in screen
    press(stepper, "f" * 3)
    assert f"stopped at {condition}" in press(stepper, "B\n")       # the last condition again, the other way


def test_breakpoints_that_cannot_be(stepper):
    assert "no later step meets 'nan'" in press(stepper, "bnan\n")
    assert "'zebra' is no operation and no tensor" in press(stepper, "bzebra\n")
    assert "a number is expected" in press(stepper, "b|g| > many\n")


def test_a_nan_is_found_where_it_begins():
    x = tl.Tensor(np.array([4.0, 0.0]), requires_grad=True)
    with np.errstate(all="ignore"):
        trace = record(lambda: (tl.ops.sqrt(x) * 0.0).sum() + (tl.ops.log(x) * x).sum(), "nan")
    assert "multiply" in press(Stepper(trace), "bnan\n").splitlines()[0]


def test_arrows_select_and_checks_follow(stepper):
    assert "dL/dW1" in press(stepper, "/W1\n").splitlines()[1]
    for key in ("down", "right"):
        stepper.press(key)
    assert stepper.index == (0, 0)          # from [2, 1], round both edges
    assert "dW1[0, 0]" in press(stepper, "c") and " ok" in press(stepper, "c")
    assert "6 of 6 entries agree" in press(stepper, "C")


def test_views_are_cycled(stepper):
    assert "0.8000" in press(stepper, "")
    assert "scale ±0.8" in press(stepper, "v")
    assert "█" in press(stepper, "v")
    assert "norm 1.063" in press(stepper, "v")
    assert "0.8000" in press(stepper, "v")


def test_what_is_watched_is_not_computed_before_its_time(stepper):
    press(stepper, "w")
    assert "dL/dmatmul_1: not computed yet" in press(stepper, "")
    press(stepper, "g11\n")
    assert "dL/dmatmul_1 so far: norm" in press(stepper, "g12\n")
    press(stepper, "g1\nw")
    assert "watch" not in press(stepper, "")


def test_the_difference_to_the_kernels_and_to_single_precision():
    trace = worked.trace_toy("gpt")
    for other in (worked.trace_toy("gpt", fused=True), worked.trace_toy("gpt", np.float32)):
        stepper = Stepper(trace, other)
        press(stepper, "f")
        screen = " ".join(press(stepper, "d").split())
        assert "dL/dlayer_norm_5, complete" in screen
        gap = float(re.search(r"largest difference (\S+) at", screen).group(1))
        assert gap < 1e-6
    assert "no second trace" in press(Stepper(trace), "d")


def test_an_exercise_hides_the_rule_until_it_is_answered(stepper):
    press(stepper, "g8\n")
    assert "g * (1 - y * y)" in press(stepper, "")
    screen = press(stepper, "e")
    assert "dL/dh * (1 - h * h)" in screen and "dL/da = g * (1 - y * y)" not in screen
    right = stepper.question.answer
    wrong = next(k for k in "1234" if k != right)
    assert "not right" in press(stepper, wrong) and "(score 0 of 1)" in press(stepper, "")
    assert "right: it is" in press(stepper, right)
    assert "g * (1 - y * y)" in press(stepper, "")


def test_a_typed_answer(stepper):
    press(stepper, "g8\nee")
    assert stepper.question.kind == "value"
    assert "right:" in press(stepper, f"={stepper.question.answer}\n")
    press(stepper, "ee")
    assert stepper.question.kind == "rule"
    assert "not evaluated: .system is not on the list" in " ".join(press(stepper, "=os.system('x')\n").split())
    assert "exact" in press(stepper, "=g * (1 - y**2)\n")


def test_hunting_a_bug_with_checks():
    stepper = Stepper(worked.trace_deck("matmul"), quiz=Quiz(1))
    press(stepper, "E")
    for _ in stepper.folds.items:
        if "WRONG" in press(stepper, "C"):
            break
        press(stepper, "n")
    assert "right:" in press(stepper, "=\n")
    assert "not right" in (press(stepper, "E") and press(stepper, f"={len(stepper.folds.items)}\n"))


def test_unknown_keys_and_help(stepper):
    assert "'x' is no key here" in press(stepper, "x")
    assert "find the bug" in press(stepper, "?")
    assert "step 1/16" in press(stepper, "x")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width):
    stepper = Stepper(worked.trace_toy("llama"), quiz=Quiz(0))
    stepper.folds.open_all()
    for place in range(0, len(stepper.folds.items), 7):
        stepper.go(place)
        stepper.press("e")
        assert max(map(len, stepper.screen(width))) <= width


def test_a_large_matrix_says_that_it_is_block_means():
    lines = picture(np.ones((64, 256)), "numbers", 80, lambda text, style=None: text)
    assert len(lines) == 17 and "64×256 shown as 16×32 block means" in lines[-1]


def test_numbers_stand_on_their_decimal_points():
    lines = picture(np.array([[1.5, -10.25], [100.0, 0.0]]), "numbers", 80, lambda text, style=None: text)
    assert {line.index(".") for line in lines} == {lines[0].index(".")}


def test_play_prints_a_screen_for_each_key():
    text = play(Stepper(worked.trace_example(), quiz=Quiz(0)), "nsq")
    assert text.count("── ") == 2 and text.count("step ") >= 3


def test_text_of_a_trace_has_every_step():
    trace = worked.trace_example()
    text = trace.text()
    count = int(re.search(r"(\d+) steps", text).group(1))
    assert [f"step {k}/{count}" in text for k in range(1, count + 1)] == [True] * count
