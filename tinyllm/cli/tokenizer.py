"""train, inspect and use tokenizers

`train` learns a byte-level BPE vocabulary from files; `encode` and `decode` turn text into ids and back; `show`
lets you look: a text with its tokens in colour, the merges that built a word, the compression curve, the
longest and the most frequent tokens; `compare` sets two tokenizers side by side. TOKENIZER is any tokenizer
file: this program's own, GPT-2's encoder.json, Hugging Face's tokenizer.json, .tiktoken, llama2.c's .bin.
"""

import itertools
import re
import sys
import time
from pathlib import Path

from tinyllm import atomic, text, tokenizers
from tinyllm.errors import UserError
from tinyllm.tokenizers import bpe, huggingface, page, ranks, split, view

EXAMPLE = "tinyllm tokenizer train tales --vocab-size 1024 --out tok.json && tinyllm tokenizer show tok.json --text 'A tale begins.'"


def configure(parser):
    """Add the subcommands to an argparse parser."""
    commands = parser.add_subparsers(dest="tokenizer_command", metavar="{train,encode,decode,show,compare}", required=True)
    train = commands.add_parser("train", help="learn a byte-level BPE vocabulary")
    train.add_argument("sources", nargs="+", metavar="FILE", help="text files, .gz, .ndjson, -, or names of `tinyllm data list`")
    train.add_argument("--vocab-size", type=int, default=1024, metavar="N", help="ids in all, bytes and special tokens included (1024)")
    train.add_argument("--pattern", default="gpt2", help=f"{', '.join(split.PATTERNS)}, none, or a regular expression (gpt2)")
    train.add_argument("--special", action="append", default=[], metavar="TOKEN", help="a special token; may be given again")
    train.add_argument("--min-frequency", type=int, default=2, metavar="N", help="stop when no pair occurs so often (2)")
    train.add_argument("--max-token-length", type=int, metavar="N", help="bytes of the longest token")
    train.add_argument("--ties", choices=bpe.TIES, default="smallest", help="which of two equally frequent pairs is merged (smallest)")
    train.add_argument("--threads", type=int, metavar="N", help="threads that count; the result is the same (all cores)")
    train.add_argument("--field", metavar="NAME", help="the field of NDJSON rows that holds the text")
    train.add_argument("--format", choices=("tinyllm", "huggingface", "tiktoken"), default="tinyllm", help="of the file (tinyllm)")
    train.add_argument("--out", required=True, metavar="FILE", help="where to write the tokenizer")
    for name, help_line in (("encode", "print the ids of a text"), ("show", "look at tokens")):
        command = _with_tokenizer(commands.add_parser(name, help=help_line))
        command.add_argument("source", nargs="?", metavar="FILE", help="a text file, or - for standard input")
        command.add_argument("--text", metavar="TEXT", help="the text itself")
        if name == "encode":
            command.add_argument("--special", choices=("refuse", "plain", "allow"), default="refuse",
                                 help="what special tokens in the text become: an error, plain text, or themselves (refuse)")
        else:
            command.add_argument("--word", metavar="WORD", help="the merges that build this word, step by step")
            command.add_argument("--html", metavar="OUT", help="write the tokens of the text as an HTML page")
            command.add_argument("--curve", metavar="OUT", help="write the compression curve as SVG")
            command.add_argument("--longest", type=int, metavar="N", help="the N longest tokens")
            command.add_argument("--frequent", type=int, metavar="N", help="the N most frequent tokens of the text")
    decode = _with_tokenizer(commands.add_parser("decode", help="print the text of ids"))
    decode.add_argument("ids", nargs="*", metavar="ID", help="ids; none: read them from standard input")
    compare = _with_tokenizer(commands.add_parser("compare", help="set two tokenizers side by side"))
    compare.add_argument("other", metavar="TOKENIZER", help="the second tokenizer file")
    compare.add_argument("source", nargs="?", metavar="FILE", help="a text file, or - for standard input")
    compare.add_argument("--text", metavar="TEXT", help="the text itself")


def _with_tokenizer(command):
    command.add_argument("tokenizer", metavar="TOKENIZER", help="a tokenizer file or a directory that holds one")
    return command


def run(args):
    """Carry out one subcommand."""
    return globals()[f"_{args.tokenizer_command}"](args)


def _train(args):
    if not Path(args.out).parent.is_dir():
        raise UserError(f"there is no directory {Path(args.out).parent} to write {args.out} into")
    progress = _Progress(args.vocab_size - 256 - len(args.special))
    pattern = None if args.pattern == "none" else args.pattern
    parts = text.pieces(args.sources, args.field)
    tokenizer = tokenizers.BPETokenizer.train(
        tokenizers.Stream(parts), args.vocab_size, pattern=pattern, special_tokens=args.special, min_frequency=args.min_frequency,
        ties=args.ties, max_token_length=args.max_token_length, threads=args.threads, progress=progress)
    {"tinyllm": type(tokenizer).save, "huggingface": huggingface.save, "tiktoken": ranks.save}[args.format](tokenizer, args.out)
    progress.close()
    size, left = tokenizer.history[0], tokenizer.history[-1]
    note = "" if tokenizer.vocab_size == args.vocab_size else f" ({args.vocab_size:,} asked for: no other pair occurs {args.min_frequency} times)"
    print(f"{args.out}: {tokenizer.vocab_size:,} ids{note}; {size:,} bytes become {left:,} tokens, {size / left:.2f} bytes a token")


class _Progress:
    """A line on standard error while training lasts longer than a second."""

    def __init__(self, merges):
        self.merges, self.read, self.began, self.drawn = merges, 0, time.monotonic(), time.monotonic() + 1
        self.live = sys.stderr.isatty()

    def __call__(self, stage, amount):
        if stage == "bytes":
            self.read += amount
        now = time.monotonic()
        if now < self.drawn:
            return
        self.drawn = now + (0.2 if self.live else 10)
        line = f"read {self.read / 1e6:,.0f} MB" if stage == "bytes" else f"merge {amount:,} of {self.merges:,}"
        line += f"   {now - self.began:.0f} s"
        sys.stderr.write(f"\r{line}\x1b[K" if self.live else line + "\n")
        sys.stderr.flush()

    def close(self):
        if self.live:
            sys.stderr.write("\r\x1b[K")


def _encode(args):
    tokenizer = tokenizers.load(args.tokenizer)
    options = {"refuse": {}, "plain": {"disallowed_special": ()}, "allow": {"allowed_special": "all"}}[args.special]
    # the whole text at once: a merge may reach across any place where a reader would cut
    ids = tokenizer.encode_array(_text(args), **options)
    for start in range(0, len(ids), 4096):
        print(*ids[start:start + 4096].tolist(), end=" " if start + 4096 < len(ids) else "\n")


def _decode(args):
    tokenizer = tokenizers.load(args.tokenizer)
    words = args.ids or sys.stdin.read().split()
    wrong = next((word for word in words if not re.fullmatch(r"[0-9]{1,9}", word)), None)
    if wrong is not None:
        raise UserError(f"{wrong[:40]!r} is no id; ids are whole numbers from 0 to {tokenizer.vocab_size - 1}, with spaces between")
    print(tokenizer.decode([int(word) for word in words]))


def _show(args):
    tokenizer = tokenizers.load(args.tokenizer)
    asked = False
    if args.word is not None:
        asked = True
        print(view.steps_text(tokenizer, args.word))
    if args.curve:
        asked = True
        atomic.write_bytes(args.curve, view.curve_svg(getattr(tokenizer, "history", None)).encode())
        print(f"the compression curve is in {args.curve}")
    if args.longest:
        asked = True
        print("longest tokens")
        for token, data in view.longest(tokenizer, args.longest):
            print(f"{token:>8}  {len(data):>3} bytes  {view.readable(data)}")
    if args.frequent:
        asked = True
        print("most frequent tokens")
        for token, data, count in view.most_frequent(view.tokens_of(tokenizer, _text(args)), args.frequent):
            print(f"{token:>8}  {count:>8,} times  {view.readable(data)}")
    if args.html:
        asked = True
        atomic.write_bytes(args.html, page.html_page(tokenizer, _text(args), f"Tokens of {args.source or 'a text'}").encode())
        print(f"the page is in {args.html}")
    if not asked:
        shown = _text(args)
        print(view.terminal(tokenizer, shown, colour=sys.stdout.isatty()))
        found = view.measures(tokenizer, shown)
        print(f"{found['tokens']:,} tokens, {found['bytes per token']:.2f} bytes a token")


def _compare(args):
    pair = [tokenizers.load(path) for path in (args.tokenizer, args.other)]
    shown = _text(args)
    left, right = (view.measures(tokenizer, shown) for tokenizer in pair)
    names = [Path(path).name for path in (args.tokenizer, args.other)]
    width = max(12, *map(len, names))
    print(f"{'':22}{names[0]:>{width}}  {names[1]:>{width}}")
    for name, one in left.items():
        both = [f"{value:,}" if isinstance(value, int) else f"{value:.4f}" for value in (one, right[name])]
        print(f"{name:22}{both[0]:>{width}}  {both[1]:>{width}}")
    sample = shown[:200]
    for name, tokenizer in zip(names, pair):
        ids = tokenizer.encode(sample, disallowed_special=())
        print(f"\n{name}: {view.terminal(tokenizer, sample, colour=sys.stdout.isatty())}")
        print(*itertools.islice(ids, 60), *(["…"] if len(ids) > 60 else []))


def _text(args):
    if (args.text is None) == (args.source is None):
        raise UserError("give a text: either a FILE (or - for standard input), or --text 'some words'")
    return args.text if args.text is not None else text.read(args.source)
