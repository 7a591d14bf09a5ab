"""Llama 1 and 2's tokenizer: SentencePiece BPE, in which each token has a score.

There are no pieces: the whole text is one. A text that is not empty begins with a space of its own, each
character becomes its token or, where it has none, a token for each of its bytes (`<0xE4>`); then, again and
again, the two neighbours whose joint token has the highest score are merged, the leftmost of equals. Ids are
0 <unk>, 1 <s> (begin), 2 </s> (end), 3 to 258 the bytes, then the tokens.

Source: karpathy/llama2.c run.c, tokenizer.py.
"""

import struct

import numpy as np

from tinyllm.tokenizers.base import Tokenizer, TokenizerError
from tinyllm.tokenizers.vocabulary import MOST_IDS, check_cuts
from tinyllm.untrusted import shown

_FIRST_BYTE = 3
LARGEST_SCORE = 1e38           # of a float32, about
_SPACE = "\u2581"              # how SentencePiece writes a space


class LlamaTokenizer(Tokenizer):
    """Scores as ranks. tokens: the bytes of each id, byte tokens as their one byte; scores: one a token."""

    kind = "llama"

    def __init__(self, tokens, scores):
        tokens, scores = list(tokens), list(scores)
        wrong = [score for score in scores if not isinstance(score, (int, float, np.floating)) or not abs(score) < LARGEST_SCORE]
        if wrong:
            raise TokenizerError(f"the score {shown(wrong[0])} is not a finite number")
        scores = [float(score) for score in scores]
        if len(tokens) != len(scores):
            raise TokenizerError(f"{len(tokens)} tokens but {len(scores)} scores")
        if len(tokens) < _FIRST_BYTE + 256:
            raise TokenizerError(f"{len(tokens)} tokens are too few: <unk>, <s>, </s> and the 256 bytes come first")
        for token, data in enumerate(tokens):
            if not isinstance(data, bytes) or (not data and token >= _FIRST_BYTE):
                raise TokenizerError(f"token {token} is {shown(data)}, expected at least one byte")
        check_cuts(tokens)
        self.tokens = [b"", b"", b""] + [bytes([byte]) for byte in range(256)] + tokens[_FIRST_BYTE + 256:]
        self.scores = scores
        self.special_tokens = {}
        self.bos_id, self.eos_id = 1, 2
        self._ids = {}
        for token in range(len(tokens) - 1, _FIRST_BYTE + 255, -1):
            self._ids[self.tokens[token]] = token          # of equal tokens the first counts
        order = np.unique([-score for score in scores], return_inverse=True)[1]
        self.ranks = {}
        for data, token in self._ids.items():
            for middle in range(1, len(data)):
                for left in self._spelled(data[:middle]):
                    for right in self._spelled(data[middle:]):
                        self.ranks[left, right] = int(order[token]), token
        self._tables = None

    def _spelled(self, data):
        """The ids that stand for some bytes: a token, or a byte token."""
        found = [self._ids[data]] if data in self._ids else []
        return found + [_FIRST_BYTE + data[0]] if len(data) == 1 else found

    def _encode(self, text):
        """As llama2.c: the space in front, characters or their bytes, then merges by score."""
        ids = []
        for character in " " + text:
            data = character.encode("utf-8", "replace")
            known = self._ids.get(data)
            ids += [_FIRST_BYTE + byte for byte in data] if known is None else [known]
        if len(ids) > 64:
            return self._merge_compiled(ids)
        while True:
            pairs = [self.ranks.get(pair, (1 << 62, 0))[0] for pair in zip(ids, ids[1:])]
            at = min(range(len(pairs)), key=pairs.__getitem__, default=0)
            if not pairs or pairs[at] == 1 << 62:
                return ids
            ids[at:at + 2] = [self.ranks[ids[at], ids[at + 1]][1]]

    def _merge_compiled(self, ids):
        from tinyllm.tokenizers import encoder

        if self._tables is None:
            self._tables = encoder.pair_table(self.ranks)
        return encoder.merge_ids(ids, *self._tables)

    def decode_bytes(self, ids):
        """The bytes of a sequence of ids, without the space that `encode` put in front."""
        ids = [int(token) for token in ids]
        data = super().decode_bytes(ids)
        return data[1:] if data.startswith(b" ") else data

    def decoder(self):
        """As `Tokenizer.decoder`; the space in front is dropped only behind a begin token."""
        return _LlamaDecoder(self)

    def _state(self):
        return {"tokens": [data.hex() for data in self.tokens], "scores": self.scores}

    @classmethod
    def _from_state(cls, record):
        try:
            return cls([bytes.fromhex(token) for token in record["tokens"]], record["scores"])
        except TokenizerError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise TokenizerError(f"not a Llama tokenizer's record: {type(error).__name__} {error}") from error


class _LlamaDecoder:
    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._stream = super(LlamaTokenizer, tokenizer).decoder()
        self._began = False

    def push(self, token):
        """Text completed by this id, possibly empty."""
        began, self._began = self._began, token == self._tokenizer.bos_id
        text = self._stream.push(token)
        return text.removeprefix(" ") if began else text

    def finish(self):
        """What is left: U+FFFD for a character that never came to its end."""
        return self._stream.finish()


def from_llama2c(data, vocab_size=None):
    """The tokenizer of llama2.c's tokenizer.bin: the longest length, then score, length and bytes of each token."""
    if len(data) < 4:
        raise TokenizerError(f"{len(data)} bytes are no tokenizer.bin: it begins with a 4-byte length")
    longest, = struct.unpack_from("<I", data)
    at, tokens, scores = 4, [], []
    while at < len(data):
        if at + 8 > len(data):
            raise TokenizerError(f"token {len(tokens)} is cut off at byte {at}")
        score, length = struct.unpack_from("<fI", data, at)
        at += 8
        if length > longest or at + length > len(data) or len(tokens) >= MOST_IDS:
            raise TokenizerError(f"token {len(tokens)} at byte {at} claims {length} bytes; the longest has {longest}, and "
                                 f"{len(data) - at} are left in the file")
        tokens.append(data[at:at + length])
        scores.append(score)
        at += length
    if vocab_size is not None and len(tokens) != vocab_size:
        raise TokenizerError(f"the file has {len(tokens)} tokens, the model {vocab_size}")
    for byte in range(min(256, max(0, len(tokens) - _FIRST_BYTE))):
        if tokens[_FIRST_BYTE + byte] != b"<0x%02X>" % byte:
            raise TokenizerError(f"token {_FIRST_BYTE + byte} is {tokens[_FIRST_BYTE + byte][:20]!r}, expected <0x{byte:02X}>")
    return LlamaTokenizer(tokens, scores)


def from_merges(vocab, merges, added):
    """The tokenizer of a tokenizer.json with byte fallback: a token's score falls with the rank of its merge."""
    vocab = {**vocab, **added}
    names = [None] * len(vocab)
    for name, token in vocab.items():
        if type(token) is not int or not 0 <= token < len(names) or names[token] is not None:
            raise TokenizerError(f"the token {shown(name)} has the id {shown(token)}, which is taken or leaves a hole")
        names[token] = name
    for byte in range(256):
        if _FIRST_BYTE + byte >= len(names) or names[_FIRST_BYTE + byte] != f"<0x{byte:02X}>":
            raise TokenizerError(f"id {_FIRST_BYTE + byte} is not <0x{byte:02X}>: the layout is not Llama's")
    rank = {}
    for number, (left, right) in enumerate(merges):
        if left + right not in vocab:
            raise TokenizerError(f"merge {number} makes {shown(left + right)}, which the vocabulary lacks")
        rank.setdefault(left + right, number)
    tokens = [name.replace(_SPACE, " ").encode("utf-8", "replace") for name in names]
    return LlamaTokenizer(tokens, [-float(rank.get(name, len(merges))) for name in names])
