"""The tokenizer commands, run as a user runs them."""

import pytest

from tinyllm import tokenizers
from tinyllm.cli import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the theme of the thesis is the other thing\n" * 40, encoding="utf-8")
    return tmp_path


@pytest.fixture
def trained(here, capsys):
    assert main(["tokenizer", "train", "text.txt", "--vocab-size", "270", "--special", "<|end|>", "--out", "tok.json"]) == 0
    assert "270 ids" in capsys.readouterr().out
    return here


def run(capsys, *words):
    code = main(["tokenizer", *words])
    return code, capsys.readouterr()


def test_encode_and_decode_return_the_text(trained, capsys):
    code, out = run(capsys, "encode", "tok.json", "--text", "the theme")
    assert code == 0 and out.out.split() == [str(i) for i in tokenizers.load("tok.json").encode("the theme")]
    assert run(capsys, "decode", "tok.json", *out.out.split())[1].out == "the theme\n"
    code, out = run(capsys, "encode", "tok.json", "text.txt")
    assert tokenizers.load("tok.json").decode([int(i) for i in out.out.split()]) == (trained / "text.txt").read_text()


def test_special_tokens_are_refused_unless_allowed(trained, capsys):
    code, out = run(capsys, "encode", "tok.json", "--text", "a<|end|>")
    assert code == 2 and "spells the special token" in out.err and out.err.count("\n") == 1
    assert run(capsys, "encode", "tok.json", "--text", "a<|end|>", "--special", "allow")[1].out == "97 269\n"
    assert "269" not in run(capsys, "encode", "tok.json", "--text", "a<|end|>", "--special", "plain")[1].out


def test_show(trained, capsys):
    assert "the|·theme|" in run(capsys, "show", "tok.json", "--text", "the theme")[1].out
    assert "bytes" in run(capsys, "show", "tok.json", "--word", " the")[1].out
    assert "longest tokens" in run(capsys, "show", "tok.json", "--longest", "3")[1].out
    assert "times" in run(capsys, "show", "tok.json", "text.txt", "--frequent", "3")[1].out
    assert run(capsys, "show", "tok.json", "text.txt", "--html", "page.html", "--curve", "curve.svg")[0] == 0
    assert (trained / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (trained / "curve.svg").read_text().startswith("<svg")


def test_compare(trained, capsys):
    tokenizers.BPETokenizer([]).save("bytes.json")
    code, out = run(capsys, "compare", "tok.json", "bytes.json", "--text", "the theme")
    rows = {line[:22].strip(): line[22:].split() for line in out.out.splitlines() if line}
    assert code == 0 and rows["vocabulary"] == ["270", "256"] and rows["tokens"][1] == "9"


@pytest.mark.parametrize("form, name", [("huggingface", "tokenizer.json"), ("tiktoken", "gpt2.tiktoken")])
def test_other_formats(here, capsys, form, name):
    assert run(capsys, "train", "text.txt", "--vocab-size", "270", "--format", form, "--out", name)[0] == 0
    tokenizer = tokenizers.load(name, special_tokens=[])
    assert tokenizer.decode(tokenizer.encode("the thing")) == "the thing"


@pytest.mark.parametrize("words, told", [
    (["train", "none.txt", "--out", "t.json"], "no such file"),
    (["train", "text.txt", "--vocab-size", "9", "--out", "t.json"], "below 256"),
    (["train", "text.txt", "--pattern", "(", "--out", "t.json"], "neither a regular expression"),
    (["train", "text.txt", "--out", "nowhere/t.json"], "no directory nowhere"),
    (["encode", "none.json", "--text", "a"], "cannot read none.json"),
    (["encode", "text.txt", "--text", "a"], "no known kind"),
    (["encode", "tok.json"], "give a text"),
    (["decode", "tok.json", "1", "x2"], "'x2' is no id"),
    (["decode", "tok.json", "999"], "id 999 at position 0"),
    (["show", "tok.json", "--word", "two words"], "one piece at a time"),
])
def test_mistakes_are_one_line_and_code_2(trained, capsys, words, told):
    before = sorted(path.name for path in trained.iterdir())
    code, out = run(capsys, *words)
    assert code == 2 and told in out.err and out.err.count("\n") == 1
    assert sorted(path.name for path in trained.iterdir()) == before
