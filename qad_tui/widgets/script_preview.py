"""The exact script or commands that will run, as text that is scrolled both ways and never wrapped."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer
from textual.widgets import Static

from qad_tui.widgets.copying import copy_text


class ScriptPreview(ScrollableContainer, can_focus=True):
    """Comments and #SBATCH lines are told apart by colour; the text can be selected."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", "Line down", id="script.down", show=False),
        Binding("k,up", "scroll_up", "Line up", id="script.up", show=False),
        Binding("g,home", "scroll_home", "First line", id="script.first", show=False),
        Binding("G,end", "scroll_end", "Last line", id="script.last", show=False),
        Binding("y", "copy", "Copy the script", id="script.copy", show=False),
    ]

    def __init__(self, *, id: str = "script") -> None:  # noqa: A002 - as Textual names it
        super().__init__(id=id)
        self.text = ""

    def compose(self) -> ComposeResult:
        """The text."""
        yield Static("", id="script-text")

    def show(self, title: str, text: str) -> None:
        """Show a script under a title."""
        self.border_title = f" {title} "
        if text != self.text:
            self.text = text
            self.query_one("#script-text", Static).update(_picture(text))

    def action_copy(self) -> None:
        """Copy all of it."""
        if self.text:
            copy_text(self, self.text)


def _picture(text: str) -> Text:
    picture = Text(no_wrap=True)
    for line in text.splitlines():
        style = "cyan" if line.startswith("#SBATCH") else "dim" if line.startswith("#") else ""
        picture.append(f"{line}\n", "bold" if line.startswith("$ ") else style)
    return picture
