"""The table of what is equal to the bit: its first rows, from fresh processes."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("determinism.py")


def test_threads_and_processes_change_no_bit():
    done = subprocess.run([sys.executable, str(SCRIPT), "--quick"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    table = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    bits = [row for row in table if row[1] in ("two processes", "1 and 2 threads")]
    assert len(bits) == 6 and all(row[2] == "to the bit" for row in bits)
    assert all(row[2] == "to the bit" or float(row[2].split()[1]) < 1e-3 for row in table)
