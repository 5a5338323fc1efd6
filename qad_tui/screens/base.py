"""Base of every screen: the bar on top, and when a screen hears of new things.

The application looks at run folders and at SLURM for all screens, and calls these methods of the one on top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer

from qad_tui.panes.base import RunPane
from qad_tui.slurm_words import bar_words
from qad_tui.widgets.top_bar import TopBar, freshness_words
from qad_tui.widgets.words import Words

if TYPE_CHECKING:
    from qad_tui.app import QadApp

SPLIT_COLUMNS = 100
"""Terminals at least so wide show a list and the thing under its cursor side by side."""


class QadScreen(Screen[None]):
    """Subclasses yield their part in `compose_body` and draw in `fleet_changed`, `slurm_changed` and `tick`."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (SPLIT_COLUMNS, "-split")]  # noqa: RUF012 - as Textual declares it
    PLACE: ClassVar[str] = "runs"
    """Entry of the bar that this screen belongs to."""
    WANTS_QUEUE: ClassVar[bool] = False
    """Whether everyone's jobs and the partitions are asked for while this screen is open."""

    def compose(self) -> ComposeResult:
        """Bar, the screen's own part, keys."""
        yield TopBar()
        yield Words("", id="problems")
        yield from self.compose_body()
        yield Footer(show_command_palette=False, compact=True)

    def compose_body(self) -> ComposeResult:
        """What is between bar and keys."""
        yield from ()

    @property
    def qad(self) -> QadApp:
        """The application, with its settings, its fleet and what SLURM said."""
        return cast("QadApp", self.app)

    @property
    def stands(self) -> bool:
        """Whether its parts are there: they come after the screen itself, and go before it."""
        return self.is_mounted and bool(self.query(TopBar))

    @property
    def split(self) -> bool:
        """Whether there is room for a list and its detail side by side."""
        return self.size.width >= SPLIT_COLUMNS

    def on_mount(self) -> None:
        """Draw what is known already, after the first frame."""
        self.call_after_refresh(self.catch_up)

    def on_screen_resume(self) -> None:
        """Draw what was missed below another screen."""
        self.call_after_refresh(self.catch_up)

    def catch_up(self) -> None:
        """Draw everything as of now."""
        if self.is_current:
            self.fleet_changed()
            self.slurm_changed()
            self.tick()

    @property
    def problems(self) -> list[str]:
        """What stands below the bar: what of the settings cannot be taken."""
        return self.qad.settings.problems

    def _draw_problems(self) -> None:
        line = self.query_one("#problems", Words)
        line.say(Text("\n").join(Text(f"⚠ {problem}") for problem in self.problems))
        line.display = bool(self.problems)

    def fleet_changed(self) -> None:
        """`qad.fleet` is a new one."""

    def slurm_changed(self) -> None:
        """`qad.slurm` is a new one."""

    def tick(self) -> None:
        """Called about once a second while on top: ages grow, and panes read on unless paused."""
        self.draw_bar()
        for pane in self.query(RunPane):
            if pane.is_on_display:
                pane.tick()

    def refresh_now(self) -> None:
        """Read everything once, even while paused."""
        for pane in self.query(RunPane):
            if pane.is_on_display:
                pane.read()

    def draw_bar(self) -> None:
        """Draw the bar: where we are, and how fresh it is; below it what is wrong."""
        self._draw_problems()
        fleet, now = self.qad.fleet, self.qad.now()
        age = now - (self.qad.started_at if fleet.polled_at is None else fleet.polled_at)
        is_first = fleet.polled_at is None
        freshness = freshness_words(age, self.qad.poll_seconds, is_first=is_first, paused=self.qad.paused)
        next_at, wide = self.qad.slurm_next_at, self.size.width >= SPLIT_COLUMNS and not self.WANTS_QUEUE
        slurm = bar_words(self.qad.slurm, now=now, next_at=next_at, wide=wide)
        self.query_one(TopBar).show(self.PLACE, Text("  ").join(part for part in (slurm, freshness) if part))
