"""The run beside the list: in short how it stands, its loss, and the end of its log."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Vertical

from qad_tui.panes.base import RunPane
from qad_tui.panes.curves import CurvesPane
from qad_tui.panes.log import LogPane
from qad_tui.panes.overview import OverviewPane


class RunSide(Vertical):
    """Three panes of the run under the cursor."""

    def __init__(self) -> None:
        super().__init__(id="chosen")
        self.overview = OverviewPane(compact=True)
        self.curves = CurvesPane(loss_only=True)

    def compose(self) -> ComposeResult:
        """The panes."""
        yield self.overview
        yield self.curves
        yield LogPane()

    def show_run(self, path: Path | None) -> None:
        """Show another run, or none."""
        for pane in self.query(RunPane):
            pane.show_run(path)
