"""Lines of a log, drawn on demand; follows the end until it is scrolled away from it.

Owns scrolling and drawing. It reads no file: windows of lines come to `show`, and older lines are
asked for by an OlderLogWanted message.
"""

from __future__ import annotations

import re
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events, on
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from qad_tui.log_tail import LogWindow
from qad_tui.messages import OlderLogWanted

_ERROR = re.compile(r"\b(ERROR|CRITICAL|Traceback|\w*(?:Error|Exception)):?\b")
_WARNING = re.compile(r"\b(WARN|WARNING)\b")
_ASK_AT_LINES = 50
"""Older lines are asked for when fewer than these are above the view."""


class LogView(ScrollView, can_focus=True):
    """Shows a LogWindow."""

    ALLOW_SELECT = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", "Line down", id="log.down", show=False),
        Binding("k,up", "scroll_up", "Line up", id="log.up", show=False),
        Binding("g,home", "scroll_home", "First line", id="log.first", show=False),
        Binding("G,end", "scroll_end", "Follow the end", id="log.follow", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._window: LogWindow | None = None
        self._asked_at: tuple[int, int] | None = None
        self.following = True

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines that can be scrolled to."""
        return self._window.lines if self._window else ()

    @property
    def line_count(self) -> int:
        """Their number."""
        return len(self.lines)

    def show(self, window: LogWindow | None) -> None:
        """Show the newest window; the lines on the screen stay where they are unless the end is followed."""
        before, self._window = self._window, window
        if window is before:
            return
        self._set_title()
        self.virtual_size = Size(self._widest(), self.line_count)
        if window is None or before is None or (window.path, window.generation) != (before.path, before.generation):
            self.following = True
        if self.following:
            self.scroll_end(animate=False, force=True, immediate=True, x_axis=False)
        elif window is not None and before is not None:
            shift = before.first_number - window.first_number
            self.scroll_to(y=max(0, self.scroll_y + shift), animate=False, immediate=True, force=True)
        self.refresh()

    @on(events.Resize)
    def _stay_at_end(self) -> None:
        if self.following:
            self.action_scroll_end()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow again at the end, stop following above it, and ask for older lines near the first one."""
        super().watch_scroll_y(old_value, new_value)
        self.following = new_value >= self.max_scroll_y
        self._set_title()
        window = self._window
        if window is None or self.following or window.at_start or new_value > _ASK_AT_LINES:
            return
        here = (window.generation, window.first_number)
        if here != self._asked_at:
            self._asked_at = here
            self.post_message(OlderLogWanted())

    def action_scroll_end(self) -> None:
        """Go to the end and follow it."""
        self.following = True
        self.scroll_end(animate=False, force=True, immediate=True, x_axis=False)

    def action_scroll_home(self) -> None:
        """Go to the first line in memory."""
        self.scroll_home(animate=False, force=True, immediate=True, x_axis=False)

    def render_line(self, y: int) -> Strip:
        """One row of the view."""
        scroll_x, scroll_y = self.scroll_offset
        width, row = self.size.width, scroll_y + y
        if self._window is None or row >= self.line_count:
            return Strip.blank(width, self.rich_style)
        strip = Strip(self._segments(self._window.lines[row], row))
        return strip.crop_extend(scroll_x, scroll_x + width, self.rich_style).apply_offsets(scroll_x, row)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text, for the clipboard."""
        return selection.extract("\n".join(self._window.lines if self._window else ())), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Draw the new selection."""
        self.refresh()

    def _segments(self, line: str, row: int) -> list[Segment]:
        style = self.rich_style + _style_of_line(line)
        span = self.text_selection.get_span(row) if self.text_selection else None
        if span is None:
            return [Segment(line, style)]
        start, end = span[0], len(line) if span[1] == -1 else span[1]
        selected = style + self.screen.get_component_rich_style("screen--selection")
        return [Segment(line[:start], style), Segment(line[start:end], selected), Segment(line[end:], style)]

    def _widest(self) -> int:
        # Cell widths of 20,000 lines would take too long at each change; the longest by characters is near enough.
        return cell_len(max(self._window.lines, key=len)) if self._window and self._window.lines else 0

    def _set_title(self) -> None:
        window = self._window
        self.border_title = f" Log · {self._where(window)} · {window.path.name} " if window else " Log · none yet "

    def _where(self, window: LogWindow) -> str:
        if not window.exists:
            return "FILE GONE, last lines seen"
        if self.following:
            return "following"
        return f"{max(0, round(self.max_scroll_y - self.scroll_y)):,} more lines below, G follows"


def _style_of_line(line: str) -> Style:
    if _ERROR.search(line):
        return Style(color="red")
    return Style(color="yellow") if _WARNING.search(line) else Style.null()
