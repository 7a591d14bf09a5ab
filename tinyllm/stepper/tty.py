"""The stepper in a real terminal: raw keys in, screens out, and everything put back as it was on leaving."""

import os
import select
import shutil
import sys

from .terminal import play


def run(stepper):
    """Step in this terminal until q; without a terminal, print every screen of the folded list."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print(play(stepper, "n" * (len(stepper.folds.items) - 1), width=100), end="")
        return
    with _Raw():
        while not stepper.done:
            _paint(stepper)
            stepper.press(_read_key())


def _paint(stepper):
    size = shutil.get_terminal_size()
    lines = stepper.screen(size.columns - 1, color="NO_COLOR" not in os.environ)
    room = size.lines - 2
    stepper.scroll = max(0, min(stepper.scroll, len(lines) - room))
    if len(lines) > room:
        end = lines[-1:] if stepper.prompt or stepper.message else []
        lines = lines[stepper.scroll:stepper.scroll + room - len(end)] + end
    footer = "n next  p back  arrows select  s into  o out  c check  e exercise  v view  ? help  q quit"[:size.columns - 1]
    sys.stdout.write("\x1b[H\x1b[2J" + "\r\n".join([*lines, *[""] * (room - len(lines) + 1), footer]))
    sys.stdout.flush()


class _Raw:
    """The terminal in raw mode on its second screen; put back on leaving, whatever happens."""

    def __enter__(self):
        import termios
        import tty
        self.termios, self.before = termios, termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        sys.stdout.write("\x1b[?1049h\x1b[?25l")

    def __exit__(self, *exception):
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
        self.termios.tcsetattr(sys.stdin, self.termios.TCSADRAIN, self.before)


_SEQUENCES = {"[A": "up", "[B": "down", "[C": "right", "[D": "left", "[5~": "pageup", "[6~": "pagedown", "OA": "up", "OB": "down", "OC": "right", "OD": "left"}


def _read_key():
    """One key from the terminal, escape sequences by name."""
    fd = sys.stdin.fileno()
    first = os.read(fd, 1)
    if not first:
        return "q"
    if first == b"\x1b":
        rest = b""
        while select.select([fd], [], [], 0.02)[0] and len(rest) < 4 and not (len(rest) > 1 and rest[-1:] in b"ABCD~"):
            rest += os.read(fd, 1)
        return _SEQUENCES.get(rest.decode(errors="replace"), "escape")
    while first[0] >= 0x80 and len(first) < 4:      # the rest of one UTF-8 character
        try:
            return first.decode()
        except UnicodeDecodeError:
            first += os.read(fd, 1)
    return {"\n": "enter", "\r": "enter", "\x7f": "backspace", "\x08": "backspace", "\x04": "q"}.get(first.decode(errors="replace"), first.decode(errors="replace"))
