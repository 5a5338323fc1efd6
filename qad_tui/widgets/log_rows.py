"""Where the lines of a log stand in rows of a view, with long lines folded or not.

Pure. A row that goes on with a line folded above is a part of that line.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from rich.cells import cell_len, chop_cells

from qad_tui.log_window import WindowLine


class LogRows:
    """The rows of some lines; with a width the lines are folded to so many cells."""

    def __init__(self, lines: Sequence[WindowLine], width: int | None = None) -> None:
        self.lines = lines
        self._width = width if width is None else max(1, width)
        self._ends = [] if self._width is None else list(accumulate(_height(line.text, self._width) for line in lines))

    @property
    def count(self) -> int:
        """Number of rows."""
        if self._width is None:
            return len(self.lines)
        return self._ends[-1] if self._ends else 0

    def line_at(self, row: int) -> tuple[int, int]:
        """Index of the line in a row, and how many of its parts are above."""
        if self._width is None:
            return row, 0
        line = bisect_right(self._ends, row)
        return line, row - (self._ends[line - 1] if line else 0)

    def row_of(self, line: int) -> int:
        """First row of a line."""
        return line if self._width is None or line == 0 else self._ends[line - 1]

    def line_in(self, row: int) -> WindowLine | None:
        """The line in a row; None beyond the rows."""
        return self.lines[self.line_at(row)[0]] if 0 <= row < self.count else None

    def line_with(self, offset: int | None) -> WindowLine | None:
        """The line that begins at an offset of the file; None where there is none."""
        at = 0 if offset is None else self.index_from(offset)
        return self.lines[at] if at < len(self.lines) and self.lines[at].offset == offset else None

    def index_from(self, offset: int) -> int:
        """Index of the first line that begins at an offset or behind it."""
        return bisect_left(self.lines, offset, key=_offset_of)

    def row_with(self, offset: int) -> int:
        """First row of the line that holds the byte at an offset, or of the nearest."""
        return self.row_of(max(0, bisect_right(self.lines, offset, key=_offset_of) - 1))

    def part(self, line: int, part: int) -> tuple[int, str]:
        """The characters of one part of a line, and how many of the line stand before them."""
        text = self.lines[line].text
        if self._width is None:
            return 0, text
        if text.isascii():
            return part * self._width, text[part * self._width : (part + 1) * self._width]
        parts = chop_cells(text, self._width) or [""]
        return sum(map(len, parts[:part])), parts[part]

    def widest(self) -> int:
        """Cells that the widest line takes, about: 0 where lines are folded.

        Cell widths of all lines would take too long at each change; the longest by characters is near enough.
        """
        return cell_len(max((line.text for line in self.lines), key=len, default="")) if self._width is None else 0


def _height(text: str, width: int) -> int:
    if len(text) * 2 <= width or (text.isascii() and len(text) <= width):
        return 1
    return -(-len(text) // width) if text.isascii() else max(1, len(chop_cells(text, width)))


def _offset_of(line: WindowLine) -> int:
    return line.offset
