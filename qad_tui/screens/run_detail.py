"""One run, full screen, in tabs: Overview, Curves, Log, Config, Chain."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import TabbedContent, TabPane

from qad_tui import run_facts
from qad_tui.formats import short_run_name, shorten_middle
from qad_tui.panes.base import RunPane
from qad_tui.panes.chain import ChainPane
from qad_tui.panes.config import ConfigPane
from qad_tui.panes.curves import CurvesPane
from qad_tui.panes.log import LogPane
from qad_tui.panes.overview import OverviewPane
from qad_tui.screens.base import QadScreen
from qad_tui.states import LOOKS
from qad_tui.widgets.words import Words

TABS_WIDTH = 50
"""Cells of the names of the tabs, and of the gaps beside the run's."""
SHORTEST_NAME = 12


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
        Binding("tab", "next_tab(1)", "Next tab", id="run.next_tab", show=False),
        Binding("shift+tab", "next_tab(-1)", "Previous tab", id="run.previous_tab", show=False),
        Binding("C", "clone", "Clone", id="run.clone", show=False),
        Binding("f", "clone_with_fix", "Clone with the fix", id="run.fix", show=False),
        Binding("Y", "copy_command", "Copy the command", id="run.copy", show=False),
    ]

    def __init__(self, path: Path, *, tab: str = "overview") -> None:
        super().__init__()
        self.path = path
        self._first_tab = tab
        self._was_seen = False

    def compose_body(self) -> ComposeResult:
        """The tabs, and beside their names whose they are."""
        yield Words("", id="run-title")
        yield Words("", id="run-gone")
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
        gone = self.query_one("#run-gone", Words)
        gone.say(run_facts.gone())
        gone.display = False
        for pane in self.query(RunPane):
            pane.show_run(self.path)
        super().on_mount()
        self._give_keys()

    def tick(self) -> None:
        """The run may have come to another state."""
        super().tick()
        self._draw_title()

    def fleet_changed(self) -> None:
        """The run folder may have vanished."""
        row = self.qad.fleet.rows.get(self.path)
        self._was_seen = self._was_seen or row is not None
        line = self.query_one("#run-gone", Words)
        line.display = row.gone if row is not None else self._was_seen
        self.query_one("#run-title").set_class(line.display, "-lower")
        self._draw_title()

    def on_resize(self) -> None:
        """There is another room for the name."""
        self._draw_title()

    @property
    def _tab(self) -> str:
        tabs = self.query(TabbedContent)
        return tabs.first().active if tabs else self._first_tab

    def action_open_tab(self, tab: str) -> None:
        """Go to a tab."""
        self.query_one(TabbedContent).active = tab
        self._give_keys()

    def action_next_tab(self, step: int) -> None:
        """Go to the tab beside this one."""
        tabs = [str(pane.id) for pane in self.query(TabPane)]
        self.action_open_tab(tabs[(tabs.index(self._tab) + step) % len(tabs)])

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

    def _draw_title(self) -> None:
        """Name the run beside the tabs; the Overview names it itself."""
        title = self.query_one("#run-title", Words)
        row = self.qad.fleet.rows.get(self.path)
        look = LOOKS[row.state if row else "gone" if self._was_seen else "unknown"]
        name = row.run.name if row else self.path.name
        room = self.size.width - TABS_WIDTH
        title.display = self._tab != "overview" and room >= SHORTEST_NAME
        short = shorten_middle(short_run_name(name), room - 2)
        title.say(Text.assemble((f"{look.mark} ", look.style), (short, "bold")))
