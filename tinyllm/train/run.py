"""A run directory: everything one training run leaves behind.

    runs/tales/
      config.json       model, training settings, data and seed: what the run is a function of
      tokenizer.json    text to ids
      checkpoints/      last.json, best.json and their arrays (see checkpoint.py)
      metrics.jsonl     one line a step (see metrics.py)
      report.html       the curves
      lock              while a process is at work
"""

import json
from pathlib import Path

from ..atomic import sweep, write_json
from ..errors import UserError, WorkError
from .checkpoint import Checkpoints
from .lock import RunLock
from .metrics import MetricsLog

FORMAT = {"format": "tinyllm-run", "version": 1}
LARGEST_CONFIG = 16 << 20


class RunDirectory:
    """The files of one run, by name. `create` makes a new directory, `open` finds an old one."""

    def __init__(self, path):
        self.path = Path(path)
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.tokenizer_path = self.path / "tokenizer.json"
        self.metrics_path = self.path / "metrics.jsonl"
        self.config = None
        self.metrics = None

    @classmethod
    def create(cls, path):
        """A new, empty run directory; UserError if there is something of that name already."""
        run = cls(path)
        try:
            run.path.mkdir(parents=True)
        except FileExistsError:
            raise UserError(f"{path} exists: choose another --out, or go on with it: tinyllm train --resume {path}") from None
        except OSError as error:
            raise WorkError(f"cannot make {path}: {error.strerror}") from error
        return run

    @classmethod
    def open(cls, path):
        """An existing run directory, its `config` read; UserError if it is not one."""
        run = cls(path)
        file = run.path / "config.json"
        if not file.is_file():
            what = "does not exist" if not run.path.exists() else "has no config.json"
            raise UserError(f"{path} is not a run directory: it {what}; `tinyllm train` makes them, under runs/")
        try:
            if file.stat().st_size > LARGEST_CONFIG:
                raise UserError(f"{file} is larger than {LARGEST_CONFIG >> 20} MB: not the config of a run")
            config = json.loads(file.read_bytes())
        except OSError as error:
            raise WorkError(f"cannot read {file}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{file} is not JSON: {error}") from None
        if not isinstance(config, dict) or {key: config.get(key) for key in FORMAT} != FORMAT:
            raise UserError(f"{file} is not the config of a run of version {FORMAT['version']}")
        run.config = config
        return run

    def write_config(self, **config):
        """Write config.json."""
        self.config = {**FORMAT, **config}
        write_json(self.path / "config.json", self.config)

    def lock(self):
        """A context manager: nobody else writes here meanwhile. Sweeps away what a killed process left half written."""
        return _Locked(self)

    def open_metrics(self, keep=0):
        """Start metrics.jsonl, or go on with its first `keep` bytes."""
        self.metrics = MetricsLog(self.metrics_path, keep)

    def close(self):
        """Close what is open."""
        if self.metrics is not None:
            self.metrics.close()


class _Locked(RunLock):
    def __init__(self, run):
        super().__init__(run.path)
        self.run = run

    def __enter__(self):
        super().__enter__()
        sweep(self.run.path)
        return self.run

    def __exit__(self, *exception):
        self.run.close()
        super().__exit__(*exception)
