"""Small charts of all metrics of a run in a grid, with a cursor; as many columns as the width has room for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message

from qad_tui.axes import value_words
from qad_tui.chart_drawing import LEFT_COLUMNS
from qad_tui.charts import Chart
from qad_tui.widgets.chart import ChartView

CHART_WIDTH, CHART_HEIGHT, MOST_COLUMNS = 38, 8, 4
"""The least that a small chart has, and how many stand side by side at most."""


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
        self._views: dict[str, ChartView] = {}
        self._across = 1

    @property
    def columns(self) -> int:
        """Cells that the lines of one small chart have across, for the decimation."""
        return max(10, self.size.width // self._across - LEFT_COLUMNS - 1)

    def show(self, keys: Sequence[str], charts: Mapping[str, Chart]) -> None:
        """Show these metrics in this order; charts that did not change are not drawn again."""
        if not self.is_attached:  # the application is quitting, and the last curves came behind that
            return
        if tuple(keys) != self.keys:
            self._rebuild(tuple(keys))
        for key, view in self._views.items():
            chart = charts.get(key)
            view.show(chart, title=_title(chart))

    def _rebuild(self, keys: tuple[str, ...]) -> None:
        for key in [key for key in self._views if key not in keys]:
            self._views.pop(key).remove()
        for key in keys:
            if key not in self._views:
                self._views[key] = ChartView(legend=False, interactive=False)
                self.mount(self._views[key])
        self.keys = keys
        self._views = {key: self._views[key] for key in keys}
        if self._views:
            order = {view: place for place, view in enumerate(self._views.values())}
            self.sort_children(key=lambda view: order.get(view, len(order)) if isinstance(view, ChartView) else 0)
        self.choose(self.chosen if self.chosen in keys else next(iter(keys), ""))
        self._fit()

    def choose(self, key: str) -> None:
        """Put the cursor on a metric."""
        self.chosen = key
        for each, view in self._views.items():
            view.set_class(each == key, "-chosen")
        if key in self._views:
            self.scroll_to_widget(self._views[key], animate=False)

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
        if not self.size.width or not self.keys:
            return
        self._across = max(1, min(MOST_COLUMNS, self.size.width // CHART_WIDTH, len(self.keys)))
        down = math.ceil(len(self.keys) / self._across)
        self.styles.grid_size_columns = self._across
        self.styles.grid_rows = "1fr" if self.size.height >= down * CHART_HEIGHT else str(CHART_HEIGHT)


def _title(chart: Chart | None) -> str:
    if chart is None or not chart.lines:
        return ""
    return f"{chart.title}  {value_words(chart.lines[0].newest)}"
