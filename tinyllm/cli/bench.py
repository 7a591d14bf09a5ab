"""Measure speed: each benchmark is a module of tinyllm/bench and prints a table, or with --json its rows."""

import importlib
import json
import pkgutil

from .. import bench

EXAMPLE = "tinyllm bench engine"


def configure(parser):
    """The command's arguments."""
    names = sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))
    parser.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")


def run(args):
    """Measure and print."""
    module = importlib.import_module(f"{bench.__name__}.{args.name}")
    rows = module.run()
    print(json.dumps(rows, indent=1) if args.json else module.table(rows))
