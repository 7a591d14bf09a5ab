"""Where a name is looked up, and what the catalogue says."""

import argparse
import gzip
import pathlib
import shlex

import pytest

from tinyllm import text
from tinyllm.cli import data
from tinyllm.errors import UserError
from tinyllm.text import CATALOGUE, corpora


@pytest.fixture
def places(tmp_path, monkeypatch):
    """$TINYLLM_DATA and ./data, both empty."""
    monkeypatch.setenv("TINYLLM_DATA", str(tmp_path / "env"))
    monkeypatch.chdir(tmp_path)
    for name in ("env", "data"):
        (tmp_path / name).mkdir()
    return tmp_path / "env", pathlib.Path("data")


def test_the_environment_goes_before_the_current_directory(places):
    env, here = places
    (here / "the-verdict.txt").write_text("here")
    assert corpora.find("the-verdict") == here / "the-verdict.txt"
    (env / "the-verdict.txt").write_text("there")
    assert corpora.find("the-verdict") == env / "the-verdict.txt"
    assert corpora.data_directory() == env


def test_other_file_names_are_known(places):
    env, _ = places
    (env / "pride_and_prejudice.txt").write_text("It is a truth universally acknowledged, that")
    assert text.read("pride-and-prejudice") == "It is a truth universally acknowledged, that"


def test_tales_come_from_the_checkout_or_the_grammar(places, monkeypatch):
    assert corpora.find("tales") == pathlib.Path(corpora.__file__).resolve().parents[2] / "data" / "tales.txt"
    monkeypatch.setattr(corpora, "__file__", "/site-packages/tinyllm/text/corpora.py")
    assert corpora.find("tales") is None
    assert text.read("tales") == text.tales.corpus()


def test_a_file_with_the_wrong_text_is_named(places):
    env, _ = places
    (env / "the-verdict.txt").write_text("<html>")
    with pytest.raises(UserError, match="the-verdict.txt: this is not Edith Wharton"):
        text.read("the-verdict")


def test_the_poetry_corpus_knows_its_field(places):
    env, _ = places
    (env / "gutenberg-poetry.ndjson.gz").write_bytes(gzip.compress(b'{"s": "a line", "gid": "19"}\n'))
    assert list(text.documents("gutenberg-poetry")) == ["a line"]


def test_every_entry_says_where_it_comes_from():
    assert list(CATALOGUE) == ["tales", "the-verdict", "the-awakening", "pride-and-prejudice", "gutenberg-poetry"]
    readme = (pathlib.Path(corpora.__file__).resolve().parents[2] / "data" / "README.md").read_text()
    for corpus in CATALOGUE.values():
        assert corpus.origin and corpus.licence and corpus.files[0] in readme
        assert corpus.sha256 is None or len(corpus.sha256) == 64 and corpus.sha256 in readme


def run(*words):
    parser = argparse.ArgumentParser()
    data.configure(parser)
    return data.run(parser.parse_args(words))


def test_list_shows_each_text_with_origin_licence_and_checksum(places, capsys):
    run("list")
    out = capsys.readouterr().out
    for corpus in CATALOGUE.values():
        assert corpus.name in out and corpus.title in out and (corpus.sha256 or "unknown") in out
    assert out.count("not here") == 4 and "tales.txt" in out


def test_get_stores_or_says_where_it_is(places, capsys):
    run("get", "tales")
    assert "tales.txt" in capsys.readouterr().out
    run("get", "tales", "--force")
    assert (places[0] / "tales.txt").read_text() == text.tales.corpus()
    with pytest.raises(UserError, match="not in the catalogue"):
        run("get", "nothing")


def test_the_example_works(places, capsys):
    program, command, *words = shlex.split(data.EXAMPLE)
    assert (program, command) == ("tinyllm", "data")
    run(*words)
    assert capsys.readouterr().out


def test_the_readme_tells_the_shipped_files_figures():
    path = pathlib.Path(corpora.__file__).resolve().parents[2] / "data"
    readme, shipped = (path / "README.md").read_text(), (path / "tales.txt").read_text()
    held = text.tales.surprisal(shipped)
    for figure in (f"{held.tales} short tales", f"{held.nats:,.0f} nats", f"{held.per_char:.4f} a character",
                   f"{text.tales.entropy_per_char():.4f} nats per character"):
        assert figure in " ".join(readme.split()), figure
