"""The byte-level BPE tokenizer: any text in, ids out, and back without loss.

`BPETokenizer.train` learns a vocabulary; `encode` and `decode` use it. The algorithm is told in `bpe.py`;
this class adds the vocabulary's book-keeping: which id stands for which bytes, special tokens, known
vocabularies whose bytes are not 0 to 255 (GPT-2's '!' is id 0).

>>> tokenizer = BPETokenizer.train("low lower lowest " * 3, vocab_size=261, special_tokens=["<|endoftext|>"])
>>> tokenizer.encode("lower"), [tokenizer.token_bytes(i) for i in tokenizer.encode("lower")]
([257, 101, 114], [b'low', b'e', b'r'])
>>> tokenizer.decode(tokenizer.encode("any text: né, 你好"))
'any text: né, 你好'
"""

import functools
import itertools
import os
import re
import threading
from pathlib import Path

import numpy as np

from tinyllm.tokenizers import bpe, vocabulary
from tinyllm.tokenizers.base import Tokenizer, TokenizerError, to_bytes
from tinyllm.tokenizers.blocks import BLOCK, blocks
from tinyllm.tokenizers.split import PATTERNS, check_pattern, pattern_name, pieces

# names by which known vocabularies call the token that begins and the one that ends a document
_BOS = ("<|begin_of_text|>", "<|bos|>", "<s>", "<|startoftext|>", "<|endoftext|>")
_EOS = ("<|endoftext|>", "<|end_of_text|>", "<|eos|>", "</s>", "<|bos|>")

# Up to here the definition does the work, and numba is not even imported:
SMALL_TEXT = 4096          # characters of one text, and of a whole training text
SMALL_PIECE = 64           # characters of the longest piece
SMALL_TOTAL = 1 << 16      # characters encoded so in the life of a tokenizer
SMALL_WORK = 1_000_000     # bytes of distinct pieces times merges
SMALL_IDS = 4096           # ids decoded at once


class BPETokenizer(Tokenizer):
    """Byte-level BPE.

    merges: [(left id, right id), …] in rank order. special_tokens: names, which get the ids after the last
    token, or {name: id}. byte_ids: the id of each of the 256 bytes (default: 0 to 255). merge_ids: the id of
    each merge's result (default: 256, 257, …). whole_pieces: a piece that is a token is that token, whatever
    the merges say (Llama 3, tiktoken); extra_tokens {id: bytes} can be reached no other way.
    """

    kind = "bpe"

    def __init__(self, merges, *, pattern="gpt2", special_tokens=(), byte_ids=None, merge_ids=None,
                 extra_tokens=None, whole_pieces=False, bos=None, eos=None, history=None):
        self.pattern = check_pattern(pattern)
        self.merges = list(map(tuple, merges.tolist() if isinstance(merges, np.ndarray) else merges))
        self.history = history          # tokens in the training text: its bytes, then after each merge; if trained here
        self.whole_pieces = whole_pieces
        self.byte_ids = list(range(256)) if byte_ids is None else list(byte_ids)
        self.merge_ids = list(range(256, 256 + len(self.merges))) if merge_ids is None else list(merge_ids)
        self.extra_tokens = dict(extra_tokens or {})
        tokens = vocabulary.spell(self.byte_ids, self.merges, self.merge_ids, self.extra_tokens)
        self.special_tokens = vocabulary.number(special_tokens, len(tokens))
        self.tokens = vocabulary.place_specials(tokens, self.special_tokens)
        self.bos_id = self._special(bos, _BOS)
        self.eos_id = self._special(eos, _EOS)
        self._whole = {}
        if whole_pieces:
            ordinary = [*self.byte_ids, *self.merge_ids, *self.extra_tokens]
            self._whole = {tokens[token]: token for token in sorted(ordinary, reverse=True)}
        self._special_prefix = os.path.commonprefix(list(self.special_tokens))     # what every special token begins with
        self._known = {}                # pieces encoded by the definition, and their ids
        self._encoded_small = 0
        self._vocabulary = self._coders = self._array_decoder = None
        self._lock = threading.Lock()

    @functools.cached_property
    def ranks(self):
        """{pair: (rank, new id)}; merges that make the same token, in a vocabulary of ranks, share its rank."""
        first = {}
        return {pair: (first.setdefault(token, rank), token)
                for rank, (pair, token) in enumerate(zip(self.merges, self.merge_ids))}

    @classmethod
    def from_ranks(cls, tokens, *, pattern, special_tokens=(), bos=None, eos=None):
        """A tokenizer of tiktoken's kind: `tokens` in order of rank, and any two that spell a third may merge to it."""
        return cls(pattern=pattern, special_tokens=special_tokens, bos=bos, eos=eos, whole_pieces=True,
                   **vocabulary.merges_of_ranks(tokens))

    def _special(self, name, known):
        if name is not None and name not in self.special_tokens:
            raise TokenizerError(f"{name!r} is not one of the special tokens {sorted(self.special_tokens)}")
        names = (name,) if name else known
        return next((self.special_tokens[n] for n in names if n in self.special_tokens), None)

    # ---- training

    @classmethod
    def train(cls, source, vocab_size, *, pattern="gpt2", special_tokens=(), min_frequency=2, ties="smallest",
              max_token_length=None, threads=None, progress=None):
        """Learn a vocabulary of `vocab_size` ids: 256 bytes, merges, special tokens (in this order).

        source: a str, a Path, a Stream, or an iterable of these; each is a text of its own. Fewer ids come out where no
        pair occurs `min_frequency` times any more. ties: see `bpe.py`. Special tokens found in the source are
        never merged across. The result does not depend on `threads`. progress(stage, amount) is called with
        ("bytes", bytes just read) and ("merges", merges done).
        """
        special_tokens = list(special_tokens)
        num_merges = vocab_size - 256 - len(special_tokens)
        if num_merges < 0:
            raise TokenizerError(f"vocab_size {vocab_size} is below {256 + len(special_tokens)}: 256 bytes and "
                                 f"{len(special_tokens)} special tokens come first")
        if ties not in bpe.TIES:
            raise TokenizerError(f"ties {ties!r} is not one of {', '.join(bpe.TIES)}")
        check_pattern(pattern)
        options = {"ties": ties, "min_frequency": min_frequency, "max_token_length": max_token_length}
        texts = _plain_texts(_texts(source), special_tokens)
        start = list(_take(texts, SMALL_TEXT))
        small = sum(len(text) for text, _ in start) < SMALL_TEXT
        if small or ties == "first":
            counts = _count(start if small else itertools.chain(start, texts), pattern)
            if sum(map(len, counts)) * num_merges < SMALL_WORK:
                size = sum(len(piece) * number for piece, number in counts.items())
                return cls._trained(bpe.train(counts, num_merges, **options), size, pattern, special_tokens)
        from tinyllm.tokenizers import training

        say = progress or (lambda stage, amount: None)
        if small or ties == "first":
            counter = training.PiecesInOrder(counts)
        else:
            counter = training.count(itertools.chain(start, texts), pattern, threads, lambda amount: say("bytes", amount))
        learned = training.learn(counter, num_merges, progress=lambda done: say("merges", done), **options)
        return cls._trained(learned, counter.bytes, pattern, special_tokens)

    @classmethod
    def _trained(cls, learned, size, pattern, special_tokens):
        if not size:
            raise TokenizerError("the training text is empty")
        merges, history = learned
        return cls(merges, pattern=pattern, special_tokens=special_tokens, history=[size, *history])

    # ---- encoding

    def encode(self, text, *, bos=False, eos=False, allowed_special=(), disallowed_special="all"):
        """As `Tokenizer.encode`, with a short way for a short text that spells no special token."""
        if (self._coders and not (bos or eos or allowed_special) and isinstance(text, str) and len(text) < SMALL_TEXT
                and (disallowed_special == "all" or not disallowed_special)
                and not (self.special_tokens and self._special_prefix in text)):
            coder = self._coder()
            ids = coder.encode_small(to_bytes(text))
            self._coders.append(coder)
            return ids
        return super().encode(text, bos=bos, eos=eos, allowed_special=allowed_special, disallowed_special=disallowed_special)

    def encode_stream(self, parts):
        """Yield the ids of one text, given as an iterable of str, as int32 arrays; special tokens are plain text.

        With a named pattern in bounded memory: the text is cut only where the pattern cuts it anyway.
        """
        if pattern_name(self.pattern) not in PATTERNS:
            yield from super().encode_stream(parts)
            return
        for block in blocks(one_text(parts), self.pattern):
            yield self._compiled_encode([block], len(block) + 2)

    def _encode(self, text):
        if self._coders is None and len(text) <= SMALL_TEXT and self._encoded_small < SMALL_TOTAL:
            found = pieces(text, self.pattern)
            if max(map(len, found)) <= SMALL_PIECE:
                self._encoded_small += len(text)
                return self._encode_small(found)
        if pattern_name(self.pattern) in PATTERNS:
            return self._compiled_encode(blocks([(text, False)], self.pattern), len(text) + BLOCK)
        data = to_bytes(text)
        return self._compiled_encode([data], len(data) + 2)

    def encode_bytes(self, data):
        """Ids of any bytes as a list, UTF-8 or not; special tokens in them are plain text."""
        return self._compiled_encode([bytes(data)], len(data) + 2).tolist()

    def _encode_small(self, found):
        """The definition, with the pieces it has met remembered: fast enough for a prompt, and nothing to compile."""
        ids = []
        for piece in found:
            known = self._known.get(piece)
            if known is None:
                data = to_bytes(piece)
                known = [self._whole[data]] if data in self._whole else bpe.encode(data, self.ranks, self.byte_ids)
                self._known[piece] = known
            ids += known
        return ids

    def _compiled_encode(self, utf8_blocks, room):
        coder = self._coder()
        ids = coder.encode(utf8_blocks, room)
        self._coders.append(coder)             # not after an error or Ctrl-C, which may have left it in pieces
        return ids

    def _coder(self):
        """An encoder that no other thread uses; the first one starts the compiler, or reads its cache."""
        if self._coders:
            try:
                return self._coders.pop()
            except IndexError:          # another thread was quicker
                pass
        from tinyllm.tokenizers import encoder

        with self._lock:
            if self._vocabulary is None:
                special = set(self.special_tokens.values())
                plain = [None if token in special else data for token, data in enumerate(self.tokens)]
                self._vocabulary = encoder.Vocabulary(self.ranks, self.byte_ids, plain, self.whole_pieces)
            if self._coders is None:
                self._coders = []
        return encoder.Encoder(self._vocabulary, self.pattern)

    # ---- decoding

    def decode_bytes(self, ids):
        """The bytes that a sequence of ids stands for; an unknown id is an error."""
        if len(ids) < SMALL_IDS:
            return super().decode_bytes(ids)
        return self._decoder_of_arrays().decode_bytes(_int32(ids))

    def decode(self, ids):
        """The text that a sequence of ids stands for; bytes that are not UTF-8 become U+FFFD."""
        if len(ids) < SMALL_IDS:
            return super().decode(ids)
        return self._decoder_of_arrays().decode(_int32(ids))

    def _decoder_of_arrays(self):
        if self._array_decoder is None:
            from tinyllm.tokenizers import encoder

            self._array_decoder = encoder.Decoder(self.tokens)
        return self._array_decoder

    # ---- files

    def _state(self):
        state = {"pattern": self.pattern, "merges": self.merges, "special_tokens": self.special_tokens,
                 "bos_id": self.bos_id, "eos_id": self.eos_id, "whole_pieces": self.whole_pieces}
        if self.byte_ids != list(range(256)):
            state["byte_ids"] = self.byte_ids
        if self.merge_ids != list(range(256, 256 + len(self.merges))):
            state["merge_ids"] = self.merge_ids
        if self.extra_tokens:
            state["extra_tokens"] = {str(token): data.hex() for token, data in self.extra_tokens.items()}
        return state

    def _notes(self):
        return {} if self.history is None else {"history": self.history}

    @classmethod
    def _from_state(cls, record):
        try:
            history = record.get("history")
            if history is not None and (not isinstance(history, list) or set(map(type, history)) - {int}):
                raise TokenizerError("the history is no list of whole numbers")
            specials = record["special_tokens"]
            names = {token: name for name, token in specials.items()}
            extra = {int(token): bytes.fromhex(data) for token, data in record.get("extra_tokens", {}).items()}
            return cls(record["merges"], pattern=record["pattern"], special_tokens=specials,
                       byte_ids=record.get("byte_ids"), merge_ids=record.get("merge_ids"),
                       extra_tokens=extra, whole_pieces=bool(record["whole_pieces"]), bos=names.get(record["bos_id"]),
                       eos=names.get(record["eos_id"]), history=history)
        except TokenizerError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise TokenizerError(f"not a BPE tokenizer's record: {type(error).__name__} {error}") from error


class Stream:
    """An iterable of str that together are one text, for training on what does not fit into memory."""

    def __init__(self, parts):
        self.parts = parts


def one_text(parts):
    """Parts of a text as (part, whether the next one goes on with the same text)."""
    for part in parts:
        yield part, True
    yield "", False


def _texts(source):
    """The texts of a training source as (text, whether the next one goes on with the same text)."""
    for item in [source] if isinstance(source, (str, Path, Stream)) else source:
        if isinstance(item, str):
            yield item, False
            continue
        if isinstance(item, Path):
            from tinyllm.text import reading

            item = Stream(reading.pieces(item))
        if not isinstance(item, Stream):
            raise TypeError("a training source is a str, a Path, a Stream of str, or an iterable of these; it holds a "
                            f"{type(item).__name__}")
        yield from one_text(item.parts)


def _plain_texts(texts, special_tokens):
    """The same, cut at special tokens, which are left out."""
    names = sorted(special_tokens, key=len, reverse=True)
    for text, more in texts:
        if any(name in text for name in names):
            *parts, text = re.split("|".join(map(re.escape, names)), text)
            yield from ((part, False) for part in parts)
        yield text, more


def _take(texts, characters):
    """Texts from an iterator until they have so many characters together."""
    for text, more in texts:
        yield text, more
        characters -= len(text)
        if characters <= 0:
            return


def _count(texts, pattern):
    """{piece as bytes: how often}, in the order of the texts."""
    counts = {}
    held = []
    for text, more in texts:
        held.append(text)
        if not more:
            for piece in pieces("".join(held), pattern):
                data = to_bytes(piece)
                counts[data] = counts.get(data, 0) + 1
            held = []
    return counts


def _int32(ids):
    """Ids as an int32 array the kernels can walk."""
    array = np.asarray(ids)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"ids are a sequence of whole numbers, got shape {array.shape} of {array.dtype}")
    if array.dtype.itemsize > 4 or array.dtype == np.uint32:
        array = np.clip(array, -1, 0x7FFFFFFF)
    return np.ascontiguousarray(array, np.int32)
