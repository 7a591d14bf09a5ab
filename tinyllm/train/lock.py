"""One process at a time writes to a run directory.

The file `lock` names the process. The lock itself is the operating system's (`flock`), which lets go when the
process ends, however it ends: a file left behind by a killed run is stale, is seen to be, and is taken over.
Where the system has no `flock`, nothing is locked.
"""

import os
from pathlib import Path

from ..errors import WorkError

try:
    import fcntl
except ImportError:
    fcntl = None


class RunLock:
    """`with RunLock(directory): ...`; WorkError if another process is at work there."""

    def __init__(self, directory):
        self.path = Path(directory) / "lock"

    def __enter__(self):
        try:
            while True:
                self._file = open(self.path, "a+")
                if fcntl is None:
                    break
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self.path.exists() and os.fstat(self._file.fileno()).st_ino == self.path.stat().st_ino:
                    break
                self._file.close()      # its owner removed the file between our two calls: once more
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read(20).strip() or "unknown"
            self._file.close()
            raise WorkError(f"{self.path.parent} is in use by process {owner}: wait for it, stop it, or choose another "
                            "directory with --out") from None
        except OSError as error:
            raise WorkError(f"cannot write {self.path}: {error.strerror or error}") from error
        try:
            os.ftruncate(self._file.fileno(), 0)
            os.write(self._file.fileno(), f"{os.getpid()}\n".encode())
        except OSError as error:
            self.__exit__()
            raise WorkError(f"cannot write {self.path}: {error.strerror}") from error
        return self

    def __exit__(self, *exception):
        self.path.unlink(missing_ok=True)
        self._file.close()
