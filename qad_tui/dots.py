"""Braille dots: a raster of 2 x 4 dots a cell on which lines, areas and points are set.

Each column of dots is one whole number whose bit 0 is the lowest dot, so that a span is set at one stroke.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

DOTS_ACROSS, DOTS_DOWN = 2, 4
_LEFT_BITS, _RIGHT_BITS = (0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08)
"""Bits of a braille character, from the lowest dot up."""
_LEFT = [sum(bit for place, bit in enumerate(_LEFT_BITS) if dots >> place & 1) for dots in range(16)]
_RIGHT = [sum(bit for place, bit in enumerate(_RIGHT_BITS) if dots >> place & 1) for dots in range(16)]
_EVEN_ROWS = sum(1 << (4 * cell) | 1 << (4 * cell + 2) for cell in range(256))
"""Every other dot of a column."""
_WIDEST_GAP = 2.5
"""Neighbours of an area belong together up to so many times the usual distance."""


class DotRaster:
    """Dots of `columns` x `rows` cells; places outside of it are passed over."""

    def __init__(self, columns: int, rows: int) -> None:
        self.width, self.height = columns * DOTS_ACROSS, rows * DOTS_DOWN
        self._rows = rows
        self._masks = [0] * self.width

    def line(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Join points, whose xs rise, by straight lines."""
        if len(xs) == 1:
            self._span(round(xs[0]), ys[0], ys[0])
        for place in range(len(xs) - 1):
            self._segment(xs[place], ys[place], xs[place + 1], ys[place + 1])

    def area(self, xs: Sequence[float], lowest: Sequence[float], highest: Sequence[float]) -> None:
        """Set every other dot between two lines, like a chess board; a wide gap between two xs stays empty."""
        gaps = sorted(after - before for before, after in pairwise(xs))
        widest = _WIDEST_GAP * gaps[len(gaps) // 2] if gaps else 0.0
        for place, x in enumerate(xs):
            before = place - 1 if place and x - xs[place - 1] <= max(widest, 2.0) else place
            first = round(xs[before]) + (before != place)
            for column in range(max(first, 0), min(round(x), self.width - 1) + 1):
                share = (column - xs[before]) / (x - xs[before]) if before != place else 1.0
                low = lowest[before] + share * (lowest[place] - lowest[before])
                high = highest[before] + share * (highest[place] - highest[before])
                self._span(column, low, high, _EVEN_ROWS << (column & 1))

    def cells(self) -> Iterator[tuple[int, int, str]]:
        """Column, row (0 on top) and braille character of each cell with a dot in it."""
        for column in range(self.width // DOTS_ACROSS):
            left, right = self._masks[2 * column], self._masks[2 * column + 1]
            row = self._rows - 1
            while left or right:
                if left & 15 or right & 15:
                    yield column, row, chr(0x2800 + _LEFT[left & 15] + _RIGHT[right & 15])
                left, right, row = left >> DOTS_DOWN, right >> DOTS_DOWN, row - 1

    def _segment(self, x0: float, y0: float, x1: float, y1: float) -> None:
        first, last = round(x0), round(x1)
        if first == last:
            self._span(first, y0, y1)
            return
        slope = (y1 - y0) / (x1 - x0)
        for column in range(max(first, 0), min(last, self.width - 1) + 1):
            start, end = max(x0, column - 0.5), min(x1, column + 0.5)
            self._span(column, y0 + (start - x0) * slope, y0 + (end - x0) * slope)

    def _span(self, column: int, y0: float, y1: float, pattern: int = -1) -> None:
        if not 0 <= column < self.width:
            return
        low, high = sorted((round(y0), round(y1)))
        low, high = max(low, 0), min(high, self.height - 1)
        if low <= high:
            self._masks[column] |= ((1 << (high - low + 1)) - 1) << low & pattern
