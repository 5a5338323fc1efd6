"""Charts of a run, read on in a thread: all metrics in a grid, or one with the room to itself.

Owns what is read and shown; the keys that change it are `curves.CurvesPane`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.message import Message
from textual.widgets import Input, Static
from textual.worker import Worker, get_current_worker  # pyright: ignore[reportUnknownVariableType]

from qad_tui.charts import Chart, CurveOptions, XRange
from qad_tui.curve_data import CE_LOSS, KD_LOSS
from qad_tui.fleet import RunRow
from qad_tui.panes.base import RunPane
from qad_tui.run_follower import LOSS_ONLY, CurveFollower, Curves, CurvesWanted, Followers
from qad_tui.widgets.chart import ChartView
from qad_tui.widgets.curve_grid import CurveGrid


@dataclass
class CurvesRead(Message, bubble=False):
    """The metrics were read on."""

    path: Path
    curves: Curves


class BigChart(ChartView, can_focus=True):
    """The chart that has the room to itself."""


def starts_of(row: RunRow) -> tuple[tuple[float, str], ...]:
    """Unix time and label of each start of a run."""
    return tuple(
        (job.started, f"job {job.slurm_job_id}" if job.slurm_job_id else "restart")
        for job in row.view.jobs
        if job.started is not None
    )


class CurveCharts(RunPane):
    """With `loss_only`, one chart of the loss, for a screen that shows other things too."""

    def __init__(self, *, loss_only: bool = False) -> None:
        super().__init__()
        self.curves: Curves | None = None
        self.opened: str | None = None
        """The metric that has the room to itself."""
        self.view: XRange | None = None
        self.loss_only = loss_only
        self.filter_text = ""
        self._followers = Followers(CurveFollower)

    def compose(self) -> ComposeResult:
        """Words, the filter, and the grid or the one chart."""
        yield Static("", id="curve-words")
        yield Input(placeholder="part of a metric's name", id="curve-filter", compact=True, disabled=True)
        if not self.loss_only:
            yield CurveGrid()
        yield BigChart()

    @property
    def options(self) -> CurveOptions:
        """How curves are shown, on all screens."""
        return self.qad.curve_options

    @property
    def keys(self) -> Sequence[str]:
        """Metrics that the filter lets through."""
        known = self.curves.keys if self.curves else ()
        charts = self.curves.charts if self.curves else {}
        titles = {key: charts[key].title.lower() if key in charts else "" for key in known}
        return [key for key in known if self.filter_text in key.lower() or self.filter_text in titles[key]]

    @property
    def shows_grid(self) -> bool:
        """Whether all metrics are shown, rather than one."""
        return not self.loss_only and self.opened is None and bool(self.curves and self.curves.keys)

    def run_changed(self) -> None:
        """Show what was last seen of this run, where it was looked at before."""
        self.opened = self.view = None
        self.query_one(BigChart).cursor = None
        last = self._followers.get(self.path).last if self.path else None
        self.curves = last if last is not None and self._fits(last) else None

    def read(self) -> None:
        """Read the metrics on."""
        if self.path is not None:
            follower = self._followers.get(self.path)
            if follower.ask(self._wanted()):
                self._serve_in_thread(follower)

    def _wanted(self) -> CurvesWanted:
        only = LOSS_ONLY if self.loss_only else self.opened
        chart = self.query_one(BigChart) if only is not None else self.query_one(CurveGrid)
        return CurvesWanted(chart.columns, only, self.options, self.view, self._starts())

    def _starts(self) -> tuple[tuple[float, str], ...]:
        return starts_of(self.row) if self.row is not None else ()

    @work(thread=True, group="curves", exclusive=True)
    def _serve_in_thread(self, follower: CurveFollower) -> None:
        worker = cast("Worker[None]", get_current_worker())
        for curves in follower.serve(lambda: worker.is_cancelled):
            self.post_message(CurvesRead(follower.path, curves))

    @on(CurvesRead)
    def _keep(self, message: CurvesRead) -> None:
        if message.path == self.path and self._fits(message.curves):
            self.curves = message.curves
            self.redraw()

    def _fits(self, curves: Curves) -> bool:
        """Whether these are of what is looked at now; else the right ones are on their way."""
        now, then = self._wanted(), curves.wanted
        return then is not None and (now.only, now.options, now.view) == (then.only, then.options, then.view)

    def redraw(self) -> None:
        """Draw the charts; those that did not change cost nothing."""
        curves, big = self.curves, self.query_one(BigChart)
        self._say()
        self._choose_part()
        if curves is None:
            big.show(None, title="Curves")
        elif self.shows_grid:
            charts = curves.charts
            self.query_one(CurveGrid).show(
                self.keys, lambda key: self.as_wanted(charts[key]) if key in charts else None
            )
        else:
            chart = next(iter(curves.charts.values()), Chart())
            chart = replace(self.as_wanted(chart), empty_words=curves.empty_words or chart.empty_words)
            big.show(chart, title=self._title_of(chart))

    def _choose_part(self) -> None:
        """Have the grid or the one chart on display, and the focus on it if it was on the other."""
        big = self.query_one(BigChart)
        if self.loss_only or big.display != self.shows_grid:
            return
        grid = self.query_one(CurveGrid)
        had_focus = self.screen.focused in (None, big, grid)
        big.display, grid.display = not self.shows_grid, self.shows_grid
        if had_focus:
            self.call_after_refresh(self.focus_charts)

    def as_wanted(self, chart: Chart) -> Chart:
        """The chart in the view and on the scale that are wanted, though its lines may be cut for those before."""
        return replace(chart, view=self.view, log_scale=self.options.log_scale)

    def _title_of(self, chart: Chart) -> str:
        name = chart.title
        if self.loss_only and chart.lines:
            twins = {loss.name: loss.evaluation_name for loss in (KD_LOSS, CE_LOSS)}
            name = f"{name} and {twins[name]}" if name in twins else name
        parts = [name or "Curves", self.options.words(), "zoomed" if self.view else ""]
        return " · ".join(part for part in parts if part)

    def _say(self) -> None:
        parts = [f"⚠ {self.curves.problem}"] if self.curves and self.curves.problem else []
        if self.shows_grid and self.curves is not None:
            first = next(iter(self.curves.charts.values()), Chart())
            parts += [*first.notes, self.options.words(), "zoomed: 0 shows all" if self.view else ""]
            if self.filter_text:
                parts.append(
                    f"{len(self.keys)} of {len(self.curves.keys)} metrics match {self.filter_text!r}: esc shows all"
                )
        words, line = "   ".join(part for part in parts if part), self.query_one("#curve-words", Static)
        line.display = bool(words)
        if words != str(line.content):
            line.update(Text(words))

    @on(ChartView.Resized)
    def _read_for_width(self) -> None:
        if self.is_on_display:
            self.read()

    def take_keys(self) -> None:
        """Have the keys go to the charts, or on to the line that is being typed."""
        if not isinstance(self.screen.focused, Input):
            self.focus_charts()

    def focus_charts(self) -> None:
        """Have the keys go to the charts."""
        if self.is_on_display:
            self.screen.set_focus(self.query_one(CurveGrid) if self.shows_grid else self.query_one(BigChart))

    @on(CurveGrid.MetricOpened)
    def _open_metric(self, message: CurveGrid.MetricOpened) -> None:
        self.open_metric(message.key)

    def open_metric(self, key: str | None) -> None:
        """Give one metric the room; None shows all."""
        known = self.curves
        self.opened = key
        self.query_one(BigChart).cursor = None
        if known is not None and key is not None:  # what the small chart shows, until the detail has been read
            self.curves = replace(known, charts={key: known.charts[key]} if key in known.charts else {})
        self.redraw()
        self.read()
        self.call_after_refresh(self.focus_charts)

    @on(ChartView.ViewWanted)
    def _keep_view(self, message: ChartView.ViewWanted) -> None:
        self.look_at(message.view)

    def look_at(self, view: XRange | None) -> None:
        """Show this part of the x axis; None is all of it."""
        if view != self.view:
            self.view = view
            self.redraw()
            self.read()

    def change_options(self, **changes: object) -> None:
        """Show curves in another way, on all screens."""
        self.qad.curve_options = replace(self.options, **changes)  # pyright: ignore[reportArgumentType]
        self.redraw()
        self.read()
