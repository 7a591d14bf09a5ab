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

import numpy as np

from tinyllm.tokenizers import bpe
from tinyllm.tokenizers.base import Tokenizer, TokenizerError, to_bytes
from tinyllm.tokenizers.split import check_pattern, pieces

# names by which known vocabularies call the token that begins and the one that ends a document
_BOS = ("<|begin_of_text|>", "<|bos|>", "<s>", "<|startoftext|>", "<|endoftext|>")
_EOS = ("<|endoftext|>", "<|end_of_text|>", "<|eos|>", "</s>", "<|bos|>")


class BPETokenizer(Tokenizer):
    """Byte-level BPE.

    merges: [(left id, right id), …] in rank order. special_tokens: names, which get the ids after the last
    merge, or {name: id}. byte_ids: the id of each of the 256 bytes (default: 0 to 255). merge_ids: the id of
    each merge's result (default: 256, 257, …). whole_pieces: a piece that is a token is that token, whatever
    the merges say (tiktoken, Llama 3).
    """

    kind = "bpe"

    def __init__(self, merges, *, pattern="gpt2", special_tokens=(), byte_ids=None, merge_ids=None,
                 whole_pieces=False, bos=None, eos=None, history=None):
        self.pattern = check_pattern(pattern)
        self.merges = [(int(left), int(right)) for left, right in merges]
        self.history = history          # tokens in the training text after each merge, where it was trained here
        self.whole_pieces = whole_pieces
        self.byte_ids = list(range(256)) if byte_ids is None else list(byte_ids)
        self.merge_ids = list(range(256, 256 + len(self.merges))) if merge_ids is None else list(merge_ids)
        first_free = 1 + max(self.byte_ids + self.merge_ids)
        if not isinstance(special_tokens, dict):
            special_tokens = {name: first_free + i for i, name in enumerate(special_tokens)}
        self.special_tokens = dict(special_tokens)
        self.tokens = self._spell()
        self.bos_id = self._special(bos, _BOS)
        self.eos_id = self._special(eos, _EOS)
        self._ranks = None
        self._cache = {}

    def _spell(self):
        """Bytes of every id, from the merges; checks that the vocabulary is one."""
        size = 1 + max([*self.byte_ids, *self.merge_ids, *self.special_tokens.values()])
        if size > 1 << 24:
            raise TokenizerError(f"the largest id is {size - 1}; vocabularies go up to {1 << 24} ids")
        tokens = [None] * size

        def place(token, data, what):
            if not 0 <= token < size:
                raise TokenizerError(f"{what} has the id {token}; ids are 0 or more")
            if tokens[token] is not None:
                raise TokenizerError(f"id {token} is given twice: to {tokens[token]!r} and to {what}")
            tokens[token] = data

        if len(self.byte_ids) != 256:
            raise TokenizerError(f"byte_ids has {len(self.byte_ids)} entries, expected one for each of the 256 bytes")
        for byte, token in enumerate(self.byte_ids):
            place(token, bytes([byte]), f"byte {byte}")
        if len(self.merge_ids) != len(self.merges):
            raise TokenizerError(f"{len(self.merges)} merges but {len(self.merge_ids)} merge_ids")
        for rank, ((left, right), token) in enumerate(zip(self.merges, self.merge_ids)):
            for side in (left, right):
                if not 0 <= side < size or tokens[side] is None:
                    raise TokenizerError(f"merge {rank}, ({left}, {right}), uses id {side}, which no earlier merge makes")
            place(token, tokens[left] + tokens[right], f"merge {rank}")
        if len(set(self.merges)) != len(self.merges):
            raise TokenizerError("a pair is merged twice: each (left, right) may stand once in the merges")
        for name, token in self.special_tokens.items():
            if not name:
                raise TokenizerError("a special token needs a name; an empty one was given")
            place(token, to_bytes(name), f"special token {name!r}")
        return tokens

    def _special(self, name, known):
        if name is not None and name not in self.special_tokens:
            raise TokenizerError(f"{name!r} is not one of the special tokens {sorted(self.special_tokens)}")
        names = (name,) if name else known
        return next((self.special_tokens[n] for n in names if n in self.special_tokens), None)

    # ---- training

    @classmethod
    def train(cls, source, vocab_size, *, pattern="gpt2", special_tokens=(), min_frequency=2, ties="smallest",
              max_token_length=None):
        """Learn a vocabulary of `vocab_size` ids: 256 bytes, merges, special tokens (in this order).

        source: a str, or an iterable of str. Fewer ids come out where no pair occurs `min_frequency` times any more.
        ties: see `bpe.py`. Special tokens found in the source are never merged across.
        """
        special_tokens = list(special_tokens)
        num_merges = vocab_size - 256 - len(special_tokens)
        if num_merges < 0:
            raise TokenizerError(f"vocab_size {vocab_size} is below {256 + len(special_tokens)}: 256 bytes and "
                                 f"{len(special_tokens)} special tokens come first")
        counts = {}
        for text in [source] if isinstance(source, str) else source:
            for piece in pieces(text, pattern):
                data = to_bytes(piece)
                counts[data] = counts.get(data, 0) + 1
        if not counts:
            raise TokenizerError("the training text is empty")
        merges, history = bpe.train(counts, num_merges, ties=ties, min_frequency=min_frequency,
                                    max_token_length=max_token_length)
        return cls(merges, pattern=pattern, special_tokens=special_tokens, history=history)

    # ---- encoding

    def _encode(self, text):
        if self._ranks is None:
            self._ranks = {pair: (rank, token) for rank, (pair, token) in enumerate(zip(self.merges, self.merge_ids))}
        ids = []
        for piece in pieces(text, self.pattern):
            known = self._cache.get(piece)
            if known is None:
                known = self._cache[piece] = bpe.encode(to_bytes(piece), self._ranks, self.byte_ids)
            ids += known
        return np.array(ids, np.int32)

    # ---- files

    def _state(self):
        state = {"pattern": self.pattern, "merges": self.merges, "special_tokens": self.special_tokens,
                 "bos_id": self.bos_id, "eos_id": self.eos_id, "whole_pieces": self.whole_pieces}
        if self.byte_ids != list(range(256)):
            state["byte_ids"] = self.byte_ids
        if self.merge_ids != list(range(256, 256 + len(self.merges))):
            state["merge_ids"] = self.merge_ids
        return state

    @classmethod
    def _from_state(cls, record):
        try:
            specials = record["special_tokens"]
            names = {token: name for name, token in specials.items()}
            return cls(record["merges"], pattern=record["pattern"], special_tokens=specials,
                       byte_ids=record.get("byte_ids"), merge_ids=record.get("merge_ids"),
                       whole_pieces=record["whole_pieces"], bos=names.get(record["bos_id"]), eos=names.get(record["eos_id"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, TokenizerError):
                raise
            raise TokenizerError(f"not a BPE tokenizer's record: {type(error).__name__} {error}") from error
