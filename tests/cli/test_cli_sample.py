"""`tinyllm sample`: text as it is drawn, and what it refuses."""

import pytest

import tinyllm.cli

SMALL = ["--layers", "1", "--heads", "2", "--width", "16", "--block", "16", "--batch", "4", "--seed", "0", "--sample", "0"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs: characters, and BPE on text of several bytes a character."""
    directory = tmp_path_factory.mktemp("runs")
    (directory / "text.txt").write_text("the cat sat on the mat. " * 40)
    (directory / "wide.txt").write_text("日本語、🙂 " * 200)
    options = [*SMALL, "--steps", "20"]
    assert tinyllm.cli.main(["train", str(directory / "text.txt"), *options, "--out", str(directory / "char")]) == 0
    assert tinyllm.cli.main(["train", str(directory / "wide.txt"), *options, "--tokenizer", "bpe", "--vocab-size", "258", "--out",
                             str(directory / "bpe")]) == 0
    return directory


@pytest.fixture
def sample(runs, capsys, monkeypatch):
    monkeypatch.delenv("TINYLLM_DEBUG", raising=False)

    def call(run, *words):
        capsys.readouterr()
        code = tinyllm.cli.main(["sample", str(runs / run), *words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err
    return call


def test_the_prompt_and_then_as_many_tokens_as_asked(sample):
    code, out, err = sample("char", "--prompt", "the c", "--tokens", "40", "--seed", "1")
    assert code == 0 and err == "" and out.startswith("the c") and len(out) == 5 + 40 + 1


def test_the_same_seed_writes_the_same_with_the_cache_and_without(sample):
    first = sample("char", "--seed", "1", "--tokens", "60")
    assert first == sample("char", "--seed", "1", "--tokens", "60") == sample("char", "--seed", "1", "--tokens", "60", "--no-cache")
    assert first != sample("char", "--seed", "2", "--tokens", "60")


def test_temperature_zero_needs_no_seed(sample):
    assert sample("char", "--temperature", "0") == sample("char", "--temperature", "0") == sample("char", "--top-k", "1")


def test_all_filters_at_once(sample):
    code, out, _ = sample("char", "--top-k", "5", "--top-p", "0.9", "--min-p", "0.05", "--repetition-penalty", "1.1", "--tokens", "5")
    assert code == 0 and len(out) == 1 + 5 + 1


def test_beams_and_best_of_write_one_text(sample):
    greedy = sample("char", "--prompt", "the", "--tokens", "12", "--temperature", "0")
    assert sample("char", "--prompt", "the", "--tokens", "12", "--beams", "1") == greedy
    assert sample("char", "--prompt", "the", "--tokens", "12", "--best-of", "3", "--temperature", "0") == greedy
    drawn = sample("char", "--prompt", "the", "--tokens", "12", "--best-of", "3", "--seed", "1")
    assert drawn[0] == 0 and len(drawn[1]) == 3 + 12 + 1 and drawn == sample("char", "--prompt", "the", "--tokens", "12", "--best-of", "3", "--seed", "1")


@pytest.mark.parametrize("words, message", [(("--beams", "2", "--best-of", "2"), "give one of them"), (("--beams", "0"), "beams is 0"),
                                            (("--best-of", "0"), "n is 0")])
def test_searches_that_make_no_sense(sample, words, message):
    code, _, err = sample("char", *words)
    assert code == 2 and message in err


def test_text_of_several_bytes_a_character_is_written_whole(runs, monkeypatch):
    """Each piece that is written is valid text; what is cut off at the end is shown as U+FFFD, once."""
    from tinyllm.cli import sample as module
    from tinyllm.load import load
    pieces = []
    monkeypatch.setattr("builtins.print", lambda text="", **options: pieces.append(text))
    model, tokenizer = load(runs / "bpe")
    ids = tokenizer.encode("本語、🙂 日")
    model.stream = lambda *args, **options: iter(ids[:-1])
    module.write(model, tokenizer, "日", 10)
    assert "".join(pieces[:-1]) == "日" + tokenizer.decode_bytes(ids[:-1]).decode("utf-8", "ignore")
    assert all("\ufffd" not in piece for piece in pieces[:-1]) and pieces[-1] == "\ufffd"


@pytest.mark.parametrize("words, message", [
    (("--temperature", "-1"), "temperature is -1.0; expected 0"), (("--top-p", "-1"), "top_p is -1.0"), (("--min-p", "2"), "min_p is 2.0"),
    (("--repetition-penalty", "0"), "repetition_penalty is 0.0"), (("--tokens", "-1"), "max_new_tokens is -1"),
    (("--prompt", "the Ж"), "'Ж' (U+0416) at position 4 was not in the training text"), (("--prompt", ""), "the prompt is empty"),
    (("--tokenizer", "/nowhere"), "cannot read /nowhere")])
def test_refusals_are_one_line(sample, words, message):
    code, out, err = sample("char", *words)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1


def test_what_is_no_run(sample, runs):
    code, _, err = sample("nowhere")
    assert code == 2 and "is not a run directory: it does not exist" in err
    code, _, err = sample("text.txt")
    assert code == 2 and "is not a run directory" in err


def test_a_run_without_a_checkpoint(sample, runs):
    (runs / "young").mkdir()
    (runs / "young" / "config.json").write_text((runs / "char" / "config.json").read_text())
    code, _, err = sample("young")
    assert code == 1 and "no checkpoint" in err
