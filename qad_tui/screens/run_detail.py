"""One run, full screen: the drill-down of narrow terminals, and more room on wide ones."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer

from qad_tui.screens.following import FollowingScreen
from qad_tui.widgets.curve_view import CurveView
from qad_tui.widgets.run_panel import RunPanel
from qad_tui.widgets.top_bar import TopBar


class RunDetailScreen(FollowingScreen):
    """Card, curve and log of one run; Escape goes back to the list."""

    AUTO_FOCUS: ClassVar[str | None] = "LogView"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Back", id="run.back")]

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def compose(self) -> ComposeResult:
        """Bar, panel, keys."""
        yield TopBar()
        yield RunPanel()
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Show what was last seen of the run, then read on."""
        self.call_after_refresh(self.follow, self._path)

    def chart_columns(self) -> int:
        """Cells of the full-screen chart."""
        return self.query_one(CurveView).columns

    def redraw(self) -> None:
        """Draw bar and panel."""
        now = self.qad.now()
        self.query_one(RunPanel).show(self.detail, now=now, log_scale=self.qad.log_scale)
        self.query_one(TopBar).show(Text.assemble(("qad-tui", "bold"), "   one run"), self.freshness())
