"""`metrics.jsonl`: what a run measured, one JSON object a line, in the order of the steps.

Every line has `step`; a training step's line has `loss`, `lr` and `grad_norm`, an evaluation's has `val_loss`.
`seconds` and `tokens_per_second` are the clock's and differ from run to run; everything else is a function of
the settings and the seed. A resumed run cuts the file back to where its checkpoint was made and goes on.
"""

import json
import os
from pathlib import Path

from ..atomic import sync_directory
from ..errors import WorkError
from ..untrusted import parse_json, read_bytes

LARGEST = 1 << 30


class MetricsLog:
    """A log that can be cut back: `MetricsLog(path, keep=bytes)` drops everything after the first `keep` bytes."""

    def __init__(self, path, keep=0):
        self.path = Path(path)
        try:
            self._file = open(self.path, "ab")
            if self._file.tell() < keep:
                raise WorkError(f"{self.path} has {self._file.tell()} bytes, {keep} were there when the checkpoint was "
                                "made: somebody has cut it; put it back, or start a new run")
            self._file.truncate(keep)
            self._file.seek(keep)
            sync_directory(self.path.parent)
        except OSError as error:
            raise WorkError(f"cannot write {self.path}: {error.strerror or error}") from error

    def write(self, **record):
        """Append one record; numbers keep every bit."""
        self._do(lambda: self._file.write((json.dumps(record) + "\n").encode()))

    def sync(self):
        """Flush to the disk; returns the length of the file in bytes."""
        self._do(self._file.flush)
        self._do(lambda: os.fsync(self._file.fileno()))
        return self._file.tell()

    def close(self):
        """Flush and close; may be called twice."""
        self._do(self._file.close)

    def _do(self, action):
        try:
            action()
        except OSError as error:
            raise WorkError(f"cannot write {self.path}: {error.strerror or error}") from error


def read_metrics(path):
    """The records of a `metrics.jsonl` as a list of dicts; a last line that a killed process left half is dropped.

    Raises WorkError for a file that is damaged otherwise, or larger than a gigabyte.
    """
    lines = read_bytes(path, WorkError, LARGEST).split(b"\n")
    records = [parse_json(line, f"{path}, line {number}", WorkError) for number, line in enumerate(lines[:-1], 1) if line]
    if not all(isinstance(record, dict) and type(record.get("step")) is int for record in records):
        raise WorkError(f"{path} is not what was written: every line is an object with a step")
    return records
