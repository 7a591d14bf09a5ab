"""check derivatives against finite differences

    tinyllm gradcheck                   every primitive and a toy of every model: a table, the largest error first
    tinyllm gradcheck matmul            one primitive, on all its samples
    tinyllm gradcheck gpt               a toy model, every parameter
    tinyllm gradcheck script.py:name    a function of yours

`name` in script.py is a function without parameters that returns (fn, inputs), which are given to tl.gradcheck; or a
function of tensors whose every parameter has an array for its default, which is checked there:

    def name(x=np.array([1.0, 2.0]), w=np.array([0.5, -1.0])):
        return (x * w).tanh()

The exit code is 1 if a derivative is wrong.
"""

import inspect

import numpy as np

from tinyllm import models
from tinyllm.engine import Generator, default_dtype, primitives
from tinyllm.engine.gradcheck import gradcheck, gradcheck_registry
from tinyllm.errors import UserError
from tinyllm.stepper.worked import TOYS, script_function

EXAMPLE = "tinyllm gradcheck matmul"


def configure(parser):
    """Add the arguments to an argparse parser."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="a primitive, a model, or script.py:function; everything if left out")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the samples and directions (default 0)")


def run(args):
    """Check what was named and print the report; 1 if something is wrong."""
    if args.name is None:
        reports = [gradcheck_registry(seed=args.seed, raise_on_failure=False), *[check_toy(name, args.seed) for name in TOYS]]
        print(reports[0])
        print()
        for report in reports[1:]:
            print(report.headline if report.ok else report)
        return 0 if all(report.ok for report in reports) else 1
    if ":" in args.name or args.name.endswith(".py"):
        report = check_script(args.name, args.seed)
    elif args.name in TOYS:
        report = check_toy(args.name, args.seed)
    elif args.name in primitives:
        report = gradcheck(args.name, seed=args.seed, raise_on_failure=False)
    else:
        raise UserError(f"gradcheck {args.name}: no primitive or model of that name; there are {', '.join([*sorted(primitives), *TOYS])}; "
                        "a function of yours is named script.py:function")
    print(report)
    return 0 if report.ok else 1


def check_toy(name, seed):
    """The report of a model so small that every parameter is checked in a second."""
    model_class, config_class, fields = TOYS[name]
    with default_dtype(np.float64):
        model = getattr(models, model_class)(getattr(models, config_class)(**fields), generator=Generator(seed))
    rng = np.random.default_rng(seed)
    ids, targets = (rng.integers(0, fields["vocab_size"] - 2, size=(2, 5)) for _ in range(2))       # two ids stay unused
    return gradcheck(model, [ids, targets], seed=seed, raise_on_failure=False)


def check_script(place, seed):
    """The report of `path:function`."""
    _, found = script_function(place, "gradcheck")
    fn, inputs = _problem(found, place)
    try:
        return gradcheck(fn, inputs, seed=seed, raise_on_failure=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"gradcheck {place}: {error}") from error


def _problem(found, place):
    """(fn, inputs) by either convention."""
    parameters = inspect.signature(found).parameters.values()
    if parameters:
        bare = [p.name for p in parameters if p.default is p.empty]
        if bare:
            raise UserError(f"gradcheck {place}: give {', '.join(bare)} an array as default to be checked at, or name a function without "
                            "parameters that returns (fn, inputs)")
        return found, [p.default for p in parameters]
    result = found()
    if not (isinstance(result, tuple) and len(result) == 2 and callable(result[0])):
        raise UserError(f"gradcheck {place}: it returned {type(result).__name__}; a function without parameters returns (fn, inputs)")
    return result
