"""The command line as a whole: words, exit codes, one-line errors."""

import os
import signal
import subprocess
import sys

import pytest

from tinyllm import cli
from tinyllm.errors import UserError, WorkError

HERE = [name for name in cli.COMMANDS if os.path.exists(os.path.join(os.path.dirname(cli.__file__), f"{name}.py"))]


def fails(capsys, words, code, message):
    """`tinyllm words` exits with `code` and says `message` in one line, without a traceback."""
    assert cli.main(words) == code
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    if not captured.err.startswith("usage:"):
        assert captured.err.count("\n") == 1 and captured.err.startswith("tinyllm: ")
    return captured


def test_help_lists_the_commands_and_imports_none(capsys):
    assert cli.main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in cli.COMMANDS)
    program = ("import sys; from tinyllm.cli import main; main(['--help']); "
               "assert not [m for m in sys.modules if m.startswith('tinyllm.cli.')], sys.modules")
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_every_command_there_is_is_listed():
    directory = os.path.dirname(cli.__file__)
    assert {file[:-3] for file in os.listdir(directory) if file.endswith(".py") and file[0] != "_"} <= set(cli.COMMANDS)


@pytest.mark.parametrize("name", HERE)
def test_help_of_a_command_ends_with_an_example_that_parses(capsys, name):
    assert cli.main([name, "--help"]) == 0
    example = capsys.readouterr().out.rstrip().splitlines()[-1].split()
    assert example[:2] == ["tinyllm", name]
    cli.parser(example[1:])


@pytest.mark.parametrize("words, message", [
    ([], "COMMAND"), (["fly"], "invalid choice: 'fly'"), (["train", "--wings"], "unrecognized arguments: --wings"),
    (["train", "--steps", "many"], "invalid int value: 'many'"), (["sample"], "RUN")])
def test_words_that_mean_nothing(capsys, words, message):
    fails(capsys, words, 2, message)


@pytest.mark.parametrize("error, code, message", [
    (UserError("no\n such thing"), 2, "tinyllm: no such thing\n"), (WorkError("it broke"), 1, "tinyllm: it broke\n"),
    (FileNotFoundError(2, "No such file or directory", "x.txt"), 1, "tinyllm: x.txt: No such file or directory\n"),
    (MemoryError(), 1, "tinyllm: out of memory\n"), (KeyboardInterrupt(), 1, "tinyllm: stopped by Ctrl-C\n"),
    (ZeroDivisionError("oh"), 1, "tinyllm: ZeroDivisionError: oh (unexpected: run again with --debug to see where)\n")])
def test_errors_are_one_line_and_an_exit_code(capsys, monkeypatch, error, code, message):
    from tinyllm.cli import bench

    def run(args):
        raise error
    monkeypatch.setattr(bench, "run", run)
    monkeypatch.delenv("TINYLLM_DEBUG", raising=False)
    assert cli.main(["bench", "engine"]) == code
    assert capsys.readouterr().err == message
    for words in (["--debug", "bench", "engine"], ["bench", "engine", "--debug"]):
        with pytest.raises(type(error)):
            cli.main(words)
    monkeypatch.setenv("TINYLLM_DEBUG", "1")
    with pytest.raises(type(error)):
        cli.main(["bench", "engine"])


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tinyllm ")


def test_a_reader_that_has_seen_enough_is_no_error():
    process = subprocess.Popen([sys.executable, "-m", "tinyllm", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN))
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0


def test_numpys_remarks_on_a_nan_are_not_the_users(capsys, monkeypatch):
    import numpy as np

    import tinyllm.cli.data

    def broken(args):
        np.log(np.array([-1.0]))
        raise WorkError("a NaN, named")
    monkeypatch.setattr(tinyllm.cli.data, "run", broken)
    with pytest.warns() as caught:
        fails(capsys, ["data", "list"], 1, "a NaN, named")
        np.log(np.array([-1.0]))        # pytest.warns wants one: outside of the command line it is said as ever
    assert len(caught) == 1
