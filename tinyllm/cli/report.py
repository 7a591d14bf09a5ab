"""Write what a run did as one HTML page, report.html in its directory; of several runs, also one page with all."""

from pathlib import Path

EXAMPLE = "tinyllm report runs/tales"


def configure(parser):
    """The command's arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories of train, finetune or rl")
    parser.add_argument("--out", metavar="FILE", help="the page with all runs (default: comparison.html beside the first of several)")


def run(args):
    """Write the pages."""
    from ..train.report import write_comparison
    for path in args.runs:
        print(_write(path))
    if len(args.runs) > 1 or args.out:
        print(write_comparison(args.runs, args.out or Path(args.runs[0]).absolute().parent / "comparison.html"))


def _write(path):
    """The page of one run; one of reinforcement learning keeps the page it has written itself, which shows its last rollout."""
    from ..train.report import write_report
    from ..train.run import RunDirectory
    run = RunDirectory.open(path)
    if "rl" not in run.config:
        return write_report(path)
    from ..rl.report import write_report as write_rl_report
    from ..rl.session import resumed_run
    page = run.path / "report.html"
    if page.exists() and page.stat().st_mtime >= run.metrics_path.stat().st_mtime:
        return page
    with resumed_run(path) as trainer:
        return write_rl_report(trainer)
