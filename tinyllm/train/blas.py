"""How many threads NumPy's BLAS uses.

The products in a small model are over in microseconds. Split over several threads each of them is a little
faster on an idle machine, and many times slower on a busy one, because the threads of OpenBLAS wait for each
other by spinning. One thread is never far from the best, and it gives the same bits everywhere.
"""

import ctypes
import os
from pathlib import Path

import numpy as np

from ..ops import gemm


def use_one_thread():
    """Make OpenBLAS use one thread from now on, unless the environment variable OPENBLAS_NUM_THREADS says how many.

    Works on the OpenBLAS inside NumPy's own wheels; on another BLAS it does nothing. Returns whether it did.
    """
    if "OPENBLAS_NUM_THREADS" in os.environ:
        return False
    package = Path(np.__file__).parent
    for library in (*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")):
        loaded = ctypes.CDLL(str(library))      # the copy that NumPy has loaded
        for name in ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads64_",
                     "openblas_set_num_threads"):
            if hasattr(loaded, name):
                getattr(loaded, name)(1)
                gemm.blas_threads = 1       # now the package's own kernel is the faster one
                return True
    return False
