"""A chart of one or several lines: `ChartView.show(Chart(...))`.

Owns colours, the cursor that reads values out, and mouse and zoom. It does no I/O and cuts no data: who shows the
chart hears of a new view by ViewWanted, and shows a chart with the detail of that view. Until then the lines that
are there are drawn in it. A chart that is equal to the one before is not drawn again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, cast

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events, on
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from qad_tui.chart_drawing import LEFT_COLUMNS, Drawing, draw_chart
from qad_tui.chart_legend import Row
from qad_tui.charts import (
    Band,
    Border,
    Chart,
    CurveOptions,
    Line,
    Points,
    XAxis,
    XRange,
)

if TYPE_CHECKING:
    from textual.app import App

__all__ = ["Band", "Border", "Chart", "ChartView", "CurveOptions", "Line", "Points", "XAxis", "XRange"]

PALETTES = {
    True: ("#56b4e9", "#e69f00", "#2fbf8f", "#e07ab8", "#f0e442", "#9a8cff", "#ff7f6e", "#c0c0c0"),
    False: ("#0072b2", "#b35900", "#007a55", "#a8397e", "#7a6a00", "#5b3fc4", "#b3261e", "#444444"),
}
"""Colours of lines on a dark and on a light background, after Okabe and Ito's for any colour vision."""
READING = Chart(empty_words="reading …")
ZOOM_FACTOR = 0.7
PAN_SHARE = 0.2


class ChartView(Widget):
    """Draws a Chart; with `interactive`, wheel and drag zoom and pan it."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"chart--{role}" for role in ("axis", "tick", "border", "nan", "cursor", "word", "note", "mark")
    }
    ALLOW_SELECT = False

    @dataclass
    class ViewWanted(Message):
        """A person has zoomed or panned; None is the whole axis."""

        view: XRange | None
        chart_view: ChartView

    class Resized(Message):
        """There is room for more detail, or for less."""

    @dataclass
    class Clicked(Message):
        """A click that was no drag."""

        chart_view: ChartView

    def __init__(self, *, legend: bool = True, interactive: bool = True, classes: str | None = None) -> None:
        super().__init__(classes=classes)
        self.chart: Chart | None = None
        self.cursor: float | None = None
        """x whose values are read out."""
        self.drawn = 0
        """How often the chart has been drawn."""
        self._legend, self._interactive = legend, interactive
        self._drawing: Drawing | None = None
        self._drawn_for: tuple[object, ...] = ()
        self._dragged_from: int | None = None
        self._title = ""

    @property
    def columns(self) -> int:
        """Cells that lines have across, for the decimation; before it has a place, those that it will have at most."""
        parent = self.parent
        width = self.size.width or (parent.size.width if isinstance(parent, Widget) else 0)
        return max(10, width - LEFT_COLUMNS)

    def show(self, chart: Chart | None, *, title: str | None = None) -> None:
        """Show a chart, or None while it is being read; `title` stands in the border, the chart's own if not given."""
        if chart != self.chart:
            self.chart = chart
            self.refresh()
        words = (chart.title if chart else "") if title is None else title
        if words != self._title:
            self._title = words
            self.border_title = Text(f" {words} ") if words else None

    def zoom(self, factor: float, at: float | None = None) -> None:
        """Make the view so many times as wide; x = `at` keeps its place, the middle or the cursor if not given."""
        if self.chart is not None:
            self._want(zoomed(self.chart, factor, self.cursor if at is None else at))

    def pan(self, share: float) -> None:
        """Move the view by a share of its width."""
        if self.chart is not None and self.chart.view is not None and self.chart.whole is not None:
            self._want(self.chart.view.moved(share, self.chart.whole))

    def show_all(self) -> None:
        """Go back to the whole axis."""
        self._want(None)

    def toggle_cursor(self) -> None:
        """Read values out at a cursor that begins at the newest value, or stop it."""
        shown = (self.chart.view or self.chart.whole) if self.chart else None
        self.cursor = shown.last if self.cursor is None and shown is not None else None
        self.refresh()

    def move_cursor(self, columns: int) -> None:
        """Move the cursor by so many cells."""
        scale = self._drawing.x_scale if self._drawing else None
        if self.cursor is not None and scale is not None:
            dot = scale.dot(self.cursor) + 2 * columns
            self.cursor = scale.value(min(max(dot, 0), scale.dots - 1))
            self.refresh()

    def _want(self, view: XRange | None) -> None:
        if self.chart is not None and view != self.chart.view:
            self.show(replace(self.chart, view=view), title=self._title)
            self.post_message(self.ViewWanted(view, self))

    def render_line(self, y: int) -> Strip:
        """One row of the drawing."""
        rows = self._draw(self.size).rows
        if y >= len(rows):
            return Strip.blank(self.size.width, self.rich_style)
        return self._strip(rows[y])

    def _draw(self, size: Size) -> Drawing:
        wanted = (self.chart, size, self.cursor)
        if self._drawing is None or wanted != self._drawn_for:
            chart = READING if self.chart is None else self.chart
            self._drawing = draw_chart(chart, size.width, size.height, legend=self._legend, cursor=self.cursor)
            self._drawn_for = wanted
            self.drawn += 1
        return self._drawing

    def _strip(self, row: Row) -> Strip:
        # Every segment has a style: without one, Textual's NO_COLOR filter fails (8.2.8).
        strip = Strip([Segment(text, self._style(role)) for text, role in row])
        return strip.adjust_cell_length(self.size.width, self.rich_style)

    def _style(self, role: str) -> Style:
        kind, number = role.rstrip("0123456789"), role.lstrip("abcdefghijklmnopqrstuvwxyz")
        if not number:
            return self.get_component_rich_style(f"chart--{kind}")
        palette = PALETTES[cast("App[None]", self.app).current_theme.dark]
        colour = palette[int(number) % len(palette)]
        return self.rich_style + Style(color=colour, bold=kind == "line", dim=kind == "dim")

    @on(events.MouseScrollDown)
    @on(events.MouseScrollUp)
    def _zoom_by_wheel(self, event: events.MouseScrollDown | events.MouseScrollUp) -> None:
        if self._interactive and not (event.ctrl or event.shift):
            event.stop()
            factor = ZOOM_FACTOR if isinstance(event, events.MouseScrollUp) else 1 / ZOOM_FACTOR
            self.zoom(factor, self._x_under(event))

    @on(events.MouseDown)
    def _begin_drag(self, event: events.MouseDown) -> None:
        if self._interactive and event.button == 1:
            self._dragged_from = event.screen_x
            self.capture_mouse()

    @on(events.MouseMove)
    def _drag(self, event: events.MouseMove) -> None:
        if self._dragged_from is not None:
            moved, self._dragged_from = event.screen_x - self._dragged_from, event.screen_x
            self.pan(-moved / self.columns)
        elif self.cursor is not None and (x := self._x_under(event)) is not None:
            self.cursor = x
            self.refresh()

    @on(events.MouseUp)
    def _end_drag(self) -> None:
        if self._dragged_from is not None:
            self._dragged_from = None
            self.release_mouse()

    @on(events.Resize)
    def _tell_size(self) -> None:
        self.post_message(self.Resized())

    @on(events.Click)
    def _tell_click(self) -> None:
        self.post_message(self.Clicked(self))

    def _x_under(self, event: events.MouseEvent) -> float | None:
        offset = event.get_content_offset(self)
        return self._drawing.x_at(offset.x) if offset is not None and self._drawing is not None else None


def zoomed(chart: Chart, factor: float, at: float | None = None) -> XRange | None:
    """The chart's view, `factor` times as wide about x = `at`, or about its middle; None is the whole axis."""
    whole = chart.whole
    if whole is None or whole.width <= 0:
        return None
    view = chart.view or whole
    inside = at is not None and view.first <= at <= view.last
    return view.zoomed(factor, at if at is not None and inside else (view.first + view.last) / 2, whole)
