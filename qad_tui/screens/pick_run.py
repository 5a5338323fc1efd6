"""One run picked out of all, by the arrows or by typing a part of its name."""

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
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from qad_tui.fleet import RunRow
from qad_tui.formats import short_run_name
from qad_tui.run_order import is_wanted, usual_order
from qad_tui.states import LOOKS


class PickRunScreen(ModalScreen[Path | None]):
    """Dismisses with the run's folder, or None."""

    AUTO_FOCUS: ClassVar[str | None] = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Leave", id="pick.leave"),
        Binding("down", "move(1)", "Next", id="pick.next", show=False),
        Binding("up", "move(-1)", "Previous", id="pick.previous", show=False),
    ]

    def __init__(self, title: str, rows: Sequence[RunRow]) -> None:
        """Ask for one of these runs."""
        super().__init__()
        self._title = title
        self._rows = sorted(rows, key=usual_order)

    def compose(self) -> ComposeResult:
        """The words to look for, and the runs."""
        with Vertical(id="picker") as box:
            box.border_title = f" {self._title} "
            box.border_subtitle = " enter takes · escape leaves "
            yield Input(placeholder="part of a name, a tag or a state", compact=True)
            yield OptionList()
            yield Static("", id="none")

    def on_mount(self) -> None:
        """Show all."""
        self._list("")

    @on(Input.Changed)
    def _filter(self, event: Input.Changed) -> None:
        self._list(event.value)

    @on(Input.Submitted)
    def _take_highlighted(self) -> None:
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            self._take(options.get_option_at_index(options.highlighted))

    @on(OptionList.OptionSelected)
    def _take_clicked(self, event: OptionList.OptionSelected) -> None:
        self._take(event.option)

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        options = self.query_one(OptionList)
        if step > 0:
            options.action_cursor_down()
        else:
            options.action_cursor_up()

    def _take(self, option: Option) -> None:
        if option.id is not None:
            self.dismiss(Path(option.id))

    def _list(self, needle: str) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(_option(row) for row in self._rows if is_wanted(row, needle))
        options.highlighted = 0 if options.option_count else None
        options.display = bool(options.option_count)
        said = self.query_one("#none", Static)
        said.display = not options.display
        said.update("No run has this in its name, tag or state." if self._rows else "There is no run to pick.")


def _option(row: RunRow) -> Option:
    look = LOOKS[row.state]
    return Option(Text.assemble((look.mark, look.style), f" {short_run_name(row.run.name)}"), id=str(row.path))
