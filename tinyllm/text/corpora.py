"""The catalogue: texts known by name, where they come from, under what terms, and where they lie.

`tales` ships with tinyllm. The others are fetched by `tinyllm data get NAME` (download.py) and lie in the
directory that the environment variable TINYLLM_DATA names, or in `data/`. A name is looked up in
$TINYLLM_DATA, then in `./data`, then in the `data/` of a checkout; `tales` that are found nowhere are written
on the spot, since the grammar gives the same text every time.
"""

import os
from pathlib import Path
from typing import NamedTuple

from tinyllm.errors import UserError
from tinyllm.text import tales
from tinyllm.text.cleaning import between, strip_gutenberg


class Corpus(NamedTuple):
    """A text of the catalogue.

    `files` are the names it may lie under, the first is the one it is stored as. `sha256` is that of the
    download, None where it is unknown. `begin` and `end` are patterns for the part that is kept, `field` is
    the field that holds the text of an NDJSON file.
    """
    name: str
    title: str
    size: str
    origin: str
    licence: str
    files: tuple
    url: str | None = None
    sha256: str | None = None
    begin: str | None = None
    end: str | None = None
    field: str | None = None

    def cleaned(self, text):
        """The corpus without its wrapping; None where this is another text (an error page, say)."""
        return between(strip_gutenberg(text), self.begin, self.end)


_PUBLIC = "public domain in the United States; published before 1930"

CATALOGUE = {corpus.name: corpus for corpus in (
    Corpus(
        name="tales", title="Tales of twenty animals, with a known entropy", size="500 kB",
        origin="written by the grammar in tinyllm/text/tales.py", licence="MIT, as tinyllm",
        files=("tales.txt",)),
    Corpus(
        name="the-verdict", title="Edith Wharton, The Verdict (1908)", size="20 kB",
        origin="Project Gutenberg eBook 306 holds the story; this transcription is the one used in Raschka's "
               "Build a Large Language Model (From Scratch)",
        licence=_PUBLIC, files=("the-verdict.txt",),
        url="https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch02/01_main-chapter-code/the-verdict.txt",
        sha256="b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
        begin="I had always thought Jack Gisburn"),
    Corpus(
        name="the-awakening", title="Kate Chopin, The Awakening (1899)", size="about 280 kB",
        origin="Project Gutenberg eBook 160, The Awakening and Selected Short Stories; the novel alone is kept",
        licence=_PUBLIC, files=("the-awakening.txt", "the-awakening-extract.txt"),
        url="https://www.gutenberg.org/cache/epub/160/pg160.txt",
        begin="A green and yellow parrot", end=r"^\s*BEYOND THE BAYOU\s*$"),
    Corpus(
        name="pride-and-prejudice", title="Jane Austen, Pride and Prejudice (1813)", size="about 700 kB",
        origin="Project Gutenberg eBook 1342, the illustrated edition of 1894; captions and preface are left out",
        licence=_PUBLIC, files=("pride-and-prejudice.txt", "pride_and_prejudice.txt"),
        url="https://www.gutenberg.org/cache/epub/1342/pg1342.txt",
        begin=r"(?:Chapter I\.\s+)?It is a truth universally acknowledged", end="^ *CHISWICK PRESS"),
    Corpus(
        name="gutenberg-poetry", title="Allison Parrish's Gutenberg Poetry Corpus, 3,085,117 lines", size="about 52 MB, compressed",
        origin="https://github.com/aparrish/gutenberg-poetry-corpus, lines of verse from 1,191 Gutenberg books",
        licence="CC0 1.0; the lines themselves are in the public domain in the United States",
        files=("gutenberg-poetry.ndjson.gz", "gutenberg-poetry-v001.ndjson.gz"),
        url="https://static.decontextualize.com/gutenberg-poetry-v001.ndjson.gz", field="s"),
)}


def corpus(name):
    """The catalogue's entry of that name; UserError lists the names there are."""
    if name not in CATALOGUE:
        raise UserError(f"{name!r} is not in the catalogue; there are: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def data_directory():
    """Where downloads are stored: $TINYLLM_DATA, or `data` in the current directory."""
    return Path(os.environ.get("TINYLLM_DATA") or "data")


def search_path():
    """The directories in which a name is looked up, in order."""
    checkout = Path(__file__).resolve().parents[2]
    places = [data_directory(), Path("data")]
    if (checkout / "setup.cfg").is_file():  # a checkout, not an installed package
        places.append(checkout / "data")
    return list(dict.fromkeys(places))


def find(name):
    """The path of a catalogued text on this machine, or None."""
    for directory in search_path():
        for file in corpus(name).files:
            if (directory / file).is_file():
                return directory / file
    return None


def missing(name):
    """The error to raise where a catalogued text is not on this machine."""
    return UserError(f"{name} is not on this machine (looked in {', '.join(map(str, search_path()))}); "
                     f"`tinyllm data get {name}` fetches it")


def generate(name):
    """The text of a corpus that needs no file, or None."""
    return tales.corpus() if name == "tales" else None
