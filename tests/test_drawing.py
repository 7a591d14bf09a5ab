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


def points(text):
    return [[tuple(map(float, p.split(","))) for p in line.attrib["points"].split()] for line in xml.fromstring(text).iter(f"{NAME}polyline")]


def test_a_logarithmic_axis_makes_a_power_law_straight_and_leaves_out_what_has_no_logarithm():
    x = [1e-4, 1e-3, 1e-2, 1e-1]
    (line,) = points(drawing.curves({"law": (x, [1e-8, 1e-6, 1e-4, 1e-2])}, log="xy"))
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(line, line[1:])]
    assert slopes == pytest.approx([slopes[0]] * 3, rel=1e-2)
    cut = points(drawing.curves({"cut": (x, [1.0, 0.0, 2.0, 3.0])}, log="y"))
    assert [len(run) for run in cut] == [1, 2]


def test_a_floor_is_in_range_and_lines_of_one_name_share_a_colour():
    text = drawing.curves({"a": [2.0, 1.5]}, floors={"entropy": 1.0}, faint={"a": [2.2, 1.4]})
    assert "entropy 1" in text
    floor = next(line for line in xml.fromstring(text).iter(f"{NAME}line") if line.get("class") == "floor")
    assert float(floor.attrib["y1"]) > max(y for run in points(text) for _, y in run)
    colours = re.findall(r"stroke:(rgb[^;]*);stroke-width", text)
    assert len(colours) == 2 and len(set(colours)) == 1


def test_bars_of_several_series_and_logarithmic_ones():
    text = drawing.bars({"without": [0.01, 0.1], "with": [1.0, 10.0]}, ["1", "2"], log=True)
    wide = [float(r["width"]) for r in rects(text)]         # without 1, with 1, without 2, with 2; from 0.001
    assert [w / wide[0] for w in wide] == pytest.approx([1, 3, 2, 4], rel=1e-2)
    with pytest.raises(ValueError, match="3 values, 2 labels"):
        drawing.bars({"a": [1, 2, 3]}, ["x", "y"])


def test_numbers_stand_in_their_squares_and_what_is_hidden_is_empty():
    text = drawing.numbers([[1.0, np.nan], [-0.25, 0.5]], ["so", "it"], ["a", "b"])
    assert [opacity(r) for r in rects(text) if "style" in r] == pytest.approx([0.75, 0.188, 0.375], abs=1e-3)
    assert re.findall(r">(-?\d\.\d\d)<", text) == ["1.00", "-0.25", "0.50"] and text.count('class="hidden"') == 1


def test_strips_are_as_wide_as_their_sizes_and_alike_in_colour_where_they_say_the_same():
    boxes = rects(drawing.strips([[("a", 1), (None, 2), ("b", 3), ("a", 1)], [("c", 7, None)]], ["one", "two"], unit=10))
    assert [float(b["width"]) for b in boxes] == [9, 29, 9, 69]
    assert float(boxes[1]["x"]) - float(boxes[0]["x"]) == 30
    paints = [b["style"] for b in boxes]
    assert paints[0] == paints[2] != paints[1] and "fill:none" in paints[3]


@pytest.mark.parametrize("low, high", [(0, 20), (0.93, 1.01), (-5, 5), (0, 10.08), (1000, 1001)])
def test_ticks_are_round_evenly_spaced_and_inside(low, high):
    marks = drawing.ticks(low, high)
    assert 3 <= len(marks) <= 7 and low <= marks[0] and marks[-1] <= high
    assert np.diff(marks) == pytest.approx([marks[1] - marks[0]] * (len(marks) - 1))


def test_a_page_holds_pictures_and_escaped_words(tmp_path, capsys):
    page = drawing.page("a < b", "# Part & more", "1 < 2", drawing.bars([1.0], ["<"]))
    drawing.save(tmp_path / "new" / "page.html", page)
    root = xml.parse(tmp_path / "new" / "page.html").getroot()
    assert [root.find(f"body/{tag}").text for tag in ("h1", "h2", "p")] == ["a < b", "Part & more", "1 < 2"]
    assert root.find(f"body/{NAME}svg") is not None and "page.html" in capsys.readouterr().out
    frame = xml.fromstring(page._repr_html_())
    assert frame.tag == "iframe" and frame.get("srcdoc").split() == page.split()


@pytest.mark.parametrize("text", [drawing.histogram([]), drawing.curves({}), drawing.bars([], []), drawing.heatmap(np.zeros((0, 2))), drawing.curves({"flat": [1.0, 1.0]}),
                                  drawing.histogram([2.0, 2.0]), drawing.bars([np.nan, 1.0], ["<", "&"]),
                                  drawing.bars([0.0, 1.0], "ab", log=True), drawing.bars([], [], log=True), drawing.curves({"none": []}, log="xy", mark_lowest="none"),
                                  drawing.numbers([[0.0]]), drawing.strips([]), drawing.strips([[]], ["none"]), drawing.numbers([1.0, 2.0], ["<"])])
def test_nothing_and_the_same_number_are_drawn(text):
    xml.fromstring(text)
