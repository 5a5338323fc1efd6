"""Which columns the runs' table shows: marked with space, kept for the next time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qad_tui.widgets.run_table import COLUMN_WORDS

ALWAYS_SHOWN = frozenset({"state", "name"})
_KEY_WIDTH = 12


class ColumnPicker(ModalScreen[tuple[str, ...] | None]):
    """Dismisses with the chosen columns, empty for those that fit; None leaves them as they are."""

    AUTO_FOCUS: ClassVar[str | None] = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Take these", id="columns.accept", priority=True),
        Binding("space", "mark", "Mark", id="columns.mark"),
        Binding("a", "automatic", "Those that fit", id="columns.automatic"),
        Binding("escape,q", "dismiss", "Leave", id="columns.leave"),
        Binding("j", "move(1)", "Next", id="columns.next", show=False),
        Binding("k", "move(-1)", "Previous", id="columns.previous", show=False),
    ]

    def __init__(self, shown: Sequence[str]) -> None:
        """Mark the columns that are shown now."""
        super().__init__()
        self._marked = {*ALWAYS_SHOWN, *shown}

    def compose(self) -> ComposeResult:
        """The list."""
        with Vertical(id="picker") as box:
            box.border_title = " Columns "
            box.border_subtitle = " space marks · enter takes · a those that fit · escape leaves "
            yield Static(Text("Marked ones are shown, as far as the table is wide enough.", "dim"))
            yield OptionList(*(Option(self._prompt(key), id=key) for key in COLUMN_WORDS))

    @property
    def choices(self) -> OptionList:
        """The list of columns."""
        return self.query_one(OptionList)

    def action_accept(self) -> None:
        """Show the marked columns."""
        self.dismiss(tuple(key for key in COLUMN_WORDS if key in self._marked))

    def action_automatic(self) -> None:
        """Show those that fit."""
        self.dismiss(())

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        if step > 0:
            self.choices.action_cursor_down()
        else:
            self.choices.action_cursor_up()

    def action_mark(self) -> None:
        """Mark the column under the cursor, or no more."""
        if (option := self.choices.highlighted_option) is not None and option.id is not None:
            self._toggle(option.id)

    @on(OptionList.OptionSelected)
    def _mark_clicked(self, event: OptionList.OptionSelected) -> None:
        if event.option_id is not None:
            self._toggle(event.option_id)

    def _toggle(self, key: str) -> None:
        self._marked ^= {key} - ALWAYS_SHOWN
        self.choices.replace_option_prompt(key, self._prompt(key))

    def _prompt(self, key: str) -> Text:
        label, purpose = COLUMN_WORDS[key]
        return Text.assemble("✓ " if key in self._marked else "  ", f"{label:<{_KEY_WIDTH}}", (purpose, "dim"))
