"""Killed runs end as if nothing had happened: a small edition of kill.py, in a process of its own because it forks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_killed_runs_end_bit_identical():
    done = subprocess.run([sys.executable, str(SCRIPT), "--runs", "4", "--every", "40", "--seed", "1"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "random moments: 4 of 4 runs" in done.stdout
