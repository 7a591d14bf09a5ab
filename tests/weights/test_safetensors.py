"""safetensors: what is written comes back, what lies is refused, with the file and the tensor named."""

import json

import numpy as np
import pytest

from tinyllm.errors import WorkError
from tinyllm.weights.safetensors import DTYPES, SafetensorsError, SafetensorsFile, load, save


def write(path, header, data=b"", length=None):
    """A file of this header (text or a value) and these bytes of data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize("code", sorted(set(DTYPES.values())))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3)])
def test_every_dtype_and_shape_comes_back(tmp_path, code, shape):
    array = np.arange(np.prod(shape), dtype=np.int64).reshape(shape).astype(code)
    save(tmp_path / "a", {"x": array, "other": np.ones(3, np.int8)})
    back = load(tmp_path / "a")["x"]
    assert back.dtype == array.dtype and back.shape == shape and (back == array).all()


def test_the_layout_is_the_published_one(tmp_path):
    save(tmp_path / "a", {"x": np.array([1.0, 2.0], np.float32)}, {"format": "np"})
    data = (tmp_path / "a").read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    assert json.loads(data[8:8 + length]) == {"__metadata__": {"format": "np"}, "x": entry()}
    assert data[8 + length:] == b"\0\0\x80\x3f\0\0\0\x40"       # IEEE 754: 1 is 0x3f800000, 2 is 0x40000000


def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path):
    header = {"x": entry("BF16", (3,), (0, 6))}
    file = write(tmp_path / "a", header, bytes.fromhex("803f 49c0 80ff".replace(" ", "")))
    assert load(file)["x"].tolist() == [1.0, -3.140625, -np.inf]


def test_columns_and_foreign_byte_order_are_written_row_by_row_little_endian(tmp_path):
    array = np.arange(6, dtype=">f8").reshape(2, 3).T
    save(tmp_path / "a", {"x": array})
    assert load(tmp_path / "a")["x"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_data_that_does_not_lie_on_its_dtypes_boundary_is_copied(tmp_path):
    header = {"a": entry("U8", (1,), (0, 1)), "b": entry("F64", (1,), (1, 9))}
    arrays = load(write(tmp_path / "a", header, b"\1" + np.float64(2.5).tobytes()))
    assert arrays["b"].tolist() == [2.5] and arrays["b"].flags.aligned


def test_arrays_are_read_only_views_that_outlive_the_file(tmp_path):
    save(tmp_path / "a", {"x": np.ones(4, np.float32)})
    with SafetensorsFile(tmp_path / "a") as file:
        array = file["x"]
    assert array.tolist() == [1] * 4 and not array.flags.writeable
    (tmp_path / "a").unlink()
    assert array.tolist() == [1] * 4


def test_shape_and_dtype_without_the_data(tmp_path):
    save(tmp_path / "a", {"x": np.ones((2, 3), np.float16)}, {"note": "é"})
    with SafetensorsFile(tmp_path / "a") as file:
        assert (file.shape("x"), file.dtype("x"), file.metadata, list(file)) == ((2, 3), "F16", {"note": "é"}, ["x"])


EIGHT = b"\0" * 8
BROKEN = {
    "claims a header of": ({}, 1 << 40),
    "claims a header": ({}, (1 << 64) - 1),
    "does not begin with {": (b"[]", None),
    "header is not JSON": (b"{]", None),
    "JSON": (b'{"a":"\xff"}', None),
    "nested|recursion|JSON": (b'{"a":' * 100_000, None),
    "'x' is given twice": (b'{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', None),
    "__metadata__": ({"__metadata__": {"a": 1}}, None),
    "tensor 'x': an entry has exactly": ({"x": {"dtype": "F32", "shape": [2]}}, None),
    "an entry has": ({"x": 3}, None),
    "dtype 'F33'": ({"x": entry("F33")}, None),
    "dtype \\['F32'\\]": ({"x": entry(["F32"])}, None),
    "shape \\[-2\\]": ({"x": entry(shape=(-2,))}, None),
    "shape \\[2.0\\]": ({"x": entry(shape=(2.0,))}, None),
    "shape \\[True": ({"x": entry(shape=(True, 2))}, None),
    "data_offsets \\[8, 0\\]": ({"x": entry(offsets=(8, 0))}, None),
    "data_offsets \\[0\\]": ({"x": entry(offsets=(0,))}, None),
    "takes 12 bytes": ({"x": entry(shape=(3,))}, None),
    "of a product below": ({"x": entry(shape=(1 << 62, 1 << 62, 0), offsets=(0, 0))}, None),
    "tensor 'y': .* overlaps with 'x'": ({"x": entry(), "y": entry(offsets=(4, 12))}, None),
    "tensor 'x': .* gap after the header": ({"x": entry(offsets=(4, 12))}, None),
    "cut short": ({"x": entry(shape=(4,), offsets=(0, 16))}, None),
    "belong to no tensor": ({"x": entry(shape=(1,), offsets=(0, 4))}, None),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_file_that_lies_is_refused(tmp_path, message):
    header, length = BROKEN[message]
    path = write(tmp_path / "bad.safetensors", header, EIGHT, length)
    with pytest.raises(SafetensorsError, match=message) as error:
        SafetensorsFile(path)
    assert "bad.safetensors" in str(error.value)


def test_a_file_too_short_for_a_length(tmp_path):
    (tmp_path / "a").write_bytes(b"\1\2\3")
    with pytest.raises(SafetensorsError, match="3 bytes; the length of the header alone takes 8"):
        load(tmp_path / "a")


def test_a_bool_is_zero_or_one(tmp_path):
    path = write(tmp_path / "a", {"x": entry("BOOL", (2,), (0, 2))}, b"\1\2")
    with pytest.raises(SafetensorsError, match="tensor 'x': a BOOL"):
        load(path)


def test_every_shorter_file_is_refused(tmp_path):
    save(tmp_path / "a", {"x": np.ones(3, np.float32), "y": np.ones((2, 2), np.int64)})
    data = (tmp_path / "a").read_bytes()
    for length in range(len(data)):
        (tmp_path / "b").write_bytes(data[:length])
        with pytest.raises(SafetensorsError):
            load(tmp_path / "b")


def test_a_dtype_the_format_lacks(tmp_path):
    with pytest.raises(SafetensorsError, match="'x' of dtype complex128"):
        save(tmp_path / "a", {"x": np.ones(2, complex)})
    assert not (tmp_path / "a").exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    save(tmp_path / "a", {"x": np.ones(2)})
    before = (tmp_path / "a").read_bytes()

    class Sudden(Exception):
        pass

    from tinyllm.atomic import replacing
    with pytest.raises(Sudden):
        with replacing(tmp_path / "a") as file:
            file.write(b"half")
            raise Sudden
    assert (tmp_path / "a").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(WorkError, match="cannot write .*nowhere"):
        save(tmp_path / "nowhere" / "a", {"x": np.ones(2)})
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "a")
