"""What every tokenizer offers: text to ids and back, by one set of names.

A tokenizer is a list of byte strings, its tokens, and a rule that cuts a text into them. A subclass
gives three things: `tokens` (the bytes of each id), `_encode(text)` (ids of a text without special
tokens) and `_state()` (all that defines it, as JSON). This file adds what they share:

- special tokens, with tiktoken's meaning: text that spells one is refused unless it is allowed (then
  it becomes the token) or no longer disallowed (then it is encoded as plain text);
- `decode`, total over any ids the vocabulary has, and `decoder()`, which decodes a stream and holds
  back the bytes of a character that is not complete yet;
- saving as JSON, and a fingerprint that changes whenever an id could.

A lone surrogate (half of a UTF-16 pair, which no UTF-8 text can hold) is encoded as U+FFFD; two
halves that make a pair become the character they spell.
"""

import codecs
import functools
import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tinyllm import atomic
from tinyllm.errors import UserError


class TokenizerError(UserError):
    """A tokenizer file, a vocabulary or a text that the tokenizer cannot take."""


class UnknownId(TokenizerError):
    """An id that the vocabulary does not have."""

    def __init__(self, token, position, vocab_size):
        super().__init__(f"id {token} at position {position} is not in the vocabulary of {vocab_size} ids")


class Tokenizer:
    """Base of all tokenizers; see the module's docstring for what a subclass gives."""

    kind = "abstract"
    tokens: list            # bytes of each id, None where an id is not used
    special_tokens: dict    # text -> id
    bos_id = None
    eos_id = None

    @property
    def vocab_size(self):
        """Number of ids: one more than the largest."""
        return len(self.tokens)

    # ---- text to ids

    def encode(self, text, *, bos=False, eos=False, allowed_special=(), disallowed_special="all"):
        """Ids of `text` as a list; `bos` and `eos` put those special tokens around it.

        `allowed_special` and `disallowed_special` are sets of special tokens, or "all". A special token
        found in the text is an error unless it is allowed (it becomes its id) or not disallowed (it is
        encoded as plain text); "all" disallowed means all that are not allowed.
        """
        return self.encode_array(text, bos=bos, eos=eos, allowed_special=allowed_special,
                                 disallowed_special=disallowed_special).tolist()

    def encode_array(self, text, *, bos=False, eos=False, allowed_special=(), disallowed_special="all"):
        """Ids of `text` as an int32 array; arguments as `encode`."""
        if not isinstance(text, str):
            raise TypeError(f"encode takes a str, got {type(text).__name__}; for bytes use encode_bytes")
        parts = [[self._required("bos_id", "bos=True")]] if bos else []
        for piece, special_id in self._split_specials(text, allowed_special, disallowed_special):
            parts.append(self._encode(piece) if special_id is None else [special_id])
        if eos:
            parts.append([self._required("eos_id", "eos=True")])
        if len(parts) == 1:
            return np.asarray(parts[0], np.int32)
        return np.concatenate([np.asarray(part, np.int32) for part in parts] or [np.empty(0, np.int32)])

    def _required(self, name, asked):
        value = getattr(self, name)
        if value is None:
            raise TokenizerError(f"{asked} asks for a token this tokenizer does not have ({name} is None); "
                                 f"its special tokens are {list(self.special_tokens) or 'none'}")
        return value

    def _split_specials(self, text, allowed, disallowed):
        """Yield (plain text, None) and (special text, its id) in the order of the text."""
        names = self.special_tokens.keys()
        allowed = names if allowed == "all" else set(_words(allowed, "allowed_special"))
        unknown = allowed - names
        if unknown:
            raise TokenizerError(f"allowed_special names {sorted(unknown)[0]!r}, which is not a special token here; "
                                 f"they are {sorted(names)}")
        disallowed = names - allowed if disallowed == "all" else _words(disallowed, "disallowed_special")
        for match in _find(disallowed, text):
            raise TokenizerError(
                f"the text spells the special token {match.group()!r} at character {match.start()}; pass "
                f"allowed_special={{{match.group()!r}}} to encode it as that token, or disallowed_special=() to encode it as "
                "plain text")
        at = 0
        for match in _find(allowed, text):
            if match.start() > at:
                yield text[at:match.start()], None
            yield match.group(), self.special_tokens[match.group()]
            at = match.end()
        if at < len(text):
            yield text[at:], None

    # ---- ids to text

    def token_bytes(self, token):
        """The bytes that one id stands for."""
        if not 0 <= token < len(self.tokens) or self.tokens[token] is None:
            raise UnknownId(token, 0, len(self.tokens))
        return self.tokens[token]

    def decode_bytes(self, ids):
        """The bytes that a sequence of ids stands for; an unknown id is an error."""
        ids = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        size = len(self.tokens)
        for position, token in enumerate(ids):
            if not 0 <= token < size or self.tokens[token] is None:
                raise UnknownId(token, position, size)
        return b"".join([self.tokens[token] for token in ids])

    def decode(self, ids):
        """The text that a sequence of ids stands for; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decoder(self):
        """An incremental decoder: `.push(id)` gives the text that is complete, `.finish()` the rest."""
        return StreamDecoder(self)

    # ---- many texts

    def encode_batch(self, texts, *, threads=None, **options):
        """Ids of each text, as a list of lists, by several threads; options as `encode`."""
        return _in_threads(lambda text: self.encode(text, **options), texts, threads)

    def encode_iterable(self, texts, **options):
        """Yield the ids of an iterable of texts one by one, each text a document of its own; options as `encode`."""
        for text in texts:
            yield from self.encode(text, **options)

    def encode_stream(self, parts):
        """Yield the ids of one text, given as an iterable of str, as int32 arrays; special tokens are plain text."""
        text = "".join(parts)
        if text:
            yield np.asarray(self._encode(text), np.int32)

    def decode_batch(self, sequences, *, threads=None):
        """The text of each sequence of ids, by several threads."""
        return _in_threads(self.decode, sequences, threads)

    def encode_with_offsets(self, text, **options):
        """(ids, character spans, byte spans) of a text: where each token begins and ends.

        A token that ends inside a character has the whole character in its character span.
        """
        ids = self.encode(text, **options)
        ends = np.cumsum([len(self.tokens[token]) for token in ids], dtype=np.int64)
        starts = np.r_[0, ends[:-1]].astype(np.int64)
        head = np.frombuffer(to_bytes(text), np.uint8) & 0xC0 != 0x80        # first bytes of characters
        number = np.r_[0, np.cumsum(head)]
        first = number[np.minimum(starts + 1, len(head))] - (len(head) > 0)
        spans = zip(first.tolist(), number[ends].tolist())
        return ids, list(spans), list(zip(starts.tolist(), ends.tolist()))

    # ---- files

    def _state(self):
        raise NotImplementedError

    def _notes(self):
        """What a file keeps beside: it does not change an id."""
        return {}

    def fingerprint(self):
        """sha256 (hex) of all that defines this tokenizer: equal fingerprints give equal ids."""
        text = json.dumps(self._state(), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(f"{self.kind}:{text}".encode()).hexdigest()

    def save(self, path):
        """Write this tokenizer as JSON; the file appears whole or not at all."""
        record = {"format": "tinyllm-tokenizer", "version": 1, "kind": self.kind, **self._state(), **self._notes()}
        atomic.write_bytes(path, json.dumps(record).encode())


class StreamDecoder:
    """Decodes ids one at a time and never shows half a character.

    >>> from tinyllm.tokenizers import BPETokenizer
    >>> decoder = BPETokenizer([]).decoder()
    >>> [decoder.push(i) for i in "né".encode()] + [decoder.finish()]
    ['n', '', 'é', '']
    """

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token):
        """Text completed by this id, possibly empty."""
        return self._utf8.decode(self._tokenizer.token_bytes(int(token)))

    def finish(self):
        """What is left: U+FFFD for a character that never came to its end."""
        return self._utf8.decode(b"", final=True)


def to_bytes(text):
    """UTF-8 of `text`; surrogates are joined where they pair and become U+FFFD where they do not."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode("utf-8")


def _find(names, text):
    """Where any of some special tokens stands in a text, the longest of several at one place."""
    if not names or os.path.commonprefix(list(names)) not in text:
        return ()
    return _any_of(frozenset(names)).finditer(text)


@functools.lru_cache(maxsize=64)
def _any_of(names):
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))


def _in_threads(work, items, threads):
    items = list(items)
    threads = min(threads or os.cpu_count() or 1, len(items))
    if threads < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def _words(names, argument):
    if isinstance(names, str):
        raise TypeError(f'{argument} takes a set of special tokens or "all", got the string {names!r}')
    return names
