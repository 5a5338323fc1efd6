"""Chart of one loss curve with its evaluations; the only module that knows the plotting library.

Owns axes, scale and drawing. It redraws only when the decimated points or the scale changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Grid, Vertical
from textual.strip import Strip
from textual.widgets import Static
from textual_hires_canvas import Canvas
from textual_plot import HiResMode, NumericAxisFormatter, PlotWidget
from textual_plot.axis_formatter import AxisFormatter
from textual_plot.plot_widget import Legend

from qad_tui.curve_data import Curve, Points
from qad_tui.formats import format_loss

EVALUATION_MARK = "◆"
NON_FINITE_MARK = "×"
_LINE_STYLE = "cyan"
_EVALUATION_STYLE = "bold yellow"
_NON_FINITE_STYLE = "bold red"
_RIGHT_MARGIN = 0.03
"""Share of the axis left free, or the frame would hide the mark of the newest step."""


class CurveView(Vertical):
    """Draws a Curve over its steps; values linear or logarithmic."""

    def __init__(self) -> None:
        super().__init__()
        self.curve: Curve | None = None
        self._log_scale = False

    def compose(self) -> ComposeResult:
        """The legend, or why there is no chart; below it the chart."""
        yield Static("", id="curve-words")
        yield LossPlot(allow_pan_and_zoom=False)

    def on_mount(self) -> None:
        """Start empty."""
        self._draw()

    @property
    def columns(self) -> int:
        """Cells that the line has, for the decimation."""
        return max(10, self.size.width - LossPlot.LEFT_MARGIN - 2)

    def show(self, curve: Curve | None, *, log_scale: bool) -> None:
        """Show a curve, or None while it is being read; the same points on the same scale again cost nothing."""
        if (curve, log_scale) != (self.curve, self._log_scale):
            self.curve, self._log_scale = curve, log_scale
            self._draw()

    def _draw(self) -> None:
        curve = self.curve or Curve()
        line, evaluations = (drawable(points, log_scale=self._log_scale) for points in (curve.line, curve.evaluations))
        empty = not (line or evaluations)
        self.border_title = (
            f" {curve.loss.name} and {curve.loss.evaluation_name}{' · log scale' if self._log_scale else ''} "
        )
        self.query_one(LossPlot).display = not empty
        words = self.query_one("#curve-words", Static)
        if empty:
            words.update(why_empty(self.curve, log_scale=self._log_scale))
        else:
            words.update(legend(curve))
            self.query_one(LossPlot).draw(line, evaluations, curve.non_finite_steps, log_scale=self._log_scale)


def drawable(points: Points, *, log_scale: bool) -> Points:
    """The points in axis units: themselves, or the base-10 logarithms of those above 0."""
    if not log_scale:
        return points
    kept = [(step, math.log10(value)) for step, value in zip(points.steps, points.values, strict=True) if value > 0]
    return Points(tuple(step for step, _ in kept), tuple(value for _, value in kept))


def why_empty(curve: Curve | None, *, log_scale: bool) -> str:
    """Why there is nothing to draw."""
    if curve is None:
        return "reading …"
    if curve.last_step is None:
        return "No metrics yet: the first point comes with the first evaluation or step."
    return "Nothing to draw: no value is finite" + (" and above 0 (y: linear scale)." if log_scale else ".")


class StyledCanvas(Canvas):
    """A canvas whose every segment has a style: without one, Textual's NO_COLOR filter fails (8.2.8)."""

    def render_line(self, y: int) -> Strip:
        """One row; rows that the canvas has not sized yet come from the library without a style."""
        strip = super().render_line(y)
        return strip if strip.text else Strip.blank(self.size.width, self.rich_style)


class LossPlot(PlotWidget, can_focus=False):
    """textual-plot's widget with tight margins, and axes that suit losses."""

    LEFT_MARGIN = 9

    def compose(self) -> ComposeResult:
        """The parts that the library looks for by these ids, on canvases that NO_COLOR can draw."""
        with Grid():
            for part in ("margin-top", "margin-left", "plot", "margin-bottom"):
                yield StyledCanvas(1, 1, id=part)
        yield Legend(id="legend")

    def on_mount(self) -> None:
        """Leave the room to the curve."""
        self.margin_top, self.margin_bottom, self.margin_left = 0, 1, self.LEFT_MARGIN

    def draw(self, line: Points, evaluations: Points, non_finite_steps: Sequence[float], *, log_scale: bool) -> None:
        """Replace what is drawn; under `log_scale` values are powers of ten."""
        self.clear()
        values = (*line.values, *evaluations.values)
        lowest, highest = _padded(min(values), max(values))
        self.set_ylimits(lowest, highest)
        steps = (*line.steps, *evaluations.steps, *non_finite_steps)
        first, last = min(steps), max(steps)
        self.set_xlimits(first, last + _RIGHT_MARGIN * (last - first) if last > first else first + 1)
        self.set_y_formatter(PowerOfTenFormatter() if log_scale else LossFormatter())
        self.set_x_formatter(StepFormatter())
        self.plot(line.steps, line.values, line_style=_LINE_STYLE, hires_mode=HiResMode.BRAILLE)
        if len(line) == 1:
            self.scatter(line.steps, line.values, marker="•", marker_style=_LINE_STYLE)
        floor = [lowest] * len(non_finite_steps)
        self.scatter(non_finite_steps, floor, marker=NON_FINITE_MARK, marker_style=_NON_FINITE_STYLE)
        self.scatter(evaluations.steps, evaluations.values, marker=EVALUATION_MARK, marker_style=_EVALUATION_STYLE)


class StepFormatter(NumericAxisFormatter):
    """Whole steps only."""

    def get_ticks(self, min_: float, max_: float, max_ticks: int = 8) -> list[float]:
        """Ticks at whole numbers."""
        return [tick for tick in super().get_ticks(min_, max_, max_ticks) if tick == round(tick)]

    def get_labels_for_ticks(self, ticks: Sequence[float]) -> list[str]:
        """Steps as they are, thousands as `k`."""
        return [f"{tick / 1000:g}k" if tick >= 10_000 else f"{tick:.0f}" for tick in ticks]


class LossFormatter(NumericAxisFormatter):
    """Few ticks, so that they do not crowd a low chart."""

    def get_ticks(self, min_: float, max_: float, max_ticks: int = 5) -> list[float]:
        """At most five ticks."""
        return super().get_ticks(min_, max_, 5)


class PowerOfTenFormatter(AxisFormatter):
    """Labels for an axis of base-10 logarithms: 1, 2 and 5 of each decade, or fewer where there are many."""

    def get_ticks(self, min_: float, max_: float, max_ticks: int = 8) -> list[float]:
        """Logarithms of round values within the axis."""
        decades = range(math.floor(min_), math.ceil(max_) + 1)
        for digits in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3), (1,)):
            ticks = [decade + math.log10(digit) for decade in decades for digit in digits]
            inside = [tick for tick in ticks if min_ <= tick <= max_]
            if len(inside) <= max_ticks:
                break
        return inside or [min_, max_]

    def get_labels_for_ticks(self, ticks: Sequence[float]) -> list[str]:
        """The values that the logarithms stand for."""
        return [f"{10**tick:.3g}" for tick in ticks]


def legend(curve: Curve) -> Text:
    """What the marks mean, with the newest value of each."""
    parts = [Text.assemble(("━ ", _LINE_STYLE), "training, each step")] if curve.line else []
    if curve.evaluations:
        newest = format_loss(curve.evaluations.values[-1])
        parts.append(Text.assemble((f"{EVALUATION_MARK} ", _EVALUATION_STYLE), f"held-out, newest {newest}"))
    if curve.non_finite_steps:
        count = len(curve.non_finite_steps)
        parts.append(
            Text.assemble((f"{NON_FINITE_MARK} ", _NON_FINITE_STYLE), f"{count} step(s) without a finite loss")
        )
    return Text("   ").join(parts)


def _padded(lowest: float, highest: float) -> tuple[float, float]:
    margin = 0.04 * (highest - lowest) or max(abs(highest), 1.0) * 0.1
    return lowest - margin, highest + margin
