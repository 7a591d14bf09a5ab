"""The compiled half of the tokenizers: scan, count, merge, encode, decode, in numba.

Each file says what its kernel does in the words of `bpe.py` and then does it fast. Importing this package
starts numba, so the tokenizers import it only when a text is large enough to be worth it.
"""
