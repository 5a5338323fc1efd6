"""Base of every screen that shows one run live: reads it in a thread at each tick while it is on top."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual import on, work
from textual.screen import Screen

from qad_tui.messages import OlderLogWanted, RunRead
from qad_tui.run_follower import RunDetail, RunFollower
from qad_tui.widgets.top_bar import freshness_words

if TYPE_CHECKING:
    from qad_tui.app import QadApp

_COLUMNS_WITHOUT_CHART = 80


class FollowingScreen(Screen[None]):
    """Subclasses call `follow`, and draw `detail` in `redraw`."""

    def __init__(self) -> None:
        super().__init__()
        self.followed: Path | None = None
        self.detail: RunDetail | None = None
        self._read_at: float | None = None

    @property
    def qad(self) -> QadApp:
        """The application, with its settings."""
        return cast("QadApp", self.app)

    def on_mount(self) -> None:
        """Begin to tick, after the first frame."""
        self.call_after_refresh(self.tick)
        self.set_interval(self.qad.poll_seconds, self.tick)

    def on_screen_resume(self) -> None:
        """Catch up with what was missed below another screen."""
        self.call_after_refresh(self.tick)

    def tick(self) -> None:
        """Read what is new unless paused or covered; ages grow in any case."""
        if not self.is_current:
            return
        if not self.qad.paused:
            self.read_run()
        self.redraw()

    def refresh_now(self) -> None:
        """Read once, even while paused."""
        self.read_run()

    def follow(self, path: Path | None) -> None:
        """Show another run, at once as last seen where it was looked at before."""
        self.followed = path
        self.detail = self.qad.followers.get(path).last if path else None
        self.redraw()
        self.read_run()

    def read_run(self, *, older_log: bool = False) -> None:
        """Start one read in a thread; it ends in a RunRead message."""
        if self.followed is not None:
            self._read_in_thread(self.qad.followers.get(self.followed), self.chart_columns(), older_log)

    @work(thread=True, group="run")
    def _read_in_thread(self, follower: RunFollower, columns: int, older_log: bool) -> None:
        detail = follower.read(columns, older_log=older_log)
        if detail is not None:
            self.post_message(RunRead(detail))

    @on(RunRead)
    def _keep_detail(self, message: RunRead) -> None:
        if message.detail.path == self.followed:
            self.detail, self._read_at = message.detail, self.qad.now()
            self.redraw()

    @on(OlderLogWanted)
    def _read_older_log(self) -> None:
        self.read_run(older_log=True)

    def freshness(self) -> Text:
        """How old the run on the screen is."""
        age = None if self._read_at is None else self.qad.now() - self._read_at
        return freshness_words(age, poll_seconds=self.qad.poll_seconds, paused=self.qad.paused)

    def chart_columns(self) -> int:
        """Cells that the chart is wide; screens with one say so."""
        return _COLUMNS_WITHOUT_CHART

    def redraw(self) -> None:
        """Draw `detail` as of the app's clock; nothing here, everything in subclasses."""
