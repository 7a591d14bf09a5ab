"""Texts to train on: the tales that ship, the catalogue, reading, splitting, and batches.

    text.read(["tales"])                        a text by name, path, `-`, .gz or NDJSON, as one string
    text.documents(sources), text.pieces(…)     the same, streamed
    text.split_position, text.split_documents   training and validation, nothing shared
    text.RandomWindows, EpochWindows, EvalWindows   batches (x, y) of token ids
    text.CATALOGUE, text.find, text.get         texts known by name, where they lie, and fetching them
    text.tales                                  the grammar of the tales and its exact entropy
"""

from tinyllm.text import tales
from tinyllm.text.batches import IGNORE, EpochWindows, EvalWindows, RandomWindows
from tinyllm.text.cleaning import strip_gutenberg
from tinyllm.text.corpora import CATALOGUE, Corpus, data_directory, find
from tinyllm.text.download import get
from tinyllm.text.reading import documents, pieces, read
from tinyllm.text.splits import split_documents, split_position
