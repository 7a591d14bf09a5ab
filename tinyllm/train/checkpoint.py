"""Checkpoints that survive being interrupted, and that notice being damaged.

    checkpoints/
      last.json  best.json               everything but the arrays: step, generators, cursor, and which files belong
      000500.model.safetensors           weights after step 500
      000500.optimizer.safetensors       the optimizer's arrays after step 500

The array files are written first, each under the name of its step, and flushed to the disk; the checkpoint
exists from the moment `last.json` is renamed into place. Until then the previous `last.json` and the files it
names are untouched, so there is always a whole one. Afterwards files that no JSON names are removed. The JSON
holds the sha256 of the array files and of itself, and loading checks them. Nothing is pickled.

An array file that a checkpoint names is never written to. A second checkpoint of the same step shares it if it holds, bit
for bit, what would be written; if not (a run taken back to an earlier step by another machine may differ in the last bits),
the new file gets another name: 000500.model.2.safetensors.
"""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np

from ..atomic import sweep, sync_directory, write_json
from ..errors import UserError, WorkError
from ..untrusted import inside, read_json
from ..weights import safetensors

FORMAT = {"format": "tinyllm-checkpoint", "version": 1}


class CheckpointError(WorkError):
    """A checkpoint that is missing, damaged, or not one."""


class Checkpoints:
    """The checkpoints in one directory, by name ("last", "best")."""

    def __init__(self, directory):
        self.directory = Path(directory)

    def __contains__(self, name):
        return (self.directory / f"{name}.json").is_file()

    def save(self, name, step, arrays, state):
        """Write checkpoint `name`: `arrays` maps a part ("model") to named arrays, `state` is what JSON can hold.

        Raises WorkError if it cannot be written; the checkpoint of that name is then the old one.
        """
        try:
            if not self.directory.is_dir():
                self.directory.mkdir()
                sync_directory(self.directory.parent)
        except OSError as error:
            raise WorkError(f"cannot write {self.directory}: {error.strerror}") from error
        # A part that another checkpoint has of this very step ("best" is often "last") is shared, not written again.
        there = {entry["file"]: entry for other in self._records() for entry in other["files"].values()}
        files = {}
        for part, tensors in arrays.items():
            names = itertools.chain([f"{step:06}.{part}.safetensors"], (f"{step:06}.{part}.{n}.safetensors" for n in itertools.count(2)))
            file = next(name for name in names if name not in there or _holds(self.directory / name, tensors))
            if file not in there:
                safetensors.save(self.directory / file, tensors)
                there[file] = {"file": file, "sha256": file_digest(self.directory / file)}
            files[part] = there[file]
        record = {**FORMAT, "step": step, "files": files, "state": state}
        write_json(self.directory / f"{name}.json", {**record, "sha256": digest_of(record)})
        self.collect()

    def load(self, name):
        """(step, arrays, state) as they were saved; CheckpointError if anything is missing or has changed."""
        record = self._record(self.directory / f"{name}.json")
        arrays = {}
        for part, entry in record["files"].items():
            path = self.directory / entry["file"]
            try:
                damaged = file_digest(path) != entry["sha256"]
            except (OSError, ValueError) as error:
                raise CheckpointError(f"checkpoint {name} in {self.directory} needs {path.name}: {getattr(error, 'strerror', error)}") from error
            if damaged:
                raise CheckpointError(f"{path} is not what was written: its sha256 differs from the one in {name}.json; "
                                      "the disk or somebody has changed it")
            arrays[part] = safetensors.load(path)
        return record["step"], arrays, record["state"]

    def _record(self, path):
        """The JSON of one checkpoint, checked."""
        if not path.is_file():
            raise CheckpointError(f"no checkpoint {path.stem!r} in {path.parent}: there is no file {path.name}")
        record = read_json(inside(self.directory, path.name, CheckpointError), CheckpointError)
        if not isinstance(record, dict) or {key: record.get(key) for key in FORMAT} != FORMAT:
            raise CheckpointError(f"{path} is not a checkpoint of version {FORMAT['version']}")
        if record.pop("sha256", None) != digest_of(record):
            raise CheckpointError(f"{path} is not what was written: its checksum does not fit")
        if not (type(record.get("step")) is int and isinstance(record.get("state"), dict) and isinstance(record.get("files"), dict)
                and all(isinstance(entry, dict) and isinstance(entry.get("file"), str) and isinstance(entry.get("sha256"), str)
                        for entry in record["files"].values())):
            raise CheckpointError(f"{path}: expected a step, a state, and files with their sha256")
        for entry in record["files"].values():
            inside(self.directory, entry["file"], CheckpointError)
        return record

    def _records(self):
        """All checkpoints that can be read; a damaged one is nobody's business until it is asked for."""
        for path in sorted(self.directory.glob("*.json")):
            try:
                yield self._record(path)
            except CheckpointError:
                continue

    def collect(self):
        """Remove what was left half written, and array files that no checkpoint names; none of these, if a checkpoint cannot be read."""
        sweep(self.directory)
        records = list(self._records())
        if len(records) < len(list(self.directory.glob("*.json"))):
            return
        needed = {entry["file"] for record in records for entry in record["files"].values()}
        for path in self.directory.glob("*.safetensors"):
            if path.name not in needed:
                path.unlink()


def pack_optimizer(optimizer):
    """An optimizer's state as (named arrays, what JSON can hold)."""
    state = optimizer.state_dict()
    arrays = {f"{parameter.name}.{key}": value for parameter, own in zip(optimizer.parameters, state["state"])
              for key, value in own.items() if key != "step"}
    return arrays, {"steps": [own["step"] for own in state["state"]], "groups": state["groups"]}


def unpack_optimizer(optimizer, arrays, numbers):
    """Give an optimizer of the same parameters the state that `pack_optimizer` took."""
    state = [{"step": step, **{key: arrays[f"{parameter.name}.{key}"] for key in optimizer.moments if step}}
             for parameter, step in zip(optimizer.parameters, numbers["steps"])]
    optimizer.load_state_dict({"state": state, "groups": numbers["groups"]})


def file_digest(path):
    """sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _holds(path, tensors):
    """Whether a file has exactly these arrays, bit for bit."""
    try:
        there = safetensors.load(path)
    except (OSError, UserError):
        return False
    return there.keys() == tensors.keys() and all(
        there[name].dtype == array.dtype and there[name].shape == array.shape and np.array_equal(_bytes(there[name]), _bytes(array))
        for name, array in tensors.items())


def _bytes(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def digest_of(record):
    """sha256 of what JSON can hold, in hex."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
