"""Keys of the curves of a run: open, zoom, pan, read values out, smooth, scale and filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widgets import Input

from qad_core.run.chart_axes import X_AXES
from qad_tui.charts import SMOOTHINGS, Chart
from qad_tui.panes.curve_charts import BigChart, CurveCharts
from qad_tui.widgets.chart import PAN_SHARE, ZOOM_FACTOR, zoomed
from qad_tui.widgets.curve_grid import CurveGrid


class CurvesPane(CurveCharts):
    """The charts, and what a person does with them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="curves.back"),
        Binding("y", "toggle_log_scale", "Scale", id="curves.log"),
        Binding("s", "smooth", "Smooth", id="curves.smooth"),
        Binding("x", "change_axis", "Axis", id="curves.axis"),
        Binding("plus,equals_sign", "zoom(1)", "Zoom", id="curves.zoom_in", key_display="+"),
        Binding("minus", "zoom(-1)", "Zoom out", id="curves.zoom_out", key_display="-", show=False),
        Binding("0", "show_all", "All", id="curves.all"),
        Binding("left_square_bracket", "pan(-1)", "Pan left", id="curves.pan_left", key_display="[", show=False),
        Binding("right_square_bracket", "pan(1)", "Pan right", id="curves.pan_right", key_display="]", show=False),
        Binding("left", "step_left", "Pan, or cursor, left", id="curves.step_left", show=False),
        Binding("right", "step_right", "Pan, or cursor, right", id="curves.step_right", show=False),
        Binding("v", "toggle_cursor", "Values", id="curves.values"),
        Binding("n", "next_metric(1)", "Metric", id="curves.next"),
        Binding("N", "next_metric(-1)", "Previous metric", id="curves.previous", show=False),
        Binding("slash", "filter", "Filter", id="curves.filter"),
    ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that have nothing to do are left to others."""
        if action == "back":
            return self.opened is not None or bool(self.filter_text) or self.query_one("#curve-filter").display
        if action == "next_metric":
            return self.opened is not None
        if action in ("toggle_cursor", "step_left", "step_right"):
            return not self.shows_grid and self._first_chart() is not None
        return action != "filter" or self.shows_grid

    def action_back(self) -> None:
        """Go back to all metrics, or end the filter."""
        if self.opened is not None:
            key = self.opened
            self.open_metric(None)
            self.query_one(CurveGrid).choose(key)
        else:
            self._end_filter("")

    def action_toggle_log_scale(self) -> None:
        """Linear or logarithmic values."""
        self.change_options(log_scale=not self.options.log_scale)

    def action_smooth(self) -> None:
        """Smooth more, or not at all after the most."""
        self.change_options(smoothing=_next_of(SMOOTHINGS, self.options.smoothing))

    def action_change_axis(self) -> None:
        """Steps, tokens or time below the charts."""
        self.view = None
        self.query_one(BigChart).cursor = None
        self.change_options(x_axis=_next_of(X_AXES, self.options.x_axis))

    def action_zoom(self, direction: int) -> None:
        """See less of the x axis in more detail, or more of it."""
        factor = ZOOM_FACTOR if direction > 0 else 1 / ZOOM_FACTOR
        if not self.shows_grid:
            self.query_one(BigChart).zoom(factor)
        elif (chart := self._first_chart()) is not None:
            self.look_at(zoomed(chart, factor))

    def action_pan(self, direction: int) -> None:
        """Move along the x axis."""
        if not self.shows_grid:
            self.query_one(BigChart).pan(direction * PAN_SHARE)
        elif (chart := self._first_chart()) is not None and chart.view is not None and chart.whole is not None:
            self.look_at(chart.view.moved(direction * PAN_SHARE, chart.whole))

    def _first_chart(self) -> Chart | None:
        charts = list(self.curves.charts.values()) if self.curves else []
        return self.as_wanted(charts[0]) if charts else None

    def action_step_left(self) -> None:
        """Move the cursor, or the view where there is none."""
        self._step(-1)

    def action_step_right(self) -> None:
        """Move the cursor, or the view where there is none."""
        self._step(1)

    def _step(self, direction: int) -> None:
        big = self.query_one(BigChart)
        if big.cursor is None:
            big.pan(direction * PAN_SHARE)
        else:
            big.move_cursor(direction)

    def action_show_all(self) -> None:
        """The whole x axis."""
        self.look_at(None)

    def action_toggle_cursor(self) -> None:
        """Read values out at a cursor, or no longer."""
        self.query_one(BigChart).toggle_cursor()

    def action_next_metric(self, direction: int) -> None:
        """Open the next or the previous metric."""
        keys = list(self.keys)
        if self.opened in keys:
            self.open_metric(keys[(keys.index(self.opened) + direction) % len(keys)])

    def action_filter(self) -> None:
        """Type a part of the names of the metrics that are wanted."""
        field = self.query_one("#curve-filter", Input)
        field.display, field.disabled = True, False
        field.focus()

    @on(Input.Changed, "#curve-filter")
    def _filter_metrics(self, event: Input.Changed) -> None:
        self.filter_text = event.value.strip().lower()
        self.redraw()

    @on(Input.Submitted, "#curve-filter")
    def _keep_filter(self) -> None:
        self._end_filter(self.filter_text)

    def _end_filter(self, text: str) -> None:
        field = self.query_one("#curve-filter", Input)
        field.value = self.filter_text = text
        field.display, field.disabled = False, True
        self.redraw()
        self.focus_charts()


def _next_of(values: Sequence[object], value: object) -> object:
    return values[(values.index(value) + 1) % len(values)]
