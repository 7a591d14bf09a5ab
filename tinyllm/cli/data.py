"""list the texts known by name, or fetch one of them

`tinyllm data list` says what there is, where each text comes from, under what terms, and where it lies on this
machine. `tinyllm data get NAME` fetches one into `data/`, or into the directory that TINYLLM_DATA names.
"""

import textwrap

from tinyllm import text

EXAMPLE = "tinyllm data get tales"


def configure(parser):
    """Add the two subcommands to an argparse parser."""
    commands = parser.add_subparsers(dest="data_command", metavar="{list,get}", required=True)
    commands.add_parser("list", help="list the texts: origin, licence, checksum, and where they lie")
    get = commands.add_parser("get", help="fetch a text by name")
    get.add_argument("name", metavar="NAME", help="a name that `tinyllm data list` shows")
    get.add_argument("--force", action="store_true", help="fetch it again even if it is there")


def run(args):
    """Carry out `tinyllm data list` or `tinyllm data get`."""
    if args.data_command == "list":
        for corpus in text.CATALOGUE.values():
            print(describe(corpus))
        return
    there = not args.force and text.find(args.name) if args.name in text.CATALOGUE else None
    print(f"{args.name} is at {there}" if there else f"stored {text.get(args.name, force=args.force)}")


def describe(corpus):
    """A paragraph about one text of the catalogue."""
    place = text.find(corpus.name)
    if place is None:
        place = "not here" if corpus.url else "not here; written when it is first read"
    facts = [("origin", corpus.origin), ("licence", corpus.licence), ("sha256", corpus.sha256 or _no_checksum(corpus)),
             ("on disk", str(place))]
    lines = [f"{corpus.name}: {corpus.title}, {corpus.size}"]
    for label, fact in facts:
        lines += textwrap.wrap(fact, 100, initial_indent=f"  {label:<8} ", subsequent_indent=" " * 11,
                               break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def _no_checksum(corpus):
    return "unknown" if corpus.url else "not needed, the grammar writes it"
