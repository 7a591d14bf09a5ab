"""Freed memory is used again without asking the operating system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COUNT = """
import resource, sys
import numpy as np
from tinyllm.engine.memory import keep_freed_memory

def faults():
    for _ in range(3):
        arrays = [np.ones(1 << 19, np.float32) for _ in range(20)]      # 2 MB each
        del arrays
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        arrays = [np.ones(1 << 19, np.float32) for _ in range(20)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_freed_memory()
print(int(kept), faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_arrays_made_again_cause_no_page_faults():
    """Ten rounds of 40 MB are 102,400 pages of 4 kB."""
    result = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True, cwd=ROOT,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})
    kept, faults = map(int, result.stdout.split())
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert faults < 100
