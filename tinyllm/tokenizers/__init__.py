"""Text to ids and back.

- `bpe.py`: byte pair encoding in under a hundred lines: read this first.
- `CharTokenizer`, `BPETokenizer`: the tokenizers; `base.py` has what they share.
- `load(path)`: any tokenizer file.
"""

from tinyllm.tokenizers.base import Tokenizer, TokenizerError
from tinyllm.tokenizers.bytelevel import BPETokenizer, Stream
from tinyllm.tokenizers.char import CharTokenizer
from tinyllm.tokenizers.files import load

__all__ = ["BPETokenizer", "CharTokenizer", "Stream", "Tokenizer", "TokenizerError", "load"]
