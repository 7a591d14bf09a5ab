"""Two kinds of trouble that the command line reports in one line, without a traceback.

`UserError`: the words given were wrong (an unknown preset, a text too short, a path that is not there);
the command line exits with 2. `WorkError`: the words were right and the work failed (no network, a full
disk, a loss that became NaN); it exits with 1. Both carry a message that says what was given, what was
expected and what to do.
"""


class UserError(ValueError):
    """The request cannot be carried out as it was worded."""


class WorkError(RuntimeError):
    """The request was understood; carrying it out failed."""
