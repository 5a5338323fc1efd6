"""One run, full screen, in tabs: Overview, Curves, Log, Config, Chain."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import TabbedContent, TabPane

from qad_tui.panes.base import RunPane
from qad_tui.panes.chain import ChainPane
from qad_tui.panes.config import ConfigPane
from qad_tui.panes.curves import CurvesPane
from qad_tui.panes.log import LogPane
from qad_tui.panes.overview import OverviewPane
from qad_tui.screens.base import QadScreen


class RunDetailScreen(QadScreen):
    """Escape goes back; letters go to a tab."""

    CSS_PATH = "../styles/chain.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back", id="run.back"),
        Binding("o", "open_tab('overview')", "Overview", id="run.overview", show=False),
        Binding("c", "open_tab('curves')", "Curves", id="run.curves", show=False),
        Binding("l", "open_tab('log')", "Log", id="run.log", show=False),
        Binding("i", "open_tab('config')", "Config", id="run.config", show=False),
        Binding("h", "open_tab('chain')", "Chain", id="run.chain", show=False),
        Binding("C", "clone", "Clone", id="run.clone", show=False),
        Binding("f", "clone_with_fix", "Clone with the fix", id="run.fix", show=False),
        Binding("Y", "copy_command", "Copy the command", id="run.copy", show=False),
    ]

    def __init__(self, path: Path, *, tab: str = "overview") -> None:
        super().__init__()
        self.path = path
        self._first_tab = tab

    def compose_body(self) -> ComposeResult:
        """The tabs."""
        with TabbedContent(initial=self._first_tab):
            with TabPane("o Overview", id="overview"):
                yield OverviewPane()
            with TabPane("c Curves", id="curves"):
                yield CurvesPane()
            with TabPane("l Log", id="log"):
                yield LogPane()
            with TabPane("i Config", id="config"):
                yield ConfigPane()
            with TabPane("h Chain", id="chain"):
                yield ChainPane()

    def on_mount(self) -> None:
        """Show the run in every pane."""
        for pane in self.query(RunPane):
            pane.show_run(self.path)
        super().on_mount()
        self._give_keys()

    def action_open_tab(self, tab: str) -> None:
        """Go to a tab."""
        self.query_one(TabbedContent).active = tab
        self._give_keys()

    def _give_keys(self) -> None:
        for pane in self.query(RunPane):
            if pane.is_on_display:
                pane.take_keys()

    def action_clone(self) -> None:
        """Start a new run from this one."""
        self.qad.new_run(self.path, ())

    def action_clone_with_fix(self) -> None:
        """Start a new run with the changes that mend this one's failure."""
        self.query_one(OverviewPane).clone_with_fix()

    def action_copy_command(self) -> None:
        """Copy the command that starts this run again."""
        self.query_one(OverviewPane).copy_command()

    @on(TabbedContent.TabActivated)
    def _catch_up_tab(self) -> None:
        self._give_keys()
        self.tick()
