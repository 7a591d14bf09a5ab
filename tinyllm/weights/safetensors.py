"""Reading and writing safetensors, the file format that named arrays are exchanged in.

    8 bytes   N, the length of the header (little-endian)
    N bytes   JSON: {name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [start, end]}, …}, and maybe
              "__metadata__": {string: string}; padded with spaces
    the rest  the arrays, row by row, little-endian, without gaps; offsets count from here

There is nothing in it that runs, which is why it is the format for files from strangers. Still a file can lie,
so everything is checked before an array is handed out: the header's length and form, names given twice, that
the ranges lie inside the file, follow one another without gap or overlap, and are as long as shape and dtype say.

    save("model.safetensors", {"weight": array}, metadata={"format": "np"})
    with SafetensorsFile("model.safetensors") as file: file["weight"]

The file is mapped, not read: an array costs memory when it is touched. bfloat16, which NumPy lacks, comes out as
float32 (exactly); 8-bit and smaller floats are not read.
"""

import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..atomic import replacing
from ..errors import UserError
from ..untrusted import open_file, parse_json, shown

# In the order in which the reference implementation sorts: larger alignment first when written.
DTYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2", "F16": "<f2", "BF16": "<u2",
          "I32": "<i4", "U32": "<u4", "F32": "<f4", "F64": "<f8", "I64": "<i8", "U64": "<u8"}
_RANK = {name: rank for rank, name in enumerate(DTYPES)}
_NAMES = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}
LONGEST_HEADER = 100_000_000    # the reference implementation's limit


class SafetensorsError(UserError):
    """A file that is not what the format demands; the message names the file and the tensor."""


class SafetensorsFile(Mapping):
    """The arrays of a file by name, read-only, in the order of their data; `.metadata` is a dict of strings.

    Raises SafetensorsError if anything about the file is wrong, FileNotFoundError (OSError) if it cannot be opened.
    """

    def __init__(self, path):
        self.path = Path(path)
        with open_file(self.path, SafetensorsError) as file:
            size = file.seek(0, 2)
            if size < 8:
                raise self._wrong(f"{size} bytes; the length of the header alone takes 8")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length = int.from_bytes(self._map[:8], "little")
        if length > min(LONGEST_HEADER, size - 8):
            raise self._wrong(f"it claims a header of {length} bytes; the file has {size - 8} after the length, and "
                              f"{LONGEST_HEADER} are allowed: a file cut short, or not safetensors")
        self._data = 8 + length
        header = self._header(self._map[8:self._data])
        self.metadata = self._metadata(header.pop("__metadata__", {}))
        self._tensors = self._layout(header, size - self._data)

    def _wrong(self, text, name=None):
        tensor = "" if name is None else f"tensor {shown(name)}: "
        return SafetensorsError(f"{self.path} is not a valid safetensors file: {tensor}{text}")

    def _header(self, data):
        if not data.startswith(b"{"):
            raise self._wrong("its header does not begin with {")
        return parse_json(data, f"{self.path} is not a valid safetensors file: its header", SafetensorsError)

    def _metadata(self, metadata):
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise self._wrong("__metadata__ is not a map from strings to strings")
        return metadata

    def _layout(self, header, size):
        """{name: (dtype name, shape, start, end)} in the order of the data, or the error that says what is wrong."""
        tensors = {name: self._entry(name, entry) for name, entry in header.items()}
        tensors = dict(sorted(tensors.items(), key=lambda item: item[1][2:]))
        position, before = 0, None
        for name, (_, _, start, end) in tensors.items():
            if start != position:
                what = "overlaps with" if start < position else "leaves a gap after"
                raise self._wrong(f"its data at {start} to {end} {what} "
                                  f"{'the header' if before is None else repr(before)}, which ends at {position}", name)
            position, before = end, name
        if position != size:
            raise self._wrong(f"the tensors take {position} bytes of data, the file has {size}: "
                              f"{'cut short' if position > size else 'bytes that belong to no tensor'}")
        return tensors

    def _entry(self, name, entry):
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise self._wrong("an entry has exactly dtype, shape and data_offsets", name)
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise self._wrong(f"dtype {shown(dtype)}; read here are {', '.join(DTYPES)}", name)
        if not _whole_numbers(shape) or len(shape) > 32 or math.prod(filter(None, shape)) >= 1 << 59:
            raise self._wrong(f"shape {shown(shape)}; expected at most 32 whole numbers, none negative, of a product below 2^59", name)
        if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
            raise self._wrong(f"data_offsets {shown(offsets)}; expected [start, end] with 0 <= start <= end", name)
        start, end = offsets
        expected = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        if end - start != expected:
            raise self._wrong(f"{dtype} {tuple(shape)} takes {expected} bytes, data_offsets [{start}, {end}] are {end - start}", name)
        return dtype, tuple(shape), start, end

    def __iter__(self):
        return iter(self._tensors)

    def __len__(self):
        return len(self._tensors)

    def __getitem__(self, name):
        dtype, shape, start, _ = self._tensors[name]
        array = np.frombuffer(self._map, DTYPES[dtype], math.prod(shape), self._data + start).reshape(shape)
        if dtype == "BF16":
            wide = np.left_shift(array, 16, dtype=np.uint32)        # the upper half of a float32
            return wide.view(np.float32)
        if dtype == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
            raise self._wrong("a BOOL byte is neither 0 nor 1", name)
        return array if array.flags.aligned else array.copy()

    def shape(self, name):
        """Shape of a tensor, without touching its data."""
        return self._tensors[name][1]

    def dtype(self, name):
        """The format's name of a tensor's dtype, such as "F32" or "BF16"."""
        return self._tensors[name][0]

    def forget(self):
        """Let the system take back the memory of what has been read; it is read again when it is touched again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def close(self):
        """Let go of the file; arrays taken from it stay valid and keep the mapping alive."""
        try:
            self._map.close()
        except BufferError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def load(path):
    """All arrays of a file as a dict, read-only views of the mapped file.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/two.safetensors"
    >>> save(path, {"weight": np.eye(2, dtype=np.float32), "step": np.array(7)})
    >>> {name: array.shape for name, array in load(path).items()}
    {'step': (), 'weight': (2, 2)}
    """
    return dict(SafetensorsFile(path))


def save(path, tensors, metadata=None):
    """Write named arrays to a file, whole or not at all; `metadata` maps strings to strings.

    Raises SafetensorsError for a dtype the format lacks, WorkError if the file cannot be written. The bytes are
    those that the reference implementation writes for the same arrays.
    """
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in _NAMES:
            raise SafetensorsError(f"tensor {name!r} of dtype {array.dtype}: safetensors holds {', '.join(DTYPES)}")
    dtype_of = {name: _NAMES[array.dtype.newbyteorder("<")] for name, array in arrays.items()}
    order = sorted(arrays, key=lambda name: (-_RANK[dtype_of[name]], name))
    header = {} if metadata is None else {"__metadata__": dict(metadata)}
    position = 0
    for name in order:
        start, position = position, position + arrays[name].nbytes
        header[name] = {"dtype": dtype_of[name], "shape": list(arrays[name].shape), "data_offsets": [start, position]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            little = arrays[name].astype(DTYPES[dtype_of[name]], copy=False)
            file.write(np.ascontiguousarray(little).data if little.size else b"")


def _whole_numbers(values):
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)
