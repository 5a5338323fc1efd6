"""Reads what a comparison shows, in threads: each run's metrics, in what their configs differ; and writes its files.

Owns that one thread reads a run, and that configs are read again only where the runs are others. It shows nothing;
what was found out goes up as messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from textual import on, work
from textual.message import Message
from textual.widget import Widget
from textual.worker import Worker, get_current_worker  # pyright: ignore[reportUnknownVariableType]

from qad_core.commands.compare import Exports, export
from qad_core.errors import QadError, explain_os_error
from qad_core.run.comparison import Differences, find_differences
from qad_core.run.store import RunSummary
from qad_core.seen import is_there
from qad_tui.charts import CurveOptions
from qad_tui.run_follower import CurveFollower, Curves, CurvesWanted, Followers


class ComparisonReader(Widget):
    """Takes no room on the screen."""

    @dataclass
    class CurvesRead(Message):
        """One run's metrics were read on."""

        path: Path
        curves: Curves

    @dataclass
    class DifferencesFound(Message):
        """The runs' configs were compared."""

        paths: tuple[Path, ...]
        differences: Differences

    @dataclass
    class Exported(Message):
        """The files were written, or not."""

        written: tuple[Path, ...]
        problem: str = ""

    def __init__(self, most_runs: int) -> None:
        """Keep what was read of so many runs."""
        super().__init__()
        self.display = False
        self.differences: Differences | None = None
        """In what the configs differ; None while they are being read."""
        self._compared: tuple[Path, ...] = ()
        self._followers = Followers(CurveFollower, most_runs)

    def read_curves(self, path: Path, wanted: CurvesWanted) -> None:
        """Read a run's metrics on, and cut them as they are wanted."""
        follower = self._followers.get(path)
        if follower.ask(wanted):
            self._serve_in_thread(follower)

    def compare_configs(self, runs: Sequence[RunSummary]) -> None:
        """Compare the configs of these runs, unless they are those that were compared last."""
        paths = tuple(run.path for run in runs)
        if paths != self._compared:
            self._compared, self.differences = paths, None
            self._compare_in_thread(paths, runs)

    @on(DifferencesFound)
    def _keep_differences(self, message: DifferencesFound) -> None:
        if message.paths == self._compared:
            self.differences = message.differences
        else:
            message.stop()

    @work(thread=True, group="curves")
    def _serve_in_thread(self, follower: CurveFollower) -> None:
        worker = cast("Worker[None]", get_current_worker())
        for curves in follower.serve(lambda: worker.is_cancelled):
            self.post_message(self.CurvesRead(follower.path, curves))

    @work(thread=True, group="differences", exclusive=True)
    def _compare_in_thread(self, paths: tuple[Path, ...], runs: Sequence[RunSummary]) -> None:
        self.post_message(self.DifferencesFound(paths, find_differences(runs)))

    @work(thread=True, group="export", exclusive=True)
    def export(self, runs: Sequence[RunSummary], key: str, options: CurveOptions) -> None:
        """Write the metrics as CSV and the chart as SVG, into the working directory, under names that are free."""
        csv, svg = free_path(Path("compare.csv")), free_path(Path(f"compare-{key.replace('/', '-')}.svg"))
        exports = Exports(csv, svg, key, options.log_scale, options.x_axis)
        try:
            self.post_message(self.Exported(tuple(path.absolute() for path in export(runs, exports))))
        except QadError as error:
            self.post_message(self.Exported((), str(error)))
        except OSError as error:
            self.post_message(self.Exported((), str(explain_os_error(error))))


def free_path(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that is not there."""
    number, found = 1, path
    while is_there(found):
        number += 1
        found = path.with_stem(f"{path.stem}-{number}")
    return found
