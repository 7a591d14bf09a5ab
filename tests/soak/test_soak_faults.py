"""Faults stop a run with their line, and it goes on: a small edition of faults.py, and what a full or closed directory says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinyllm.cli import main

SCRIPT = Path(__file__).with_name("faults.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_each_fault_stops_the_run_with_its_line_and_the_end_is_the_same():
    done = subprocess.run([sys.executable, str(SCRIPT), "--steps", "80"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 faults" in done.stdout and "1 × disk full" in done.stdout and "1 × weight" in done.stdout


@pytest.fixture
def read_only(tmp_path):
    """A function that makes a directory read-only, for the system's administrator too."""
    mounted, closed = [], []

    def close(directory):
        if os.geteuid():
            directory.chmod(0o555)
            closed.append(directory)
            return
        for words in (["mount", "--bind", directory, directory], ["mount", "-o", "remount,ro,bind", directory]):
            if subprocess.run([*map(str, words)], capture_output=True).returncode:
                pytest.skip("an administrator who may not mount cannot have a read-only directory")
            mounted[:] = [directory]
    yield close
    for directory in mounted:
        subprocess.run(["umount", str(directory)], check=True)
    for directory in closed:
        directory.chmod(0o755)


def test_a_read_only_directory_is_told_in_one_line_and_still_read(tmp_path, read_only, capsys):
    (tmp_path / "text.txt").write_text("".join(f"{i} green bottles, hanging on the wall; " for i in range(99, 0, -1)))
    runs = tmp_path / "runs"
    words = ["train", str(tmp_path / "text.txt"), *"--layers 1 --heads 1 --width 8 --block 8 --batch 2 --steps 2 --sample 0 --seed 0".split()]
    assert main([*words, "--out", str(runs / "a")]) == 0
    read_only(runs)
    capsys.readouterr()
    if os.geteuid():
        (runs / "a").chmod(0o555)
    for failing, place in (([*words, "--out", str(runs / "b")], f"cannot make {runs / 'b'}"), (["train", "--resume", str(runs / "a")], f"cannot write {runs / 'a' / 'lock'}")):
        assert main(failing) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"tinyllm: {place}: ") and said.count("\n") == 1
    if os.geteuid():
        (runs / "a").chmod(0o755)
    assert main(["sample", str(runs / "a"), "--prompt", "9", "--tokens", "5", "--seed", "0"]) == 0
