"""The small pictures: well-formed SVG whose sizes are in proportion to the numbers."""

import re
import xml.etree.ElementTree as xml

import numpy as np
import pytest

import tinyllm as tl
from tinyllm import drawing

NAME = "{http://www.w3.org/2000/svg}"


def rects(text):
    return [r.attrib for r in xml.fromstring(text).iter(f"{NAME}rect")]


def opacity(rect):
    return float(re.search(r"([\d.]+)\)$", rect["style"]).group(1))


def test_bars_are_as_long_as_their_numbers():
    wide = [float(r["width"]) for r in rects(drawing.bars([4.0, 2.0, -1.0, 0.0], ["a", "b", "c", "d"]))]
    assert wide[0] == pytest.approx(2 * wide[1], rel=1e-2) and wide[0] == pytest.approx(4 * wide[2], rel=1e-2) and wide[3] == 0


def test_next_token_bars_are_the_probabilities_after_the_filters():
    logits = np.log([0.5, 0.3, 0.2])
    shown = re.findall(r'class="soft">([\d.]+)<', drawing.next_tokens(logits, "abc", top_k=2))
    assert [float(x) for x in shown] == pytest.approx([0.625, 0.375])
    cold = re.findall(r'class="soft">([\d.]+)<', drawing.next_tokens(logits, "abc", temperature=0.5))
    assert [float(x) for x in cold] == pytest.approx([0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38], abs=1e-4)


def test_attention_cells_are_as_strong_as_their_weights():
    weights = np.array([[[1.0, 0.0], [0.25, 0.75]]])
    cells = [r for r in rects(drawing.attention_grid(weights, ["so", "it"])) if "style" in r]
    assert [opacity(c) for c in cells] == [1.0, 0.0, 0.25, 0.75]
    with pytest.raises(ValueError, match="3 tokens"):
        drawing.attention_grid(weights, ["a", "b", "c"])


def test_gradient_norms_and_activations_of_a_model():
    layers = tl.nn.Sequential(tl.nn.Linear(3, 2), tl.nn.Linear(2, 1))
    with tl.trace() as trace:
        layers(tl.Tensor(np.ones((4, 3), np.float32))).sum().backward()
    shown = re.findall(r'class="soft">([\d.e-]+)<', drawing.gradient_norms(layers))
    assert [float(x) for x in shown] == pytest.approx([np.linalg.norm(p.grad) for p in layers.parameters()], rel=1e-3)
    text = drawing.activations(trace)
    assert ">0<" in text and ">1<" in text and len(rects(text)) == 2


def test_a_heatmap_tells_signs_apart_and_marks_what_is_not_finite():
    text = drawing.heatmap(np.array([[1.0, -0.5], [np.nan, 0.0]]))
    cells = [r for r in rects(text) if "style" in r]
    assert [("--m" in c["style"], opacity(c)) for c in cells] == [(False, 1.0), (True, 0.5), (False, 0.0)]
    assert "×" in text


def test_a_histogram_counts():
    counts = [int(n) for n in re.findall(r": (\d+)</title>", drawing.histogram([0.0, 0.1, 1.0, np.nan], bins=2))]
    assert counts == [2, 1]


def test_the_best_point_of_a_curve_is_marked():
    text = drawing.curves({"validation": ([10, 20, 30], [7.0, 6.707, 6.8])}, mark_lowest="validation")
    assert "best 6.707 at 20" in text
    xml.fromstring(text)


@pytest.mark.parametrize("text", [drawing.histogram([]), drawing.curves({}), drawing.bars([], []), drawing.heatmap(np.zeros((0, 2))), drawing.curves({"flat": [1.0, 1.0]}),
                                  drawing.histogram([2.0, 2.0]), drawing.bars([np.nan, 1.0], ["<", "&"])])
def test_nothing_and_the_same_number_are_drawn(text):
    xml.fromstring(text)
