"""Reader of one run's metrics that goes on from where it stopped, and keeps what was drawn last.

It runs in worker threads, returns frozen values, and knows nothing of Textual.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from qad_tui.charts import Border, Chart, CurveOptions, XRange
from qad_tui.curve_data import TIME, TOKENS, CurveData, name_of_metric
from qad_tui.curve_sources import CurveSource, find_source, words_of_no_metrics

Follower = TypeVar("Follower")
CHUNK_BYTES = 2**21
"""Between two of them others may run, and a change of mind is heard."""
PARTIAL_SECONDS = 0.15
"""What has come so far is shown after this, and then at twice the distance each time."""
LOSS_ONLY = "loss"
"""In place of a metric's key: the loss, whichever the run has."""


class Followers(Generic[Follower]):
    """The followers of the runs that were looked at lately, so that going back to one shows it at once."""

    def __init__(self, make: Callable[[Path], Follower], capacity: int = 8) -> None:
        self._make = make
        self._capacity = capacity
        self._followers: OrderedDict[Path, Follower] = OrderedDict()

    def get(self, path: Path) -> Follower:
        """The follower of a run, made when it is not there; the one unused for longest is let go."""
        if path not in self._followers:
            self._followers[path] = self._make(path)
        self._followers.move_to_end(path)
        while len(self._followers) > self._capacity:
            self._followers.popitem(last=False)
        return self._followers[path]


@dataclass(frozen=True)
class CurvesWanted:
    """What a person looks at."""

    columns: int
    """Cells that a chart has across."""
    only: str | None = None
    """Key of the one metric that is wanted, or LOSS_ONLY; None is all."""
    options: CurveOptions = field(default_factory=CurveOptions)
    view: XRange | None = None
    starts: tuple[tuple[float, str], ...] = ()
    """Unix time and label of each start of the run."""


@dataclass(frozen=True)
class Curves:
    """The charts of a run, by metric."""

    charts: dict[str, Chart]
    keys: tuple[str, ...] = ()
    """All metrics of the run, in the order in which they are shown."""
    problem: str = ""
    """Why the numbers could not be read on; those that were known are kept."""
    empty_words: str = ""
    """Why there is no chart at all."""
    wanted: CurvesWanted | None = None


class CurveFollower:
    """Serves one wish at a time; the newest counts. `last` is what was served last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: Curves | None = None
        self._data = CurveData()
        self._source: CurveSource | None = None
        self._complete = False
        self._problem = ""
        self._served: tuple[object, ...] = ()
        self._lock = Lock()
        self._wanted: CurvesWanted | None = None
        self._busy = False

    def ask(self, wanted: CurvesWanted) -> bool:
        """Note a wish; true when no thread serves yet, and the caller has to start one that calls `serve`."""
        with self._lock:
            self._wanted = wanted
            was_busy, self._busy = self._busy, True
            return not was_busy

    def serve(self, is_cancelled: Callable[[], bool] = lambda: False) -> Iterator[Curves]:
        """Read on and yield charts, at last the whole ones, until no wish is left; nothing where nothing changed."""
        is_at_end = False
        try:
            while (wanted := self._take()) is not None:
                yield from self._serve(wanted, is_cancelled)
            is_at_end = True
        finally:
            if not is_at_end:  # else `_take` has said so, and another thread may serve by now
                with self._lock:
                    self._busy = False

    def _take(self) -> CurvesWanted | None:
        with self._lock:
            wanted, self._wanted = self._wanted, None
            self._busy = wanted is not None
            return wanted

    def _serve(self, wanted: CurvesWanted, is_cancelled: Callable[[], bool]) -> Iterator[Curves]:
        self._problem = ""
        try:
            self._source = self._source or find_source(self.path)
            if self._source is not None:
                yield from self._read_on(self._source, wanted, is_cancelled)
        except FileNotFoundError:
            pass  # the run folder has gone; what was read of it stays on the screen
        except OSError as error:
            name = self._source.name if self._source else "The run folder"
            self._problem = f"{name} cannot be read: {error.strerror}"
        yield from self._draw(self._data, wanted)

    def _read_on(self, source: CurveSource, wanted: CurvesWanted, is_cancelled: Callable[[], bool]) -> Iterator[Curves]:
        sketch = source.sketch()
        if sketch is not None:
            yield from self._draw(sketch, wanted, f"reading {100 * source.share_read():.0f} % …")
        began, wait = time.monotonic(), PARTIAL_SECONDS
        while source.read_on(self._data, CHUNK_BYTES):
            if is_cancelled():
                return
            if not self._complete and sketch is None and time.monotonic() - began > wait:
                yield from self._draw(self._data, wanted, f"reading {100 * source.share_read():.0f} % …")
                wait *= 2
        self._complete = True

    def _draw(self, data: CurveData, wanted: CurvesWanted, note: str = "") -> Iterator[Curves]:
        notes = ((note,) if note else ()) + (self._source.notes() if self._source else ())
        served = (id(data), data.version, wanted, notes, self._problem)
        if served != self._served:
            self._served = served
            self.last = self._make(data, wanted, notes)
            yield self.last

    def _make(self, data: CurveData, wanted: CurvesWanted, notes: tuple[str, ...]) -> Curves:
        from qad_tui.curve_lines import Cut, cut_line  # numpy: not before there are numbers to draw

        keys = tuple(data.keys())
        axis = wanted.options.x_axis
        if (axis == "tokens" and keys and not data.series(TOKENS)) or (axis == "time" and not data.series(TIME)):
            notes, axis = (*notes, f"no {axis} known: over steps"), "step"
        cut = Cut(wanted.columns, axis, wanted.view, wanted.options.smoothing)
        borders = self._borders(data, wanted)
        shown = keys if wanted.only is None else (data.loss().key if wanted.only == LOSS_ONLY else wanted.only,)
        charts = {
            key: Chart(
                lines=(cut_line(data, key, cut),),
                x_axis=axis,
                log_scale=wanted.options.log_scale,
                title=name_of_metric(key),
                view=wanted.view,
                borders=borders,
                notes=notes,
            )
            for key in shown
        }
        return Curves(charts, keys, self._problem, "" if keys else words_of_no_metrics(self.path), wanted)

    def _borders(self, data: CurveData, wanted: CurvesWanted) -> tuple[Border, ...]:
        from qad_tui.curve_lines import border_at_step, starts_of_jobs

        axis = wanted.options.x_axis
        known = self._source.starts() if self._source else ()
        return (
            *starts_of_jobs(data, wanted.starts, axis),
            *(border_at_step(data, step, "restart", axis) for step in known),
        )
