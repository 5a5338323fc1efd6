from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from qad_core.run.svg_chart import HEIGHT, WIDTH, SvgLine, draw_svg, round_ticks

SVG = "{http://www.w3.org/2000/svg}"


def polylines(text: str) -> list[list[tuple[float, float]]]:
    """Pixels of every line in a chart."""
    found = ElementTree.fromstring(text).iter(f"{SVG}polyline")
    return [[tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()] for line in found]  # type: ignore[misc]


def test_a_million_steps_are_a_small_file_that_keeps_the_spike() -> None:
    points = tuple((float(step), 1.0 if step != 654_321 else 9.0) for step in range(1_000_000))
    text = draw_svg([SvgLine("run", points)], title="loss/kd", x_title="step")
    assert len(text) < 60_000
    heights = [y for line in polylines(text) for _, y in line]
    assert min(heights) < 0.2 * HEIGHT
    assert sorted(heights)[2] > 0.8 * HEIGHT


def test_a_nan_is_a_gap_not_a_bridge() -> None:
    points = ((1.0, 0.5), (2.0, 0.4), (3.0, math.nan), (4.0, 0.3), (5.0, 0.2))
    assert [len(line) for line in polylines(draw_svg([SvgLine("run", points)], title="", x_title=""))] == [2, 2]


def test_equal_ratios_are_equal_heights_on_a_logarithmic_scale() -> None:
    points = ((0.0, 0.01), (1.0, 0.1), (2.0, 1.0))
    (line,) = polylines(draw_svg([SvgLine("run", points)], title="", x_title="", log_scale=True))
    assert line[0][1] - line[1][1] == pytest.approx(line[1][1] - line[2][1], abs=0.2)


def test_everything_is_inside_the_picture_and_names_are_escaped() -> None:
    line = SvgLine("<b>&", ((0.0, -3.0), (1000.0, 5.0)), marks=((500.0, 5.0),))
    text = draw_svg([line, SvgLine("flat", ((0.0, 1.0),))], title="a < b", x_title="step")
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for pixels in polylines(text) for x, y in pixels)
    assert "<b>&" in "".join(ElementTree.fromstring(text).itertext())


def test_a_chart_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="no value"):
        draw_svg([SvgLine("run", ((1.0, -1.0),))], title="", x_title="", log_scale=True)


@pytest.mark.parametrize(
    ("lowest", "highest", "ticks"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.013, 0.031, [0.015, 0.02, 0.025, 0.03]), (-1, 1, [-1, -0.5, 0, 0.5, 1])],
)
def test_ticks_are_round(lowest: float, highest: float, ticks: list[float]) -> None:
    assert round_ticks(lowest, highest, 5) == pytest.approx(ticks)
