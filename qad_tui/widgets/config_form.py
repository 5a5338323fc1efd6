"""The form of a new run: rows of fields in groups, drawn on demand, with a cursor.

Owns scrolling, the cursor and the keys that move it. What a row says comes to `show`; what is asked of a row goes
out as a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events, on
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from qad_tui.form_rows import Row
from qad_tui.widgets.config_field import VALUE_AT, Line, row_lines
from qad_tui.widgets.line_selection import selectable, text_within


class ConfigForm(ScrollView, can_focus=True):
    """Shows rows; a line each, and more for the problems below it."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"form--{role}" for role in ("group", "name", "value", "note", "changed", "problem", "hint", "cursor")
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "ask_row", "Edit", id="new.edit"),
        Binding("space", "step_row(1)", "Next choice, open or close", id="new.step", show=False),
        Binding("right", "step_row(1)", "Next choice, open", id="new.right", show=False),
        Binding("left", "step_row(-1)", "Previous choice, close", id="new.left", show=False),
        Binding("j,down", "move(1)", "Next field", id="new.next", show=False),
        Binding("k,up", "move(-1)", "Previous field", id="new.previous", show=False),
        Binding("pagedown,ctrl+f", "move_page(1)", "A page down", id="new.page_down", show=False),
        Binding("pageup", "move_page(-1)", "A page up", id="new.page_up", show=False),
        Binding("g,home", "go_to_end(-1)", "First field", id="new.first", show=False),
        Binding("G,end", "go_to_end(1)", "Last field", id="new.last", show=False),
    ]

    @dataclass
    class Asked(Message):
        """Enter or a click asks to edit this row, or to open or close this group."""

        row: Row

    @dataclass
    class Stepped(Message):
        """The row's next choice (1) or the one before (-1) is asked for; a group is opened or closed."""

        row: Row
        step: int

    @dataclass
    class Moved(Message):
        """The cursor stands on this row, or rows have moved under an editor."""

        row: Row | None

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[Row, ...] = ()
        self._lines: list[tuple[int, Line]] = []
        self._first_line: list[int] = []
        self._cursor = 0

    @property
    def rows(self) -> tuple[Row, ...]:
        """What is shown."""
        return self._rows

    @property
    def cursor_row(self) -> Row | None:
        """The row under the cursor; None where there are no rows."""
        return self._rows[self._cursor] if self._cursor < len(self._rows) else None

    def show(self, rows: Sequence[Row]) -> None:
        """Show these rows; the cursor stays on its field."""
        if tuple(rows) == self._rows:
            return
        row = self.cursor_row
        self._rows = tuple(rows)
        keys = [(other.key, other.is_group) for other in self._rows]
        if row is not None and (row.key, row.is_group) in keys:
            self._cursor = keys.index((row.key, row.is_group))
        self._cursor = max(0, min(self._cursor, len(self._rows) - 1))
        self._lay_out()

    def go_to(self, key: str) -> bool:
        """Move the cursor to a field; whether it is shown."""
        for number, row in enumerate(self._rows):
            if row.key == key and not row.is_group:
                self._set_cursor(number)
                return True
        return False

    def value_region(self) -> Region | None:
        """Where the value under the cursor is, from the form's upper left corner; None where it is out of sight."""
        if not self._rows:
            return None
        y = self._first_line[self._cursor] - self.scroll_offset.y
        if not 0 <= y < self.size.height:
            return None
        return Region(VALUE_AT, y, max(1, self.size.width - VALUE_AT), 1)

    def action_ask_row(self) -> None:
        """Edit the field under the cursor, or open or close the group."""
        if (row := self.cursor_row) is not None:
            self.post_message(self.Asked(row))

    def action_step_row(self, step: int) -> None:
        """Take the next choice of the field under the cursor, or open or close the group."""
        if (row := self.cursor_row) is not None:
            self.post_message(self.Stepped(row, step))

    def action_move(self, step: int) -> None:
        """Move the cursor by rows."""
        self._set_cursor(self._cursor + step)

    def action_move_page(self, step: int) -> None:
        """Move the cursor by the rows of the view."""
        self._set_cursor(self._cursor + step * max(1, self.size.height - 2))

    def action_go_to_end(self, step: int) -> None:
        """Move the cursor to the first or the last row."""
        self._set_cursor(0 if step < 0 else len(self._rows) - 1)

    def render_line(self, y: int) -> Strip:
        """One row of the view."""
        number = self.scroll_offset.y + y
        if number >= len(self._lines):
            return Strip.blank(self.size.width, self.rich_style)
        return selectable(self, self._draw_line(number), number)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """The selected text, for the clipboard."""
        top = self.scroll_offset.y
        last = len(self._lines) - 1 if selection.end is not None else min(len(self._lines), top + self.size.height) - 1
        return text_within(selection, top, last, lambda number: self._draw_line(number).text), "\n"

    def text_select_all(self) -> None:
        """A double click edits a field and selects no text."""

    def _draw_line(self, number: int) -> Strip:
        index, line = self._lines[number]
        is_cursor = index == self._cursor and number == self._first_line[index]
        back = self._cursor_style() if is_cursor else Style()
        segments = [Segment(span.text, self._style_of(span.role) + back) for span in line]
        return Strip(segments).adjust_cell_length(self.size.width, self.rich_style + back)

    @on(events.Resize)
    def _fit(self) -> None:
        self._lay_out()

    @on(events.Click)
    def _click(self, event: events.Click) -> None:
        number = self.scroll_offset.y + event.y
        if number < len(self._lines) and not self.text_selection:
            index = self._lines[number][0]
            was_there = index == self._cursor
            self._set_cursor(index)
            if was_there or event.x >= VALUE_AT or self._rows[index].is_group:
                self.action_ask_row()

    @on(events.Focus)
    @on(events.Blur)
    def _draw_cursor(self) -> None:
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """An editor over the form follows it."""
        super().watch_scroll_y(old_value, new_value)
        self.post_message(self.Moved(self.cursor_row))

    def _lay_out(self) -> None:
        width = max(1, self.size.width - self.styles.scrollbar_size_vertical)  # it may come over the last cell
        self._lines, self._first_line = [], []
        for index, row in enumerate(self._rows):
            self._first_line.append(len(self._lines))
            self._lines += [(index, line) for line in row_lines(row, width)]
        self.virtual_size = Size(width, len(self._lines))
        self._keep_in_sight()
        self.refresh()
        self.post_message(self.Moved(self.cursor_row))

    def _set_cursor(self, number: int) -> None:
        number = max(0, min(number, len(self._rows) - 1))
        if number != self._cursor and self._rows:
            self._cursor = number
            self._keep_in_sight()
            self.refresh()
            self.post_message(self.Moved(self.cursor_row))

    def _keep_in_sight(self) -> None:
        """The cursor's row and, where there is room, the problems below it."""
        if not self._rows:
            return
        first = self._first_line[self._cursor]
        count = sum(1 for index, _ in self._lines if index == self._cursor)
        self.scroll_to_region(
            Region(0, first, 1, min(count, max(1, self.size.height))),
            animate=False,
            immediate=True,
            force=True,
            x_axis=False,
        )

    def _style_of(self, role: str) -> Style:
        return self.get_component_rich_style(f"form--{role}")

    def _cursor_style(self) -> Style:
        style = self._style_of("cursor")
        return Style(bgcolor=style.bgcolor, bold=True if self.has_focus else None)
