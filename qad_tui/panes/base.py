"""Base of a part of a screen that shows one run and reads of it what it needs.

Widgets do no I/O; a pane does it for them, in a thread, while it is on display.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual.containers import Vertical

if TYPE_CHECKING:
    from qad_tui.app import QadApp
    from qad_tui.fleet import RunRow


class RunPane(Vertical):
    """Subclasses read in `read` (in a worker) and draw in `redraw`."""

    def __init__(self) -> None:
        super().__init__()
        self.path: Path | None = None

    @property
    def qad(self) -> QadApp:
        """The application."""
        return cast("QadApp", self.app)

    @property
    def row(self) -> RunRow | None:
        """The run as the fleet knows it; None when no run is shown, or its folder is no run any more."""
        return self.qad.fleet.rows.get(self.path) if self.path else None

    @property
    def is_on_display(self) -> bool:
        """Whether a person can see it."""
        return self.is_mounted and all(node.display for node in self.ancestors_with_self)

    def take_keys(self) -> None:
        """Have the keys go to this pane: its tab was opened, and what is typed ahead is meant for it."""

    def show_run(self, path: Path | None) -> None:
        """Show another run, or none."""
        if path != self.path:
            self.path = path
            self.run_changed()
            self.redraw()
            self.read()

    def run_changed(self) -> None:
        """`path` is another one: forget what was of the run before."""

    def tick(self) -> None:
        """About once a second, while on display."""
        if not self.qad.paused:
            self.read()
        self.redraw()

    def read(self) -> None:
        """Start to read what is new of the run, in a thread."""

    def redraw(self) -> None:
        """Draw what is known as of the app's clock."""
