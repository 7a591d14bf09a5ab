"""The graph of a tensor as text and as SVG, and what a tensor shows in a notebook."""

import subprocess
import sys
import xml.etree.ElementTree as xml

import numpy as np

import tinyllm as tl
from tinyllm.stepper import worked
from tinyllm.stepper.graph import FOLDS, picture


def small():
    x = tl.Tensor(np.array([[1.0, 2.0]]), requires_grad=True, name="x")
    h = tl.ops.tanh(x)
    return (x + h).sum()


def test_boxes_and_layers_of_a_small_graph():
    graph = small().graph()
    assert [(b.title, b.layer) for b in graph.boxes] == [("tanh", 0), ("add", 1), ("sum", 2)]
    assert str(graph).splitlines()[1].endswith("← tanh, x")


def test_the_svg_is_well_formed_and_has_every_edge():
    root = xml.fromstring(small().graph()._repr_svg_())
    name = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{name}g")) == 3
    assert len(root.findall(f"{name}path")) == 2


def test_residual_edges_are_drawn_around_what_they_skip():
    graph = picture(worked.trace_toy("gpt"), "composites")
    skips = graph.svg().count('class="edge skip"')
    assert skips == 4           # two a block


def test_modules_fold():
    boxes = {fold: [b.title for b in picture(worked.trace_toy("gpt"), fold).boxes] for fold in FOLDS}
    assert len(boxes["operations"]) > len(boxes["composites"]) > len(boxes["modules"])
    assert [t for t in boxes["modules"] if t.startswith("blocks.1")] == ["blocks.1.norm1", "blocks.1.attn", "blocks.1.norm2", "blocks.1.mlp"]


def test_no_two_boxes_of_a_layer_overlap():
    for name in worked.TOYS:
        for fold in FOLDS:
            places = [(b.x, b.y) for b in picture(worked.trace_toy(name), fold).boxes]
            assert len(set(places)) == len(places)


def test_a_deep_chain_is_drawn_without_recursion():
    x = tl.Tensor(np.array(1.0), requires_grad=True)
    for _ in range(3000):
        x = x + 1.0
    assert len(x.graph().boxes) == 3000


def test_the_html_of_a_tensor_has_shape_statistics_and_heatmap():
    text = tl.Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True, name="<w>")._repr_html_()
    assert "2×3 float64" in text and "max 5" in text and text.count("<rect") == 6 and "&lt;w&gt;" in text
    assert "scalar float64" in tl.Tensor(np.array(2.0))._repr_html_()
    assert "0×3" in tl.Tensor(np.zeros((0, 3)))._repr_html_()
    assert "block means" in tl.Tensor(np.ones((100, 200)))._repr_html_()


def test_importing_tinyllm_does_not_import_the_views():
    code = "import sys, tinyllm; print([m for m in sys.modules if m in ('tinyllm.drawing', 'tinyllm.stepper.page', 'tinyllm.stepper.graph', 'tinyllm.stepper.terminal')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
