"""How many links more for a run: a number, and the command that will put them into the queue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from qad_tui.formats import short_run_name
from qad_tui.headless import command_line

MOST_LINKS = 99


class AddLinksScreen(ModalScreen[tuple[str, ...] | None]):
    """Dismisses with the arguments of `qad_core submit`, or None."""

    CSS_PATH = "../styles/confirm.tcss"
    AUTO_FOCUS: ClassVar[str | None] = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "refuse", "No", id="links.no")]

    def __init__(self, path: Path, live: Sequence[str]) -> None:
        """Ask for the run in `path`; `live` are the ids of its links in the queue, behind which new ones go."""
        super().__init__()
        self.path = path
        self.live = tuple(live)

    def compose(self) -> ComposeResult:
        """One box."""
        with Vertical(id="add-links") as box:
            box.border_title = " Add links "
            box.border_subtitle = " enter submits · escape does not "
            yield Static(Text(f"How many links more for {short_run_name(self.path.name)}?", "bold"), id="question")
            yield Input("1", type="integer", max_length=2, id="count")
            yield Static("", id="said")

    def on_mount(self) -> None:
        """Show the command."""
        self._show_command()

    @on(Input.Changed)
    def _show_command(self) -> None:
        arguments = self._arguments()
        said = self.query_one("#said", Static)
        if arguments is None:
            said.update(Text(f"⚠ a number from 1 to {MOST_LINKS}", "yellow"))
            return
        where = f"behind job {self.live[-1]}, the last in the queue" if self.live else "the run has none in the queue"
        said.update(Text(f"{where}\n{command_line(arguments)}"))

    @on(Input.Submitted)
    def _submit(self) -> None:
        arguments = self._arguments()
        if arguments is not None:
            self.dismiss(arguments)

    def action_refuse(self) -> None:
        """Submit nothing."""
        self.dismiss(None)

    def _arguments(self) -> tuple[str, ...] | None:
        text = self.query_one("#count", Input).value
        if not text.isdecimal() or not 1 <= int(text) <= MOST_LINKS:
            return None
        after = ("--after", f"afterany:{self.live[-1]}") if self.live else ()
        return ("submit", str(self.path), "--links", str(int(text)), *after)
