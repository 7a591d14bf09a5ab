"""Measure speed: each benchmark is a module of tinyllm/bench and prints a table, or with --json its rows."""

import importlib
import inspect
import json
import pkgutil

from .. import bench
from ..errors import UserError

EXAMPLE = "tinyllm bench engine"


def configure(parser):
    """The command's arguments."""
    parser.add_argument("name", nargs="?", choices=_names(), metavar="NAME", help=", ".join(_names()))
    parser.add_argument("--all", action="store_true", help="every benchmark in turn, each with all that it can measure")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="of step, decode and fused: these configurations, such as S SL M")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each contender")
    parser.add_argument("--compiled", action="store_true", help="of step and fused: race against torch.compile too")
    parser.add_argument("--ladder", action="store_true", help="of matmul: the lesson's steps from the triple loop to the kernel")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")


def _names():
    return sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))


def run(args):
    """Measure and print."""
    if args.all == (args.name is not None):
        raise UserError(f"name one benchmark ({', '.join(_names())}) or give --all")
    if args.all:
        results = {}
        for name in _names():
            module = _module(name)
            results[name] = module.run(**_fitting(module.run, getattr(module, "EVERYTHING", {})))
            if not args.json:
                print(f"{name}\n{module.table(results[name])}\n", flush=True)
        if args.json:
            print(json.dumps(results, indent=1))
        return
    module = _module(args.name)
    if args.ladder:
        if not hasattr(module, "ladder"):
            raise UserError(f"--ladder belongs to the benchmark matmul, not to {args.name}")
        measure, table = module.ladder, module.ladder_table
    else:
        measure, table = module.run, module.table
    given = {"names": args.only, "rounds": args.rounds, "compiled": args.compiled or None}
    given = {name: value for name, value in given.items() if value is not None}
    refused = given.keys() - _fitting(measure, given).keys()
    if refused:
        flags = ", ".join({"names": "--only"}.get(name, f"--{name}") for name in sorted(refused))
        raise UserError(f"the benchmark {args.name} has no use for {flags}")
    if "names" in given:
        unknown = [name for name in given["names"] if name not in module.CONFIGS]
        if unknown:
            raise UserError(f"{args.name} knows {', '.join(module.CONFIGS)}, not {', '.join(unknown)}")
    rows = measure(**given)
    print(json.dumps(rows, indent=1) if args.json else table(rows))


def _module(name):
    return importlib.import_module(f"{bench.__name__}.{name}")


def _fitting(function, arguments):
    """Those of `arguments` that `function` takes."""
    return {name: value for name, value in arguments.items() if name in inspect.signature(function).parameters}
