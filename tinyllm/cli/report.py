"""Write the curves of a run as one HTML page, report.html in its directory; of several runs, also one page with all."""

from pathlib import Path

EXAMPLE = "tinyllm report runs/tales"


def configure(parser):
    """The command's arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories")
    parser.add_argument("--out", metavar="FILE", help="the page with all runs (default: comparison.html beside the first of several)")


def run(args):
    """Write the pages."""
    from ..train.report import write_comparison, write_report
    for path in args.runs:
        print(write_report(path))
    if len(args.runs) > 1 or args.out:
        print(write_comparison(args.runs, args.out or Path(args.runs[0]).absolute().parent / "comparison.html"))
