"""The log of one run, full screen."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer

from qad_tui.formats import short_run_name
from qad_tui.screens.following import FollowingScreen
from qad_tui.widgets.log_view import LogView
from qad_tui.widgets.top_bar import TopBar


class LogScreen(FollowingScreen):
    """Every row for the log; Escape or `l` goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,l", "dismiss", "Back", id="log.back")]

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def compose(self) -> ComposeResult:
        """Bar, log, keys."""
        yield TopBar()
        yield LogView()
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Show what was last seen of the log, then read on."""
        self.call_after_refresh(self.follow, self._path)

    def redraw(self) -> None:
        """Draw bar and log."""
        if self.detail is not None:
            self.query_one(LogView).show(self.detail.log)
        title = Text.assemble(("qad-tui", "bold"), "   ", short_run_name(self._path.name))
        self.query_one(TopBar).show(title, self.freshness())
