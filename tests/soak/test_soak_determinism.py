"""The table of what is equal to the bit: its first rows, from fresh processes."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("determinism.py")


def test_threads_and_processes_change_no_bit():
    done = subprocess.run([sys.executable, str(SCRIPT), "--quick"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = [[line.strip("| ").split(" | ") for line in table.splitlines()[2:]] for table in done.stdout.split("\n\n")]
    assert len(first) == 3 and all(row[1:] == ["to the bit", "to the bit"] for row in first)
    assert second and all(row[1] == "to the bit" or float(row[1].split()[1]) < 1e-3 for row in second)
