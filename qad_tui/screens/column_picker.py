"""Which columns the runs' table shows: marked with space, kept for the next time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import SelectionList, Static
from textual.widgets.selection_list import Selection

from qad_tui.widgets.run_table import COLUMN_WORDS

_KEY_WIDTH = 12


class ColumnPicker(ModalScreen[tuple[str, ...] | None]):
    """Dismisses with the chosen columns, empty for those that fit; None leaves them as they are."""

    AUTO_FOCUS: ClassVar[str | None] = "SelectionList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Take these", id="columns.accept", priority=True),
        Binding("a", "automatic", "Those that fit", id="columns.automatic"),
        Binding("escape,q", "dismiss", "Leave", id="columns.leave"),
        Binding("j", "move(1)", "Next", id="columns.next", show=False),
        Binding("k", "move(-1)", "Previous", id="columns.previous", show=False),
    ]

    def __init__(self, shown: Sequence[str]) -> None:
        """Mark the columns that are shown now."""
        super().__init__()
        self._shown = frozenset(shown)

    def compose(self) -> ComposeResult:
        """The list."""
        with Vertical(id="picker") as box:
            box.border_title = " Columns "
            box.border_subtitle = " space marks · enter takes · a those that fit · escape leaves "
            yield Static(Text("Marked ones are shown, as far as the table is wide enough.", "dim"))
            yield SelectionList[str](*(self._selection(key) for key in COLUMN_WORDS))

    @property
    def choices(self) -> SelectionList[str]:
        """The list of columns."""
        return self.query_one(SelectionList)  # pyright: ignore[reportUnknownVariableType]

    def action_accept(self) -> None:
        """Show the marked columns; state and name always."""
        marked = {"state", "name", *self.choices.selected}
        self.dismiss(tuple(key for key in COLUMN_WORDS if key in marked))

    def action_automatic(self) -> None:
        """Show those that fit."""
        self.dismiss(())

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        if step > 0:
            self.choices.action_cursor_down()
        else:
            self.choices.action_cursor_up()

    def _selection(self, key: str) -> Selection[str]:
        label, purpose = COLUMN_WORDS[key]
        return Selection(Text.assemble(f"{label:<{_KEY_WIDTH}}", (purpose, "dim")), key, key in self._shown)
