"""Our safetensors files against the reference implementation's."""

import numpy as np
import pytest

from tinyllm.weights import safetensors as ours

reference = pytest.importorskip("safetensors.numpy")

ARRAYS = {"b.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.arange(3, dtype=np.int64), "half": np.ones(5, np.float16),
          "mask": np.array([True, False, True]), "scalar": np.array(2.5), "empty": np.empty((0, 3), np.float32),
          "bytes": np.arange(7, dtype=np.uint8), "small": np.arange(3, dtype=np.int16), "u": np.arange(3, dtype=np.uint32)}


@pytest.mark.parametrize("metadata", [None, {"format": "np"}])
def test_the_bytes_are_the_same(tmp_path, metadata):
    ours.save(tmp_path / "a", ARRAYS, metadata)
    assert (tmp_path / "a").read_bytes() == reference.save(ARRAYS, metadata)


def test_each_reads_the_other(tmp_path):
    ours.save(tmp_path / "a", ARRAYS)
    reference.save_file(ARRAYS, tmp_path / "b")
    for arrays in (reference.load_file(tmp_path / "a"), ours.load(tmp_path / "b")):
        assert arrays.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape and (arrays[name] == array).all()


def test_bfloat16_reads_as_torchs(tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.linspace(-3, 3, 11).to(torch.bfloat16)
    pytest.importorskip("safetensors.torch").save_file({"x": tensor}, tmp_path / "a")
    assert (ours.load(tmp_path / "a")["x"] == tensor.to(torch.float32).numpy()).all()
