"""How a line of a log is drawn: its sign in the gutter, its matches, what is selected of it.

Pure, but for remembering where the matches of a line stand. Scrolling and rows are `log_view.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual.selection import Selection

from qad_tui.log_window import WindowLine

if TYPE_CHECKING:
    from qad_core.run.log_signs import Sign

_MARKS: dict[Sign, str] = {"": " ", "error": "✗", "warning": "!"}
_MOST_REMEMBERED = 500

Layer = tuple[int, int, Style]
"""Characters from, to, and how they look."""


class LineSpans:
    """Where matches stand in lines, looked for once a line."""

    def __init__(self, find: Callable[[str], list[tuple[int, int]]]) -> None:
        self._find = find
        self._known: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def of(self, line: WindowLine) -> list[tuple[int, int]]:
        """Spans of characters."""
        key = (line.offset, len(line.text))
        if key not in self._known:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = self._find(line.text)
        return self._known[key]


def draw_gutter(sign: Sign, style: Style, *, marked: bool, first: bool) -> Segment:
    """The cells before a line: `▶` for the marked one, else its sign; `first` is its first row."""
    mark = ("▶" if marked else _MARKS[sign]) if first else " "
    return Segment(mark + " ", style)


def draw_line(piece: str, before: int, base: Style, layers: Sequence[Layer]) -> list[Segment]:
    """Part of a line, with `before` characters of it left of the part; later layers lie on top."""
    end = before + len(piece)
    cuts = {before, end}
    for first, last, _ in layers:
        cuts |= {min(max(first, before), end), min(max(last, before), end)}
    segments: list[Segment] = []
    for left, right in pairwise(sorted(cuts)):
        style = base
        for first, last, look in layers:
            if first <= left and right <= last:
                style += look
        segments.append(Segment(piece[left - before : right - before], style))
    return segments


def selected_span(selection: Selection | None, serial: int, length: int) -> tuple[int, int] | None:
    """Characters of the line with this number that are selected."""
    span = selection.get_span(serial) if selection else None
    return None if span is None else (span[0], length if span[1] == -1 else span[1])


def selected_text(lines: Sequence[str], selection: Selection, serial: int) -> str:
    """The selected text of lines, the first of which has the number `serial`."""
    first = 0 if selection.start is None else max(0, selection.start.y - serial)
    last = len(lines) - 1 if selection.end is None else min(len(lines) - 1, selection.end.y - serial)
    parts: list[str] = []
    for index in range(first, last + 1):
        span = selected_span(selection, serial + index, len(lines[index]))
        parts += [lines[index][span[0] : span[1]]] if span else []
    return "\n".join(parts)
