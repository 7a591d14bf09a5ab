"""`python -m tinyllm` is the command `tinyllm`."""

import sys

from .cli import main

sys.exit(main())
