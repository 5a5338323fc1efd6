"""Several runs side by side: their curves on one chart, what came of each, and how their configs differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import Static

from qad_core.run.chart_axes import X_AXES
from qad_core.run.store import RunSummary
from qad_tui.charts import SMOOTHINGS, CurveOptions, XRange
from qad_tui.curve_data import loss_of_line
from qad_tui.overlay import SIGNS, metric_keys, overlay
from qad_tui.panes.comparison_reader import ComparisonReader
from qad_tui.panes.curve_charts import BigChart, starts_of
from qad_tui.run_follower import LOSS_ONLY, Curves, CurvesWanted
from qad_tui.screens.base import QadScreen
from qad_tui.screens.pick_run import PickRunScreen
from qad_tui.widgets.chart import PAN_SHARE, ZOOM_FACTOR, ChartView
from qad_tui.widgets.comparison_view import ComparisonView
from qad_tui.widgets.curve_grid import CurveGrid
from qad_tui.widgets.words import Words

MOST_RUNS = len(SIGNS)
ONE_CHART_ACTIONS = frozenset({"next_metric", "zoom", "show_all", "step", "toggle_cursor"})
NOT_LISTED = "it is not among the runs that are shown; its folder may be gone"


class CompareScreen(QadScreen):
    """Compares `qad.selected`; runs can be added and taken away here too."""

    PLACE = "compare"
    CSS_PATH = "../styles/compare.tcss"
    AUTO_FOCUS: ClassVar[str | None] = "BigChart"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "add_run", "Add", id="compare.add"),
        Binding("d", "drop_run", "Remove", id="compare.drop"),
        Binding("n", "next_metric(1)", "Metric", id="compare.next"),
        Binding("N", "next_metric(-1)", "Previous metric", id="compare.previous", show=False),
        Binding("m", "toggle_grid", "Grid", id="compare.grid"),
        Binding("y", "toggle_log_scale", "Scale", id="compare.log"),
        Binding("s", "smooth", "Smooth", id="compare.smooth"),
        Binding("x", "change_axis", "Axis", id="compare.axis"),
        Binding("plus,equals_sign", "zoom(1)", "Zoom", id="compare.zoom_in", key_display="+", show=False),
        Binding("minus", "zoom(-1)", "Zoom out", id="compare.zoom_out", key_display="-", show=False),
        Binding("0", "show_all", "All", id="compare.all", show=False),
        Binding("left,left_square_bracket", "step(-1)", "Left", id="compare.left", show=False),
        Binding("right,right_square_bracket", "step(1)", "Right", id="compare.right", show=False),
        Binding("v", "toggle_cursor", "Values", id="compare.values", show=False),
        Binding("j,down", "scroll_tables(1)", "Down", id="compare.down", show=False),
        Binding("k,up", "scroll_tables(-1)", "Up", id="compare.up", show=False),
        Binding("w", "export", "Export", id="compare.export"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.metric: str | None = LOSS_ONLY
        """Key of the metric that has the room to itself; None while all are shown."""
        self.view: XRange | None = None
        self.curves: dict[Path, Curves] = {}
        self._known: dict[Path, RunSummary] = {}

    def compose_body(self) -> ComposeResult:
        """Why it is empty, or chart and tables."""
        yield ComparisonReader(MOST_RUNS)
        yield Static("", id="compare-empty")
        yield Words("", id="compare-problems")
        with Container(id="compare"):
            yield BigChart()
            yield CurveGrid()
            with VerticalScroll(id="compare-tables", can_focus=False):
                yield ComparisonView()

    @property
    def runs(self) -> list[Path]:
        """The runs that are compared."""
        return self.qad.selected[:MOST_RUNS]

    @property
    def options(self) -> CurveOptions:
        """How curves are shown, on all screens."""
        return self.qad.curve_options

    def fleet_changed(self) -> None:
        """Draw the runs as they are now."""
        for path in self.runs:
            if (row := self.qad.fleet.rows.get(path)) is not None:
                self._known[path] = row.run
        self.redraw()

    def tick(self) -> None:
        """Read on."""
        super().tick()
        if not self.qad.paused:
            self.refresh_now()

    def refresh_now(self) -> None:
        """Read the metrics on, and the configs where the runs are others."""
        reader = self.query_one(ComparisonReader)
        for path in self.runs:
            reader.read_curves(path, self._wanted(path))
        reader.compare_configs(self._summaries())

    def _wanted(self, path: Path) -> CurvesWanted:
        row = self.qad.fleet.rows.get(path)
        starts = starts_of(row) if row is not None else ()
        chart = self.query_one(CurveGrid) if self.metric is None else self.query_one(BigChart)
        return CurvesWanted(chart.columns, self.metric, self.options, self.view, starts)

    def _summaries(self) -> list[RunSummary]:
        """The runs as last seen; a vanished one stays."""
        return [self._known[path] for path in self.runs if path in self._known]

    @on(ComparisonReader.CurvesRead)
    def _keep_curves(self, message: ComparisonReader.CurvesRead) -> None:
        wanted = message.curves.wanted
        if wanted is not None and (wanted.only, wanted.view) == (self.metric, self.view):
            self.curves[message.path] = message.curves
            self.redraw()

    @on(ComparisonReader.DifferencesFound)
    def redraw(self) -> None:
        """Draw chart and tables, or why there are none."""
        runs = self._summaries()
        self._say_problems()
        self.query_one("#compare").display = bool(runs)
        empty = self.query_one("#compare-empty", Static)
        empty.display = not self.runs
        if not self.runs:
            empty.update(why_empty())
        if not runs:
            return
        paths = [run.path for run in runs]
        self._draw_charts(paths)
        gone = frozenset(path for path in paths if (row := self.qad.fleet.rows.get(path)) is None or row.gone)
        dark = self.qad.current_theme.dark
        differences = self.query_one(ComparisonReader).differences
        self.query_one(ComparisonView).show(runs, differences, gone=gone, dark=dark)

    def _draw_charts(self, paths: Sequence[Path]) -> None:
        curves = {path: self.curves[path] for path in paths if path in self.curves}
        options, view = self.options, self.view
        if self.metric is None:
            keys = metric_keys(curves)
            self.query_one(CurveGrid).show(keys, lambda key: overlay(curves, paths, key, options, view))
            return
        chart = overlay(curves, paths, self.metric, options, view) if curves else None
        title = " · ".join(part for part in (chart.title if chart else "", options.words()) if part)
        self.query_one(BigChart).show(chart, title=title or "Curves")

    def _say_problems(self) -> None:
        """Name the runs that cannot be read, and the curves that cannot be read on."""
        fleet = self.qad.fleet
        unread = [path for path in self.runs if path not in self._known] if fleet.polled_at is not None else []
        parts = [f"{path.name} is not compared: {fleet.unread.get(path, NOT_LISTED)}" for path in unread]
        for sign, run in zip(SIGNS, self._summaries(), strict=False):
            curves = self.curves.get(run.path)
            parts += [f"{sign}: {curves.problem}"] if curves is not None and curves.problem else []
        line = self.query_one("#compare-problems", Words)
        line.say(Text("\n").join(Text(f"⚠ {part}") for part in parts))
        line.display = bool(parts)

    def action_add_run(self) -> None:
        """Pick one more run."""
        if len(self.runs) >= MOST_RUNS:
            self.notify(f"{MOST_RUNS} runs are as many as can be told apart: d takes one away.", severity="warning")
            return
        rows = [row for path, row in self.qad.fleet.rows.items() if path not in self.runs]
        self.qad.push_screen(PickRunScreen("Add a run", rows), self._add)

    def _add(self, path: Path | None) -> None:
        if path is not None:
            self.qad.selected = [*self.qad.selected, path]
            self.catch_up()

    def action_drop_run(self) -> None:
        """Take a run away."""
        rows = [row for path, row in self.qad.fleet.rows.items() if path in self.runs]
        self.qad.push_screen(PickRunScreen("Take a run away", rows), self._drop)

    def _drop(self, path: Path | None) -> None:
        if path is not None:
            self.qad.selected = [other for other in self.qad.selected if other != path]
            self.curves.pop(path, None)
            self.catch_up()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of one chart have nothing to do while all are shown."""
        return self.metric is not None or action not in ONE_CHART_ACTIONS

    def action_toggle_grid(self) -> None:
        """Show all metrics, or the one under the cursor."""
        grid = self.query_one(CurveGrid)
        if self.metric is None:
            self._show_metric(grid.chosen or LOSS_ONLY)
        else:
            key = self.metric
            self._show_metric(None)
            grid.choose(key)

    @on(CurveGrid.MetricOpened)
    def _open_metric(self, message: CurveGrid.MetricOpened) -> None:
        self._show_metric(message.key)

    def action_next_metric(self, direction: int) -> None:
        """Show the next or the previous metric."""
        keys = metric_keys(self.curves)
        place = keys.index(self.metric) if self.metric in keys else 0
        self._show_metric(keys[(place + direction) % len(keys)])

    def _show_metric(self, key: str | None) -> None:
        self.metric = key
        big, grid = self.query_one(BigChart), self.query_one(CurveGrid)
        big.display, grid.display = key is not None, key is None
        self.set_focus(grid if key is None else big)
        self.curves = {path: replace(curves, charts={}) for path, curves in self.curves.items()}
        self.redraw()
        self.refresh_now()
        self.refresh_bindings()

    def action_toggle_log_scale(self) -> None:
        """Linear or logarithmic values."""
        self._change(log_scale=not self.options.log_scale)

    def action_smooth(self) -> None:
        """Smooth more, or not at all after the most."""
        place = SMOOTHINGS.index(self.options.smoothing)
        self._change(smoothing=SMOOTHINGS[(place + 1) % len(SMOOTHINGS)])

    def action_change_axis(self) -> None:
        """Steps, tokens or time below the chart."""
        self.view = None
        place = X_AXES.index(self.options.x_axis)
        self._change(x_axis=X_AXES[(place + 1) % len(X_AXES)])

    def _change(self, **changes: object) -> None:
        self.qad.curve_options = replace(self.options, **changes)  # pyright: ignore[reportArgumentType]
        self.redraw()
        self.refresh_now()

    def action_zoom(self, direction: int) -> None:
        """See less of the x axis in more detail, or more of it."""
        self.query_one(BigChart).zoom(ZOOM_FACTOR if direction > 0 else 1 / ZOOM_FACTOR)

    def action_show_all(self) -> None:
        """The whole x axis."""
        self.query_one(BigChart).show_all()

    def action_step(self, direction: int) -> None:
        """Move the cursor, or the view where there is none."""
        chart = self.query_one(BigChart)
        if chart.cursor is None:
            chart.pan(direction * PAN_SHARE)
        else:
            chart.move_cursor(direction)

    def action_toggle_cursor(self) -> None:
        """Read values out at a cursor, or no longer."""
        self.query_one(BigChart).toggle_cursor()

    @on(ChartView.ViewWanted)
    def _keep_view(self, message: ChartView.ViewWanted) -> None:
        self.view = message.view
        self.redraw()
        self.refresh_now()

    def action_scroll_tables(self, lines: int) -> None:
        """Scroll the tables."""
        self.query_one("#compare-tables").scroll_relative(y=lines, animate=False)

    def action_export(self) -> None:
        """Write the metrics as CSV and the chart as SVG, into the working directory, under names that are free."""
        runs = self._summaries()
        if runs:
            own_loss = loss_of_line(runs[0].last_training or {}).key
            key = own_loss if self.metric in (None, LOSS_ONLY) else self.metric
            self.query_one(ComparisonReader).export(runs, key, self.options)

    @on(ComparisonReader.Exported)
    def _tell_exported(self, message: ComparisonReader.Exported) -> None:
        if message.problem:
            self.notify(message.problem, severity="error", markup=False)
        else:
            self.notify(f"Wrote {' and '.join(map(str, message.written))}.", markup=False)


def why_empty() -> Text:
    """How runs come here."""
    text = Text.assemble(("No runs to compare yet", "bold"), ".\n\n")
    for key, purpose in (
        ("1", "the runs: space selects some, d compares them"),
        ("a", "add one here"),
        ("qad_core compare A B", "the same without the screen, as CSV and SVG"),
    ):
        text.append(f"  {key:<22}", "bold cyan")
        text.append(f"{purpose}\n")
    return text
