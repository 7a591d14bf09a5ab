"""One token a character: the smallest tokenizer there is.

The vocabulary is the sorted list of the characters seen in training, so ids follow code points. A text
with a character that training never saw cannot be encoded, and says so; everything else round-trips.

>>> tokenizer = CharTokenizer.train("hello world")
>>> "".join(tokenizer.characters), tokenizer.encode("hole")
(' dehlorw', [3, 5, 4, 2])
>>> tokenizer.decode([3, 5, 4, 2])
'hole'
"""

import numpy as np

from tinyllm.tokenizers.base import Tokenizer, TokenizerError
from tinyllm.untrusted import shown


class CharTokenizer(Tokenizer):
    """Characters as tokens; `characters` gives them in the order of their ids."""

    kind = "char"

    def __init__(self, characters):
        characters = list(characters)
        if not characters:
            raise TokenizerError("a character tokenizer needs at least one character; the training text is empty")
        for i, character in enumerate(characters):
            if not isinstance(character, str) or len(character) != 1:
                raise TokenizerError(f"entry {i} of the characters is {shown(character)}, expected one character")
        if len(set(characters)) != len(characters):
            seen = set()
            twice = next(c for c in characters if c in seen or seen.add(c))
            raise TokenizerError(f"the character {twice!r} is listed twice")
        self.characters = characters
        self.tokens = [character.encode("utf-8", "surrogatepass") for character in characters]
        self.special_tokens = {}
        self._codes = np.array([ord(character) for character in characters], np.uint32)
        self._order = np.argsort(self._codes)

    @classmethod
    def train(cls, source):
        """A tokenizer of the characters in `source`, a str or an iterable of str."""
        texts = [source] if isinstance(source, str) else source
        return cls(sorted(set().union(*map(set, texts))))

    def _encode(self, text):
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        place = np.searchsorted(self._codes, codes, sorter=self._order)
        ids = self._order[np.minimum(place, len(self._order) - 1)]
        wrong = np.flatnonzero(self._codes[ids] != codes)
        if wrong.size:
            at = int(wrong[0])
            raise TokenizerError(
                f"the character {text[at]!r} (U+{ord(text[at]):04X}) at position {at} was not in the training text; "
                f"this tokenizer knows {self.vocab_size} characters: leave it out, or train a BPE tokenizer, which takes any text")
        return ids.astype(np.int32)

    def encode_stream(self, parts):
        """Yield the ids of one text, given as an iterable of str, as int32 arrays."""
        return map(self._encode, parts)

    def decode(self, ids):
        """The text that a sequence of ids stands for; an unknown id is an error."""
        return self.decode_bytes(ids).decode("utf-8", "surrogatepass")

    def _state(self):
        return {"characters": self.characters}

    @classmethod
    def _from_state(cls, record):
        characters = record.get("characters")
        if not isinstance(characters, list):
            raise TokenizerError("a character tokenizer's file needs a list under \"characters\"")
        return cls(characters)
