"""A million random strings, and random bytes, through a tokenizer and back: every one has to come back.

    python tests/soak/strings.py                     a million strings over six split patterns
    python tests/soak/strings.py --strings 20000

Strings are drawn over all of Unicode, mixed with white space, digits and letters, some with lone surrogates, which come back as U+FFFD.
For every tenth string as many random bytes go through `encode_bytes` and `decode_bytes`, and random ids through `decode`.
"""

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tinyllm.tokenizers import BPETokenizer

PATTERNS = ("gpt2", "cl100k", "o200k", "llama3", "nanochat", None)
TEXT = "the theme of the thesis is the other thing, naïve 日本語 it's 12345\n" * 30 + " aaaaaaaaaaaaaaaa" * 40


def character(rng):
    """One character, of a pool drawn first: white space, ASCII, two bytes, anything; one in fifty half a surrogate pair."""
    pool = rng.randrange(5)
    if pool == 0:
        return rng.choice(" \n\t'a1\r\u3000")
    if pool == 4 and rng.random() < 0.1:
        return chr(rng.randrange(0xD800, 0xE000))
    return chr(rng.randrange((0, 128, 0x800, 0xD800, 0x110000)[pool]))


def defined(text):
    """What has to come back: pairs of surrogates joined, lone ones as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def failures(tokenizer, count, seed):
    """What did not come back, of `count` strings and a tenth as many bytes and ids."""
    rng, failed = random.Random(seed), []
    for number in range(count):
        text = "".join(character(rng) for _ in range(rng.randrange(14)))
        if tokenizer.decode(tokenizer.encode(text, disallowed_special=())) != defined(text):
            failed.append(text)
        if number % 10 == 0:
            data = rng.randbytes(rng.randrange(24))
            if tokenizer.decode_bytes(tokenizer.encode_bytes(data)) != data:
                failed.append(data)
            ids = [rng.randrange(tokenizer.vocab_size) for _ in range(rng.randrange(24))]
            if tokenizer.decode(ids) != tokenizer.decode_bytes(ids).decode("utf-8", "replace"):
                failed.append(ids)
    return failed


def main():
    """Try them all, and print what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args()
    bad = 0
    for k, pattern in enumerate(PATTERNS):
        count = (args.strings + k) // len(PATTERNS)
        began = time.perf_counter()
        tokenizer = BPETokenizer.train(TEXT, 320, pattern=pattern, special_tokens=["<|endoftext|>"])
        failed = failures(tokenizer, count, f"{args.seed}:{pattern}")
        bad += len(failed)
        print(f"{str(pattern):<10}{count:>10,} strings{len(failed):>6} failures{time.perf_counter() - began:>8.0f} s", *map(repr, failed[:5]), flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
