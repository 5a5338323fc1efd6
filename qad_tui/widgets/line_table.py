"""A table drawn line by line, only what is seen: ten thousand rows cost as much as fifty.

Owns cursor, selection, the columns that fit, and drawing. Subclasses say what a row's cells are. Rows are told
apart by a key, so that cursor and selection stay with their rows when others come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Generic

from rich.segment import Segment
from rich.style import Style
from textual import events, on
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from qad_tui.widgets.copying import copy_text
from qad_tui.widgets.line_columns import GAP, LineColumn, Row, fit_columns, fit_text
from qad_tui.widgets.line_selection import selectable, text_within

_MARKS = 2
"""Cells before the first column: the sign of a selected row."""


class LineTable(ScrollView, Generic[Row], can_focus=True):
    """Rows under a header; posts Moved when the cursor comes to another row and Opened on Enter."""

    DEFAULT_CSS = """
    LineTable {
        height: 1fr;
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        & > .line-table--header { background: $panel; color: $text; text-style: bold; }
        & > .line-table--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
        & > .line-table--cursor-blurred { background: $block-cursor-blurred-background; }
        & > .line-table--selected { background: $warning 20%; }
        & > .line-table--odd { background: $foreground 4%; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"line-table--{part}" for part in ("header", "cursor", "cursor-blurred", "selected", "odd")
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "Next row", id="table.next", show=False),
        Binding("k,up", "move(-1)", "Previous row", id="table.previous", show=False),
        Binding("pagedown,ctrl+d", "page(1)", "Page down", id="table.page_down", show=False),
        Binding("pageup,ctrl+u", "page(-1)", "Page up", id="table.page_up", show=False),
        Binding("g,home", "first", "First row", id="table.first", show=False),
        Binding("G,end", "last", "Last row", id="table.last", show=False),
        Binding("enter", "open", "Open", id="table.open", show=False),
    ]

    class Moved(Message):
        """The cursor stands on another row, or that row has changed."""

    class Opened(Message):
        """Enter or a double click asks for more of the row under the cursor."""

    class HeaderClicked(Message):
        """A column's name was clicked."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(self, columns: Sequence[LineColumn[Row]], key_of: Callable[[Row], str]) -> None:
        super().__init__()
        self._all_columns = tuple(columns)
        self._key_of = key_of
        self._rows: Sequence[Row] = ()
        self._cursor = 0
        self._cursor_key = ""
        self._layout: list[tuple[LineColumn[Row], int]] = []
        self.selected: set[str] = set()
        self.sorted_by = ""
        self.descending = False
        self.was_moved = False
        """Whether a person has put the cursor where it stands."""

    @property
    def rows(self) -> Sequence[Row]:
        """The rows in their order."""
        return self._rows

    @property
    def chosen(self) -> Row | None:
        """The row under the cursor."""
        return self._rows[self._cursor] if self._cursor < len(self._rows) else None

    @property
    def chosen_rows(self) -> list[Row]:
        """The selected rows; where there is none, that under the cursor."""
        selected = [row for row in self._rows if self._key_of(row) in self.selected] if self.selected else []
        return selected or ([] if self.chosen is None else [self.chosen])

    def show_rows(self, rows: Sequence[Row], *, only_changed: bool = False) -> None:
        """Replace the rows; the cursor stays on its row, or where it was when that is gone.

        With `only_changed`, cells hang on nothing but their row: those of a row that is the same are left as they are.
        """
        before, cursor, self._rows = self._rows, self._cursor, rows
        if self.selected:
            self.selected &= {self._key_of(row) for row in rows}
        at = self._find(self._cursor_key)
        self._cursor = min(self._cursor, max(0, len(rows) - 1)) if at is None else at
        self._keep_key()
        self.virtual_size = Size(self.size.width, len(rows) + 1)
        if only_changed and len(before) == len(rows) and cursor == self._cursor:
            self._draw_changed(before)
        else:
            self.refresh()
        self.post_message(self.Moved())

    def show_columns(self, columns: Sequence[LineColumn[Row]]) -> None:
        """Replace the columns."""
        self._all_columns = tuple(columns)
        self._fit()
        self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        """Take the columns that fit."""
        self._fit()
        self.virtual_size = Size(self.size.width, len(self._rows) + 1)
        self._see_cursor()

    def render_line(self, y: int) -> Strip:
        """One line of the view; the first is the header, wherever the rows are scrolled to."""
        line = self.scroll_offset.y + y if y else 0
        if line > len(self._rows):
            return Strip.blank(self.size.width, self.rich_style)
        return selectable(self, self._draw_line(line), line)

    def _draw_line(self, line: int) -> Strip:
        return self._draw_row(line - 1, self.size.width) if line else self._draw_header(self.size.width)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """The selected text, for the clipboard."""
        top = self.scroll_offset.y + 1
        last = len(self._rows) if selection.end is not None else min(len(self._rows), top + self.size.height - 2)
        return text_within(selection, top, last, lambda line: self._draw_line(line).text), "\n"

    def text_select_all(self) -> None:
        """A double click opens a row and selects no text."""

    def action_copy(self) -> None:
        """Copy what the row under the cursor is about."""
        if self.chosen is not None:
            copy_text(self, self.subject_of(self.chosen))

    def subject_of(self, row: Row) -> str:
        """What a row is about, to be copied: its key, unless a subclass says more."""
        return self._key_of(row)

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        self._go_to(self._cursor + step)

    def action_page(self, step: int) -> None:
        """Move the cursor by a page."""
        self._go_to(self._cursor + step * max(1, self.size.height - 2))

    def action_first(self) -> None:
        """Go to the first row."""
        self._go_to(0)

    def action_last(self) -> None:
        """Go to the last row."""
        self._go_to(len(self._rows) - 1)

    def action_open(self) -> None:
        """Ask for more of the row under the cursor."""
        if self.chosen is not None:
            self.post_message(self.Opened())

    def move_to(self, row: int) -> None:
        """Put the cursor on a row."""
        self._cursor = max(0, min(row, len(self._rows) - 1))
        self._keep_key()
        self._see_cursor()
        self.refresh()
        self.post_message(self.Moved())

    def toggle_selected(self) -> None:
        """Select the row under the cursor, or no more, and go to the next one."""
        if self.chosen is not None:
            self.selected ^= {self._key_of(self.chosen)}
            self.action_move(1)

    def clear_selected(self) -> None:
        """Select none."""
        self.selected.clear()
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a double click opens; on the header it names a column."""
        if event.y == 0:
            column = self._column_at(event.x)
            if column is not None:
                self.post_message(self.HeaderClicked(column.key))
            return
        row = self.scroll_offset.y + event.y - 1
        if row < len(self._rows):
            self._go_to(row)
            if event.chain == 2:
                self.action_open()

    @on(events.Focus)
    @on(events.Blur)
    def _draw_cursor(self) -> None:
        self.refresh()

    def _draw_changed(self, before: Sequence[Row]) -> None:
        """Draw the lines on the screen whose rows are others than before."""
        top, seen = self.scroll_offset.y, self.size.height - 1
        for number in range(top, min(top + seen, len(self._rows))):
            if self._rows[number] is not before[number]:
                self.refresh(Region(0, number - top + 1, self.size.width, 1))

    def _go_to(self, row: int) -> None:
        self.was_moved = True
        self.move_to(row)

    def _find(self, key: str) -> int | None:
        if self._cursor < len(self._rows) and self._key_of(self._rows[self._cursor]) == key:
            return self._cursor
        return next((number for number, row in enumerate(self._rows) if self._key_of(row) == key), None)

    def _keep_key(self) -> None:
        self._cursor_key = "" if self.chosen is None else self._key_of(self.chosen)

    def _see_cursor(self) -> None:
        top, seen = self.scroll_offset.y, max(1, self.size.height - 1)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, immediate=True, force=True)
        elif self._cursor >= top + seen:
            self.scroll_to(y=self._cursor - seen + 1, animate=False, immediate=True, force=True)

    def _fit(self) -> None:
        self._layout = fit_columns(self._all_columns, self.size.width - _MARKS)

    def _column_at(self, x: int) -> LineColumn[Row] | None:
        left = _MARKS
        for column, width in self._layout:
            if left <= x < left + width + GAP:
                return column
            left += width + GAP
        return None

    def _draw_header(self, width: int) -> Strip:
        style = self.get_component_rich_style("line-table--header")
        segments = [Segment(" " * _MARKS, style)]
        for column, its_width in self._layout:
            sign = ("▼" if self.descending else "▲") if column.key == self.sorted_by else ""
            label = f"{sign}{column.label}" if column.right else f"{column.label}{sign}"
            segments.append(Segment(fit_text(label, its_width, right=column.right) + " " * GAP, style))
        return Strip(segments).adjust_cell_length(width, style)

    def _draw_row(self, number: int, width: int) -> Strip:
        row = self._rows[number]
        is_selected = self._key_of(row) in self.selected
        base = self._style_of_row(number, is_selected=is_selected)
        at_cursor = number == self._cursor
        segments = [Segment("✓ " if is_selected else "▌ " if at_cursor else "  ", base)]
        for column, its_width in self._layout:
            cell = column.cell(row)
            own = Style.parse(cell.style) if cell.style else Style.null()
            style = base + (Style(bold=own.bold) if at_cursor and self.has_focus else own)
            segments.append(Segment(fit_text(cell.text, its_width, right=column.right), style))
            segments.append(Segment(" " * GAP, base))
        return Strip(segments).adjust_cell_length(width, base)

    def _style_of_row(self, number: int, *, is_selected: bool) -> Style:
        style = self.rich_style
        if number % 2:
            style += self.get_component_rich_style("line-table--odd")
        if is_selected:
            style += self.get_component_rich_style("line-table--selected")
        if number == self._cursor:
            name = "line-table--cursor" if self.has_focus else "line-table--cursor-blurred"
            style += self.get_component_rich_style(name)
        return style
