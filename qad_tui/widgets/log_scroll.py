"""Moves over the lines of a log; follows the end until it is scrolled away from it.

Owns where one is. It reads no file: windows of lines come to `show`, and what is beyond them is asked for by
messages. Where a line stands is told by its offset in the file, so that it stays when lines come and go. Drawing is
`log_view.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView

from qad_tui.log_window import LogWindow, WindowLine
from qad_tui.widgets.log_rows import LogRows

GUTTER = 2
"""Cells before each line."""
BAR = 1
"""Cells behind each line, where the place in the file is shown."""
_ASK_AT_ROWS = 50
"""More lines are asked for when fewer than these are beyond the view."""


class LogScroll(ScrollView):
    """Where one is in a LogWindow."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "Line down", id="log.down", show=False),
        Binding("k,up", "move(-1)", "Line up", id="log.up", show=False),
        Binding("pagedown,ctrl+f", "move_pages(1)", "Page down", id="log.page_down", show=False),
        Binding("pageup", "move_pages(-1)", "Page up", id="log.page_up", show=False),
        Binding("ctrl+d", "move_pages(0.5)", "Half a page down", id="log.half_down", show=False),
        Binding("ctrl+u", "move_pages(-0.5)", "Half a page up", id="log.half_up", show=False),
        Binding("g,home", "go_to_start", "Beginning of the file", id="log.first", show=False),
        Binding("G,end", "follow", "Follow the end", id="log.follow", show=False),
        Binding("w", "toggle_wrap", "Wrap", id="log.wrap"),
    ]

    wraps: reactive[bool] = reactive(False)

    @dataclass
    class MoreWanted(Message):
        """The view comes near the last line in memory, or with `older` the first, and the file has more."""

        older: bool

    @dataclass
    class PlaceWanted(Message):
        """Another part of the file is asked for."""

        share: float
        """0 is the beginning, 1 the end."""

    class Scrolled(Message):
        """Other lines are on the screen, or the end is followed or not."""

    def __init__(self) -> None:
        super().__init__()
        self.window: LogWindow | None = None
        self.rows = LogRows(())
        self.following = True
        self.marked: int | None = None
        """Offset of the line that was found or clicked."""
        self._asked: LogWindow | None = None

    @property
    def lines(self) -> tuple[WindowLine, ...]:
        """Lines in memory."""
        return self.window.lines if self.window else ()

    @property
    def top(self) -> WindowLine | None:
        """The first line on the screen."""
        return self.rows.line_in(round(self.scroll_y))

    @property
    def bottom(self) -> WindowLine | None:
        """The last line on the screen."""
        return self.rows.line_in(min(self.rows.count, round(self.scroll_y) + max(1, self.size.height)) - 1)

    def move_into(self, window: LogWindow | None) -> None:
        """Take the newest window; the lines on the screen stay where they are unless the end is followed."""
        before, top = self.window, self.top
        self.window = window
        if window is None or before is None or not window.is_of_file_of(before):
            self.following, self.marked = True, None
        self._lay_out(None if self.following else top)

    def go_to(self, offset: int) -> None:
        """Put the line that holds the byte at an offset on top."""
        self._scroll_to_row(self.rows.row_with(offset))
        self.refresh()

    def reveal(self, offset: int) -> None:
        """Mark the line at an offset, and scroll so that it is seen; the end is not followed any more."""
        row, top, height = self.rows.row_with(offset), round(self.scroll_y), max(1, self.size.height)
        if not top <= row < top + height - 1:
            self._scroll_to_row(row - height // 3)
        self.marked, self.following = offset, False
        self.refresh()
        self.post_message(self.Scrolled())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow again at the end, stop following above it, and ask for more lines near the last ones."""
        super().watch_scroll_y(old_value, new_value)
        self.following = new_value >= self.max_scroll_y and (self.window is None or self.window.at_end)
        self.post_message(self.Scrolled())
        self._ask_for_more()

    def watch_wraps(self) -> None:
        """Fold the lines, or not."""
        self._lay_out(None if self.following else self.top)

    @on(events.Resize)
    def _fit(self) -> None:
        self._lay_out(None if self.following else self.top)

    def action_move(self, rows: int) -> None:
        """Go so many rows down."""
        self._scroll_to_row(round(self.scroll_y) + rows)
        self._ask_for_more()

    def action_move_pages(self, pages: float) -> None:
        """Go so many screens down."""
        self.action_move(round(pages * max(1, self.size.height - 1)))

    def action_go_to_start(self) -> None:
        """Go to the first line of the file."""
        self.following = False
        if self.window is not None and not self.window.at_start:
            self.post_message(self.PlaceWanted(0.0))
        else:
            self._scroll_to_row(0)

    def action_follow(self) -> None:
        """Go to the end of the file and follow it."""
        if self.window is not None and not self.window.at_end:
            self.post_message(self.PlaceWanted(1.0))
        else:
            self._scroll_to_row(self.rows.count)
        self.following = True
        self.post_message(self.Scrolled())

    def action_toggle_wrap(self) -> None:
        """Fold long lines, or not."""
        self.wraps = not self.wraps

    def _lay_out(self, top: WindowLine | None) -> None:
        """Put the lines into rows, and go to the end, or keep a line on top."""
        following = self.following
        self.rows = LogRows(self.lines, self.size.width - GUTTER - BAR if self.wraps else None)
        self._resize(Size(self.rows.widest() + GUTTER + BAR, self.rows.count))
        if top is not None:
            self._scroll_to_row(self.rows.row_with(top.offset))
        elif following:
            self._scroll_to_row(self.rows.count)
        self.following = following
        self.refresh()

    def _resize(self, size: Size) -> None:
        """Have room for the rows. More of them change nothing but how far one can scroll, since the bar is our own:
        the screen need not be laid out anew at each line that comes."""
        if size.width == self.virtual_size.width:
            self.set_reactive(LogScroll.virtual_size, size)  # pyright: ignore[reportArgumentType]
        else:
            self.virtual_size = size

    def _scroll_to_row(self, row: int) -> None:
        self.scroll_to(y=max(0, min(row, self.max_scroll_y)), animate=False, force=True, immediate=True)

    def _ask_for_more(self) -> None:
        window, at = self.window, round(self.scroll_y)
        if window is None or window is self._asked or not window.exists:
            return
        older = not window.at_start and at <= _ASK_AT_ROWS and not self.following
        if older or (not window.at_end and at >= self.max_scroll_y - _ASK_AT_ROWS):
            self._asked = window
            self.post_message(self.MoreWanted(older))
