"""Faults stop a run with their line, and it goes on: a small edition of faults.py, and what a full or closed directory says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("faults.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_each_fault_stops_the_run_with_its_line_and_the_end_is_the_same():
    done = subprocess.run([sys.executable, str(SCRIPT), "--steps", "80"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 faults" in done.stdout and "1 × disk full" in done.stdout and "1 × weight" in done.stdout
