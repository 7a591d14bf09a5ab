"""Some hundred damaged files for each reader; `python tests/soak/fuzz.py` reads 20,000."""

import fuzz
import fuzz_readers
import fuzz_targets
import mutations
import pytest

# A run is loaded and a trace is drawn in milliseconds, the others in less.
FILES = {"run": 150, "trace": 100}


@pytest.mark.parametrize("name", fuzz_readers.READERS)
def test_damaged_files_are_refused_or_mean_something(name):
    record = fuzz.in_process(name, 0, FILES.get(name, 300), seed=1)
    assert {kind: record[kind] for kind in fuzz.KINDS} == {kind: [] for kind in fuzz.KINDS}
    assert 0 < record["accepted"] < record["files"]         # some damage does no harm, most does


def test_a_reader_that_crashes_believes_and_takes_memory_is_found(tmp_path):
    def crashes(data):
        return {}["x"]

    def hoards(data):
        return bytearray(80 << 20)

    readers = {"crashes": crashes, "memory": hoards, "believed": lambda data: data}
    for kind, reader in readers.items():
        (tmp_path / "file").write_bytes(b"sound")

        def read(reader=reader):
            data = (tmp_path / "file").read_bytes()
            return b"sound" if data == b"sound" else reader(data)

        fuzz_readers.READERS["bad"] = lambda directory: [fuzz_targets.Target(tmp_path / "file", read, checksum=True)]
        try:
            record = fuzz.Fuzz("bad", tmp_path).run(0, 4)
        finally:
            del fuzz_readers.READERS["bad"]
        assert record[kind], kind


def test_a_file_depends_on_its_number_alone(tmp_path):
    one, other = (fuzz.Fuzz("safetensors", directory) for directory in (tmp_path / "a", tmp_path / "b") if directory.mkdir() is None)
    assert one.file(17)[1:] == other.file(17)[1:] != one.file(18)[1:]


def test_json_is_edited_in_keys_and_values_and_depth(tmp_path):
    import random
    text = b'{"a": {"b": [1, 2, 3]}, "c": "text"}'
    changed = [mutations.edited(random.Random(seed), text) for seed in range(300)]
    assert len(set(changed)) > 200 and any(b"[" * 60 in data for data in changed) and any(data.count(b'"b"') == 2 for data in changed)
