"""tiktoken's rank files: a line a token, its bytes in base64, a space, its rank, which is its id.

The file says neither the pattern nor the special tokens; for the well-known vocabularies they are here.
Sources: openai/tiktoken tiktoken_ext/openai_public.py; meta-llama/llama3 tokenizer.py.
"""

import base64
import binascii

from tinyllm import atomic
from tinyllm.tokenizers.base import TokenizerError
from tinyllm.tokenizers.bytelevel import BPETokenizer
from tinyllm.tokenizers.vocabulary import MOST_IDS

_END = {"<|endoftext|>": 50256}
_LLAMA3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
           "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>",
           "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"]
_LLAMA3 += [f"<|reserved_special_token_{i}|>" for i in range(3, 248)]
KNOWN = {
    "gpt2": ("gpt2", _END), "r50k_base": ("gpt2", _END), "p50k_base": ("gpt2", _END),
    "cl100k_base": ("cl100k", {"<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259,
                               "<|fim_suffix|>": 100260, "<|endofprompt|>": 100276}),
    "o200k_base": ("o200k", {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}),
    "tokenizer": ("llama3", _LLAMA3),       # Llama 3's file is called tokenizer.model
}


def from_tiktoken(data, name, pattern=None, special_tokens=None):
    """The tokenizer of a rank file's bytes; `name` (without ending) tells the pattern and special tokens of known ones."""
    known_pattern, known_special = KNOWN.get(name, (None, ()))
    if pattern is None and known_pattern is None:
        raise TokenizerError(f"a rank file does not say its pattern: pass pattern=, for example \"cl100k\"; known by their file "
                             f"names are {', '.join(KNOWN)}")
    ranks = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line:
            continue
        parts = line.split()
        try:
            token, rank = base64.b64decode(parts[0], validate=True), int(parts[1])
        except (IndexError, ValueError, binascii.Error) as error:
            raise TokenizerError(f"line {number} is {line[:40]!r}, expected a token in base64, a space and its rank") from error
        if len(parts) != 2 or not 0 <= rank < MOST_IDS or rank in ranks:
            raise TokenizerError(f"line {number}: the rank {rank} is given twice or out of range, or more follows it")
        ranks[rank] = token
    hole = next((rank for rank in range(len(ranks)) if rank not in ranks), None)
    if hole is not None:
        raise TokenizerError(f"no token has the rank {hole}, and the highest is {max(ranks)}: the vocabulary has a hole")
    return BPETokenizer.from_ranks([ranks[rank] for rank in range(len(ranks))], pattern=pattern or known_pattern,
                                   special_tokens=known_special if special_tokens is None else special_tokens)


def save(tokenizer, path):
    """Write a BPETokenizer's ranks for tiktoken; the pattern and special tokens have to be told to it in code."""
    if not isinstance(tokenizer, BPETokenizer):
        raise TokenizerError(f"only a byte-level BPE tokenizer has ranks, this one is {tokenizer.kind!r}")
    special = set(tokenizer.special_tokens.values())
    lines, seen = [], {}
    for token, data in enumerate(tokenizer.tokens):
        if data is None or token in special:
            continue
        if data in seen:
            raise TokenizerError(f"ids {seen[data]} and {token} both stand for {data!r}; a rank file has one rank a token")
        seen[data] = token
        lines.append(base64.b64encode(data) + b" %d\n" % token)
    atomic.write_bytes(path, b"".join(lines))
