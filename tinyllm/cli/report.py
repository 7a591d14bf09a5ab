"""Write the curves of a run as one HTML page, report.html in its directory."""

EXAMPLE = "tinyllm report runs/tales"


def configure(parser):
    """The command's arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories")


def run(args):
    """Write the pages."""
    from ..train.report import write_report
    for path in args.runs:
        print(write_report(path))
