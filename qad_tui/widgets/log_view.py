"""Draws the lines of a log: signs, matches, the marked line, what is selected, and the place in the file.

Owns what a line looks like and how it is copied. Moving over the lines is `log_scroll.py`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events, on
from textual.binding import Binding, BindingType
from textual.selection import Selection
from textual.strip import Strip

from qad_tui.log_window import LogWindow, WindowLine
from qad_tui.widgets.log_drawing import Layer, LineSpans, draw_gutter, draw_line, selected_span, selected_text
from qad_tui.widgets.log_rows import LogRows
from qad_tui.widgets.log_scroll import BAR, GUTTER, LogScroll

_FIRST_SERIAL = 1_000_000_000
"""A selection counts lines from here: older ones that come before have lower numbers."""
_SHOWN_COPY = 60


class LogView(LogScroll, can_focus=True):
    """Shows a LogWindow."""

    ALLOW_SELECT = True
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"log-view--{part}" for part in ("error", "warning", "match", "mark", "words", "bar", "thumb")
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy line or selection", id="log.copy", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._words = ""
        self._spans: LineSpans | None = None
        self._serial = _FIRST_SERIAL

    def show(self, window: LogWindow | None, words: str = "") -> None:
        """Show the newest window, or some words where it has no line."""
        before = self.window
        if window is not before or words != self._words:
            self._words = words
            self.move_into(window)
            self._shift_selection(before)

    def highlight(self, spans: Callable[[str], list[tuple[int, int]]] | None) -> None:
        """Show where matches stand in the lines; None shows none."""
        self._spans = LineSpans(spans) if spans else None
        self.refresh()

    @on(events.Click)
    def _mark_clicked(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        if at is None:
            return
        if at.x >= self.size.width - BAR:
            self.following = False
            self.post_message(self.PlaceWanted(at.y / max(1, self.size.height - 1)))
            return
        line = self.rows.line_in(round(self.scroll_y) + at.y)
        if line is not None and not self.text_selection:
            self.marked = line.offset
            self.refresh()

    def action_copy(self) -> None:
        """Copy the selection, else the marked line, else the last one on the screen."""
        chosen = self.rows.line_with(self.marked) or self.bottom
        selection = self.text_selection
        text = self.get_selection(selection)[0] if selection else chosen.text if chosen else ""
        if text:
            self.app.copy_to_clipboard(text)  # pyright: ignore[reportUnknownMemberType]
            shown = textwrap.shorten(text, _SHOWN_COPY, placeholder="…")
            self.notify(shown, title=f"Copied {len(text):,} characters", markup=False)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """The selected text, for the clipboard."""
        return selected_text([line.text for line in self.lines], selection, self._serial), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Draw the new selection."""
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row of the view."""
        row, width = round(self.scroll_y) + y, self.size.width
        if not self.lines:
            return self._render_words(y, width)
        if row >= self.rows.count:
            return Strip([Segment(" " * (width - BAR), self.rich_style), self._bar_cell(y)], width)
        index, part = self.rows.line_at(row)
        line = self.lines[index]
        style = self._style_of(line)
        gutter = draw_gutter(line.sign, style, marked=line.offset == self.marked, first=part == 0)
        before, piece = self.rows.part(index, part)
        left = round(self.scroll_x)
        strip = Strip(draw_line(piece, before, style, self._layers_of(line, index)))
        strip = strip.crop_extend(left, left + width - GUTTER - BAR, style)
        strip = strip.apply_offsets(before + left, self._serial + index)
        return Strip([gutter, *strip, self._bar_cell(y)], width)

    def _style_of(self, line: WindowLine) -> Style:
        style = self.rich_style + (self._look(line.sign) if line.sign else Style.null())
        return style + self._look("mark") if line.offset == self.marked else style

    def _layers_of(self, line: WindowLine, index: int) -> list[Layer]:
        spans = self._spans.of(line) if self._spans else []
        layers = [(first, last, self._look("match")) for first, last in spans]
        selected = selected_span(self.text_selection, self._serial + index, len(line.text))
        if selected:
            layers.append((*selected, self.screen.get_component_rich_style("screen--selection")))
        return layers

    def _look(self, part: str) -> Style:
        return self.get_component_rich_style(f"log-view--{part}", partial=True)

    def _render_words(self, y: int, width: int) -> Strip:
        lines = textwrap.wrap(self._words, max(1, width - GUTTER - BAR))
        text = lines[y] if y < len(lines) else ""
        style = self.rich_style + self._look("words")
        return Strip([Segment(" " * GUTTER + text, style)]).adjust_cell_length(width, style)

    def _bar_cell(self, y: int) -> Segment:
        """A cell of the bar on the right, which shows what part of the file is on the screen."""
        first, last = self._part_on_screen()
        is_on_screen = y / self.size.height <= last and (y + 1) / self.size.height > first
        return Segment(" ", self._look("thumb" if is_on_screen else "bar"))

    def _part_on_screen(self) -> tuple[float, float]:
        top, bottom, size = self.top, self.bottom, self.window.size if self.window else 0
        if top is None or bottom is None or size == 0:
            return 0.0, 1.0
        return top.offset / size, 1.0 if self.following else min(1.0, (bottom.offset + len(bottom.text)) / size)

    def _shift_selection(self, before: LogWindow | None) -> None:
        """Keep the numbers by which a selection knows its lines."""
        window = self.window
        if before is None or window is None or not (before.lines and window.lines and window.is_of_file_of(before)):
            return
        first = window.lines[0].offset
        if first >= before.lines[0].offset:
            self._serial += LogRows(before.lines).index_from(first)
        else:
            self._serial -= LogRows(window.lines).index_from(before.lines[0].offset)
