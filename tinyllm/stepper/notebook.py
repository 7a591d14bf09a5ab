"""What a tensor shows in a notebook, and the picture of its graph: methods hung on the engine's Tensor.

The pictures themselves are imported when they are asked for, so that `import tinyllm` stays light.
"""

import html

import numpy as np

from ..engine import Tensor


def _graph(self):
    """The operations behind this tensor as a picture: SVG in a notebook, text in a terminal."""
    from .graph import graph
    return graph(self)


def _repr_html_(self):
    """Shape, dtype, statistics and a small heatmap."""
    from ..drawing import heatmap
    from .pictures import one_line
    name = f"<b>{html.escape(self.name)}</b> " if self.name else ""
    made = f" from {html.escape(self.node.primitive.name)}" if self.node is not None else " requires gradient" if self.requires_grad else ""
    picture = f"<br>{heatmap(self.data)}" if self.size > 1 and self.dtype.kind in "fiu" else f" = {html.escape(str(np.array(self.data)))}" if self.size == 1 else ""
    return f'<div style="font:13px system-ui,sans-serif">{name}Tensor {html.escape(one_line(self.data))}{made}{picture}</div>'


Tensor.graph, Tensor._repr_html_ = _graph, _repr_html_
