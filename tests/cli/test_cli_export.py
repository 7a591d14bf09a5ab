"""`tinyllm export`: what is written is loaded again, by this program too; what cannot be written is refused first."""

import numpy as np
import pytest

import tinyllm.cli
from tinyllm.load import load

SMALL = ["--layers", "1", "--heads", "2", "--width", "16", "--block", "16", "--batch", "4", "--seed", "0", "--sample", "0", "--steps", "3"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of GPT on characters and one of Llama on BPE."""
    directory = tmp_path_factory.mktemp("runs")
    (directory / "text.txt").write_text("the cat sat on the mat. " * 40)
    for name, words in (("gpt", []), ("llama", ["--model", "llama", "--tokenizer", "bpe", "--vocab-size", "260"])):
        assert tinyllm.cli.main(["train", str(directory / "text.txt"), *SMALL, *words, "--out", str(directory / name)]) == 0
    return directory


@pytest.fixture
def export(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TINYLLM_DEBUG", raising=False)

    def call(run, to, where="out"):
        capsys.readouterr()
        code = tinyllm.cli.main(["export", str(runs / run), "--to", to, str(tmp_path / where)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err
    return call


@pytest.mark.parametrize("run", ["gpt", "llama"])
def test_a_run_as_a_hugging_face_directory(export, runs, tmp_path, run):
    code, out, err = export(run, "hf")
    assert code == 0 and err == "" and [line.split("/")[-1].split()[0] for line in out.splitlines()] == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    (model, tokenizer), (again, same) = load(runs / run), load(tmp_path / "out")
    ids = np.array([tokenizer.encode("the cat")])
    assert same.encode("the cat") == ids[0].tolist()
    np.testing.assert_allclose(again(ids).numpy(), model(ids).numpy(), atol=1e-6)


def test_a_run_as_a_file_of_llama2c(export, runs, tmp_path):
    code, out, _ = export("llama", "llama2c")
    assert code == 0 and "only the model was written" in out
    ids = np.array([[1, 2, 3]])
    np.testing.assert_allclose(load(tmp_path / "out" / "model.bin")[0](ids).numpy(), load(runs / "llama")[0](ids).numpy(), atol=1e-5)


def test_refusals_come_before_anything_is_written(export, tmp_path):
    code, _, err = export("gpt", "llama2c")
    assert code == 2 and "Llama models, this is a GPT" in err and not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    code, _, err = export("gpt", "hf", "full")
    assert code == 2 and "is not an empty directory" in err and err.count("\n") == 1


def test_sampling_in_int8_shows_both_perplexities(runs, capsys):
    assert tinyllm.cli.main(["sample", str(runs / "gpt"), "--int8", "--tokens", "12", "--seed", "0"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    small, whole = (float(part.split()[-1]) for part in last.split("perplexity of this text ")[1].split(", with float32 weights "))
    assert whole > 1 and abs(small - whole) < 0.02 * whole
