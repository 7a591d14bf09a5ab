"""Freed memory is used again without asking the operating system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COUNT = """
import resource, sys, threading
import numpy as np
from tinyllm.engine.memory import keep_freed_memory

size, count, workers = map(int, sys.argv[1:])
barrier = threading.Barrier(workers)

def work():
    for _ in range(5):
        arrays = [np.ones(size, np.float32) for _ in range(count)]
        barrier.wait()      # all have theirs at once
        del arrays
        barrier.wait()

def round():
    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

kept = keep_freed_memory()
for _ in range(3):
    round()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
round()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
@pytest.mark.parametrize("size, count", [(1 << 19, 20), (1 << 24, 2)])      # 2 MB each, and 64 MB: more than glibc ever keeps by itself
@pytest.mark.parametrize("workers", [1, 2])
def test_arrays_made_again_cause_no_page_faults(size, count, workers):
    """Five rounds of 40 MB or more are over 50,000 pages of 4 kB."""
    result = subprocess.run([sys.executable, "-c", COUNT, str(size), str(count), str(workers)], capture_output=True, text=True, check=True,
                            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    kept, faults = map(int, result.stdout.split())
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert faults < 100
