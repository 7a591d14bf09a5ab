"""From the name of a text to what the training loop eats: tokens to train on, tokens to validate on.

The text is split first and then tokenized, each side on its own, so nothing is shared between them; the
tokenizer is trained on the training side alone, except that a character tokenizer has to know all characters.

A long text is tokenized once: its ids are kept in the user's cache (`$TINYLLM_CACHE`, else `~/.cache/tinyllm`), named
by the text's hash and the tokenizer's fingerprint, and mapped from there (`text/tokens.py`).
"""

import contextlib
import hashlib
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import UserError, WorkError
from ..text import tales, tokens
from ..text.corpora import CATALOGUE
from ..text.reading import documents, read
from ..text.splits import split_documents, split_position
from ..tokenizers import BPETokenizer, CharTokenizer
from ..tokenizers import load as load_tokenizer

END_OF_DOCUMENT = tales.SEPARATOR
LONG = 4_000_000        # characters from which ids are worth keeping; a shorter text is tokenized in a moment


def cache_directory():
    """Where ids of long texts are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(os.environ.get("TINYLLM_CACHE") or os.path.join(base, "tinyllm"))


@dataclass
class DataConfig:
    """Which text, how it is split, and how it is cut into tokens."""

    sources: list[str]              # paths, names of the catalogue, "-"
    field: str | None = None        # of NDJSON rows
    split: str = "position"         # or "document"
    val_fraction: float = 0.1
    tokenizer: str = "char"         # or "bpe", or the path of a tokenizer file
    vocab_size: int = 1024          # of a BPE tokenizer trained here
    seed: int = 0                   # of the split by document

    def __post_init__(self):
        if self.split not in ("position", "document"):
            raise UserError(f"split {self.split!r}; expected position or document")
        if self.tokenizer not in ("char", "bpe") and not Path(self.tokenizer).exists():
            raise UserError(f"tokenizer {self.tokenizer!r}; expected char, bpe, or the path of a tokenizer file, and there is no such file")
        # a resumed run may be started from another directory
        self.sources = [s if s == "-" or (s in CATALOGUE and not Path(s).is_file()) else os.path.abspath(s) for s in self.sources]


class TrainingData:
    """Both sides of a text, as text and as ids. `tokenizer` is trained here unless it is given."""

    def __init__(self, config, tokenizer=None):
        self.config = config
        self.train_text, self.val_text = self._read()
        self.tokenizer = tokenizer or self._train_tokenizer()
        self.train_ids = self._encode(self.train_text)
        self.val_ids = self._encode(self.val_text)

    def _read(self):
        config = self.config
        if config.split == "position":
            text = read(config.sources, config.field)
            return split_position(text, config.val_fraction) if config.val_fraction else (text, "")
        parts = list(documents(config.sources, config.field))
        sides = split_documents(parts, config.val_fraction, config.seed) if config.val_fraction else (parts, [])
        return tuple(END_OF_DOCUMENT.join(side) + END_OF_DOCUMENT if side else "" for side in sides)

    def _train_tokenizer(self):
        if self.config.tokenizer == "char":
            return CharTokenizer.train([self.train_text, self.val_text])
        if self.config.tokenizer == "bpe":
            return BPETokenizer.train(self.train_text, self.config.vocab_size)
        return load_tokenizer(self.config.tokenizer)

    def _encode(self, text):
        # a text that spells a special token is text here, not the token
        if len(text) >= LONG:
            with contextlib.suppress(UserError, WorkError):     # no room or no right to write: do without
                return tokens.stored_parts(self.tokenizer, lambda: [text], cache_directory())
        return self.tokenizer.encode_array(text, disallowed_special=()) if text else np.empty(0, np.int32)

    @cached_property
    def digest(self):
        """sha256 of the two sides: whether a resumed run reads the text it was trained on."""
        digest = hashlib.sha256()
        for text in (self.train_text, self.val_text):
            digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        return digest.hexdigest()

    @cached_property
    def floor(self):
        """The nats that the validation text contains, where the grammar of the tales knows them; else None."""
        try:
            return tales.surprisal(self.val_text).nats if self.val_text else None
        except ValueError:
            return None

    def describe(self):
        """What config.json says about the data."""
        return {**asdict(self.config), "sha256": self.digest, "train_tokens": len(self.train_ids), "val_tokens": len(self.val_ids),
                "characters": len(self.train_text) + len(self.val_text),
                "floor_per_token": None if self.floor is None else self.floor / len(self.val_ids)}
