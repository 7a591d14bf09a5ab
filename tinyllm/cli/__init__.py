"""The command line: `tinyllm train`, `tinyllm sample RUN`, …

Each subcommand is a module in this directory, imported only when it is chosen. It has a docstring whose first
line is the help text, `EXAMPLE` (a command that works as pasted), `configure(parser)`, which adds the arguments,
and `run(args)`, which does the work and returns an exit code or None for 0.

Exit codes: 0 done; 1 the work failed (no disk space, no network, stopped by Ctrl-C); 2 the user's words were
wrong. Either failure is one line on stderr. An error nobody foresaw is a bug: it gets one line too, and its
traceback with `--debug` or with the environment variable TINYLLM_DEBUG set.
"""

import argparse
import importlib
import os
import sys
import warnings

from ..errors import UserError, WorkError

COMMANDS = {
    "train": "train a model on a text",
    "finetune": "tune a model on prompts and responses, or on classes",
    "sample": "let a trained model write",
    "tokenizer": "train, inspect and use tokenizers",
    "eval": "compare models",
    "step": "step through backprop, number by number",
    "gradcheck": "check derivatives against finite differences",
    "rl": "learn from rewards: sft, reward, ppo, grpo, dpo, compare",
    "export": "write a model for other programs",
    "data": "list and fetch texts",
    "bench": "measure speed",
    "report": "write the curves of a run as one HTML page",
}


def main(argv=None):
    """Run one command, given as a list of words (None: this process's own); returns the exit code."""
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except SystemExit as leaving:       # argparse: 0 after --help, 2 after a mistake it has explained
        return leaving.code if isinstance(leaving.code, int) else 1
    except BrokenPipeError:             # `tinyllm … | head` has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(argv):
    words = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in words or bool(os.environ.get("TINYLLM_DEBUG"))
    try:
        args = parser(words).parse_args(words)
        with warnings.catch_warnings():     # a NaN is named where it stops the work, in one line; NumPy's remarks on it are not words for users
            if not debug:
                warnings.filterwarnings("ignore", "(invalid value|divide by zero|overflow|underflow) encountered", RuntimeWarning)
            return args.run(args) or 0
    except (SystemExit, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        if debug:
            raise
        return _say("stopped by Ctrl-C", 1)
    except Exception as error:
        if debug:
            raise
        return _say(*_explain(error))


def _explain(error):
    """The one line for an error, and the exit code."""
    if isinstance(error, UserError):
        return str(error), 2
    if isinstance(error, WorkError):
        return str(error), 1
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror, 1
    if isinstance(error, MemoryError):
        return f"out of memory{f': {error}' if str(error) else ''}", 1
    return f"{type(error).__name__}: {error} (unexpected: run again with --debug to see where)", 1


def _say(message, code):
    print(f"tinyllm: {' '.join(message.split())}", file=sys.stderr)
    return code


def parser(words=()):
    """The parser for `words`; only the command they name is imported and configured in full."""
    top = argparse.ArgumentParser(prog="tinyllm", description="Language models from first principles in NumPy.",
                                  epilog="tinyllm COMMAND --help shows a command's options and an example.")
    top.add_argument("-V", "--version", action=_Version, nargs=0, help="show the version and leave")
    top.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, help_line in COMMANDS.items():
        if name != chosen:
            commands.add_parser(name, help=help_line)
            continue
        module = importlib.import_module(f"{__name__}.{name}")
        command = commands.add_parser(name, help=help_line, description=module.__doc__, allow_abbrev=False,
                                      epilog=f"example:\n  {module.EXAMPLE}",
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
        module.configure(command)
        command.set_defaults(run=module.run)
    return top


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        from importlib.metadata import PackageNotFoundError, version
        try:
            number = version("tinyllm")
        except PackageNotFoundError:
            number = "(not installed)"
        print(f"tinyllm {number}")
        parser.exit()
