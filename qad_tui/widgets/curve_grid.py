"""Small charts of all metrics in a grid, with a cursor; as many columns as the width has room for.

Only the charts in sight and those just above and below them are widgets, and they are handed on to other metrics as
the grid is scrolled: two thousand metrics cost as much as thirty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.message import Message

from qad_tui.axes import value_words
from qad_tui.chart_drawing import LEFT_COLUMNS
from qad_tui.charts import Chart
from qad_tui.widgets.chart import ChartView

CHART_WIDTH, CHART_HEIGHT, MOST_COLUMNS = 38, 8, 4
"""The least that a small chart has, and how many stand side by side at most."""


class _Cells(Container):
    """As high as all charts together; above those that are widgets it is empty."""


class CurveGrid(VerticalScroll):
    """Posts MetricOpened on Enter or a click."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", id="curves.open"),
        Binding("left", "move(-1, 0)", "Left", id="curves.left", show=False),
        Binding("right", "move(1, 0)", "Right", id="curves.right", show=False),
        Binding("up,k", "move(0, -1)", "Up", id="curves.up", show=False),
        Binding("down,j", "move(0, 1)", "Down", id="curves.down", show=False),
        Binding("g,home", "go(0)", "First metric", id="curves.first", show=False),
        Binding("G,end", "go(-1)", "Last metric", id="curves.last", show=False),
    ]

    @dataclass
    class MetricOpened(Message):
        """A metric is wanted full screen."""

        key: str

    def __init__(self) -> None:
        super().__init__()
        self.chosen: str = ""
        self.keys: tuple[str, ...] = ()
        self._chart_of: Callable[[str], Chart | None] = lambda key: None
        self._views: dict[str, ChartView] = {}
        self._cells = _Cells()
        self._across = 1

    def compose(self) -> ComposeResult:
        """The charts."""
        yield self._cells

    @property
    def columns(self) -> int:
        """Cells that the lines of one small chart have across, for the decimation."""
        return max(10, self.size.width // self._across - LEFT_COLUMNS - 1)

    def show(self, keys: Sequence[str], chart_of: Callable[[str], Chart | None]) -> None:
        """Show these metrics in this order; only those in sight are asked for, and drawn where they have changed."""
        if not self.is_attached:  # the application is quitting, and the last curves came behind that
            return
        self._chart_of = chart_of
        if tuple(keys) != self.keys:
            self.keys = tuple(keys)
            self.chosen = self.chosen if self.chosen in self.keys else next(iter(keys), "")
            self._fit()
            self.call_after_refresh(self._see_chosen)
        self._draw()

    def choose(self, key: str) -> None:
        """Put the cursor on a metric."""
        self.chosen = key
        self.call_after_refresh(self._see_chosen)
        self._draw()

    def action_move(self, across: int, down: int) -> None:
        """Move the cursor by a cell; at an edge it stays."""
        if self.chosen in self.keys:
            place = self.keys.index(self.chosen)
            column = place % self._across + across
            wanted = place + across + down * self._across
            if 0 <= column < self._across and 0 <= wanted < len(self.keys):
                self.choose(self.keys[wanted])

    def action_go(self, place: int) -> None:
        """Put the cursor on the first or the last metric."""
        if self.keys:
            self.choose(self.keys[place])

    def action_open(self) -> None:
        """Open the metric under the cursor."""
        if self.chosen:
            self.post_message(self.MetricOpened(self.chosen))

    @on(ChartView.Clicked)
    def _open_clicked(self, event: ChartView.Clicked) -> None:
        event.stop()
        for key, view in self._views.items():
            if view is event.chart_view:
                self.choose(key)
                self.action_open()

    @on(events.Resize)
    def _fit(self) -> None:
        if not self.size.width:
            return
        self._across = max(1, min(MOST_COLUMNS, self.size.width // CHART_WIDTH, len(self.keys)))
        styles, down = self._cells.styles, math.ceil(len(self.keys) / self._across)
        styles.grid_size_columns = self._across
        is_all_in_sight = self.size.height >= down * CHART_HEIGHT
        styles.grid_rows = "1fr" if is_all_in_sight else str(CHART_HEIGHT)
        styles.height = "100%" if is_all_in_sight else down * CHART_HEIGHT
        self._place()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Other charts come into sight."""
        super().watch_scroll_y(old_value, new_value)
        self._place()

    def _place(self) -> None:
        """Have widgets for the metrics in sight, with a row more on either side."""
        top = max(0, int(self.scroll_y) // CHART_HEIGHT - 1)
        bottom = (int(self.scroll_y) + self.size.height) // CHART_HEIGHT + 2
        near = self.keys[top * self._across : bottom * self._across]
        if near != tuple(self._views):
            self._hand_on(near)
            self._cells.styles.padding = (top * CHART_HEIGHT, 0, 0, 0)
            self._draw()

    def _hand_on(self, near: Sequence[str]) -> None:
        before, wanted = self._views, set(near)
        spare = [view for key, view in before.items() if key not in wanted]
        self._views = {key: before.get(key) or (spare.pop() if spare else self._make_view()) for key in near}
        for view in spare:
            view.remove()
        order = {view: place for place, view in enumerate(self._views.values())}
        if order:
            self._cells.sort_children(
                key=lambda view: order.get(view, len(order)) if isinstance(view, ChartView) else 0
            )

    def _make_view(self) -> ChartView:
        view = ChartView(legend=False, interactive=False)
        self._cells.mount(view)
        return view

    def _draw(self) -> None:
        for key, view in self._views.items():
            chart = self._chart_of(key)
            view.show(chart, title=_title(chart))
            view.set_class(key == self.chosen, "-chosen")

    def _see_chosen(self) -> None:
        """Scroll no further than it takes."""
        if self.chosen in self.keys:
            top = self.keys.index(self.chosen) // self._across * CHART_HEIGHT
            y = min(top, max(self.scroll_y, top + CHART_HEIGHT - self.size.height))
            if y != self.scroll_y:
                self.scroll_to(y=y, animate=False, immediate=True, force=True)


def _title(chart: Chart | None) -> str:
    if chart is None or not chart.lines:
        return ""
    first, *others = chart.lines
    return chart.title if others else f"{chart.title}  {value_words(first.newest)}"
