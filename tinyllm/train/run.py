"""A run directory: everything one training run leaves behind.

    runs/tales/
      config.json       model, training settings, data and seed: what the run is a function of
      tokenizer.json    text to ids
      checkpoints/      last.json, best.json and their arrays (see checkpoint.py)
      metrics.jsonl     one line a step (see metrics.py)
      report.html       the curves
      lock              while a process is at work

config.json is written last, when all that a run begins with is there: from then on the run can be resumed. A start that was
interrupted before has left a file named `starting`; it is cleared away when the same directory is asked for again.
"""

import contextlib
import json
import shutil
from pathlib import Path

from ..atomic import sweep, sync_directory, write_bytes, write_json
from ..errors import UserError, WorkError
from ..untrusted import checked_fields, inside, read_json
from .checkpoint import Checkpoints, digest_of
from .lock import RunLock
from .metrics import MetricsLog

FORMAT = {"format": "tinyllm-run", "version": 1}
FILES = ("config.json", "tokenizer.json", "metrics.jsonl", "checkpoints", "pairs.jsonl")      # that may not be links to somewhere else
LARGEST_CONFIG = 16 << 20
STARTING = "starting"


class RunDirectory:
    """The files of one run, by name. `create` makes a new directory and locks it, `open` finds an old one."""

    def __init__(self, path):
        self.path = Path(path)
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.tokenizer_path = self.path / "tokenizer.json"
        self.metrics_path = self.path / "metrics.jsonl"
        self.config = None
        self.metrics = None

    @classmethod
    @contextlib.contextmanager
    def create(cls, path):
        """A new run directory, locked while the `with` block lasts; UserError if there is something of that name already.

        It becomes a run by `write_config`. What an earlier start left that did not get so far is removed.
        """
        run = cls(path)
        run.refuse_taken()
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            sync_directory(run.path.parent)
        except OSError as error:
            raise WorkError(f"cannot make {path}: {error.strerror}") from error
        with run.lock():
            run.refuse_taken()      # again, now that nobody else is at it
            run._clear()
            write_bytes(run.path / STARTING, b"")
            yield run

    def refuse_taken(self):
        """UserError if a new run cannot be made here, because something is here."""
        if self.path.exists() and not (self.path.is_dir() and self._only_started()):
            raise UserError(f"{self.path} exists: choose another --out, or go on with it by --resume {self.path}")

    def _only_started(self):
        names = {file.name for file in self.path.iterdir() if not file.name.endswith(".partial")}
        return "config.json" not in names and (STARTING in names or names <= {"lock"})

    def _clear(self):
        for file in self.path.iterdir():
            if file.name != "lock":
                shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()

    @classmethod
    def open(cls, path):
        """An existing run directory, its `config` read; UserError if it is not one."""
        run = cls(path)
        file = run.path / "config.json"
        if not file.is_file():
            what = ("does not exist" if not run.path.exists() else "has no config.json" if not (run.path / STARTING).exists() else
                    "was interrupted before it began (start it again)")
            raise UserError(f"{path} is not a run directory: it {what}; `tinyllm train` makes them, under runs/")
        for name in FILES:
            inside(run.path, name, UserError)
        config = read_json(file, UserError, LARGEST_CONFIG)
        if not isinstance(config, dict) or {key: config.get(key) for key in FORMAT} != FORMAT:
            raise UserError(f"{file} is not the config of a run of version {FORMAT['version']}")
        if config.pop("sha256", None) != digest_of(config):
            raise UserError(f"{file} is not what was written: its checksum does not fit; put back what was there, or start a new run")
        run.config = config
        return run

    def settings(self, name, kind):
        """What config.json says under `name`, as `kind`, a dataclass; UserError if it is not whole, or of other types."""
        return kind(**checked_fields(kind, self.config.get(name), f"{self.path / 'config.json'}, {name}", UserError))

    @contextlib.contextmanager
    def understood(self):
        """Around what is made of a run's files: where they do not go together, that is a UserError that names the run."""
        try:
            yield
        except (UserError, WorkError):
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
            raise UserError(f"{self.path}: its files do not go together: {type(error).__name__}: {error}") from error

    def write_config(self, **config):
        """Write config.json: the directory is a run from now on."""
        self.config = {**FORMAT, **config}
        record = json.loads(json.dumps(self.config))        # tuples become lists, as they will be when it is read
        write_json(self.path / "config.json", {**record, "sha256": digest_of(record)})
        (self.path / STARTING).unlink(missing_ok=True)

    def lock(self):
        """A context manager: nobody else writes here meanwhile. Sweeps away what a killed process left."""
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
        self.run.checkpoints.collect()
        if (self.run.path / "config.json").exists():
            (self.run.path / STARTING).unlink(missing_ok=True)
        return self.run

    def __exit__(self, *exception):
        try:
            self.run.close()
        finally:
            super().__exit__(*exception)
