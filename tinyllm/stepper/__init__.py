"""Floor 6: step through backprop by hand. One recorded trace, many views.

    trace, record      look on while a function runs; the result is a Trace, plain data (trace.py, record.py)
    steps, replay      the trace as steps; any of its numbers checked by finite differences
    text, terminal     a step as lines of text; the stepper with its keys
    page               the trace as one HTML file
    predict            questions about the next rule, graded
    graph, notebook    the graph of a tensor as a picture, and what a tensor shows in a notebook
"""

from . import notebook      # hangs graph() and the notebook's picture on Tensor
from .record import Trace
from .trace import record, trace
