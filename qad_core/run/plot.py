"""A curve as plain text in braille dots, for terminals and logs.

Owns scaling and drawing only. Points that are not finite leave a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of each dot of a braille cell: 4 rows of 2."""


def plot_series(xs: Sequence[float], ys: Sequence[float], width: int = 72, height: int = 12) -> str:
    """Draw y over x as one line of dots with its axes, in `width` x `height` characters plus labels.

    A series without a finite point is the text "no points to draw".
    """
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return "no points to draw"
    low_x, high_x = _bounds([x for x, _ in points])
    low_y, high_y = _bounds([y for _, y in points])
    columns, rows = 2 * width - 1, 4 * height - 1
    dots = [(round(_share(x, low_x, high_x) * columns), round(_share(y, high_y, low_y) * rows)) for x, y in points]
    cells = _draw(_line_through(dots), width, height)
    labels = [f"{high_y:.4g}", *[""] * (height - 2), f"{low_y:.4g}"] if height > 1 else [f"{high_y:.4g}"]
    margin = max(len(label) for label in labels)
    lines = [f"{label:>{margin}} ┤{row}" for label, row in zip(labels, cells, strict=True)]
    left, right = f"{low_x:g}", f"{high_x:g}"
    lines.append(" " * margin + " └" + "─" * width)
    lines.append(" " * (margin + 2) + left + right.rjust(width - len(left)))
    return "\n".join(lines)


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = max(0.5, abs(low) * 1e-6)  # of a huge number a half is nothing
    return (low, high) if high > low else (low - margin, high + margin)


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two, 0 to 1; by halves, since the distance of the largest floats is none."""
    return (value / 2 - low / 2) / (high / 2 - low / 2)


def _line_through(dots: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """All dots on the straight lines from each point to the next."""
    drawn = set(dots)
    for (x0, y0), (x1, y1) in pairwise(dots):
        steps = max(abs(x1 - x0), abs(y1 - y0))
        drawn |= {(x0 + round((x1 - x0) * i / steps), y0 + round((y1 - y0) * i / steps)) for i in range(1, steps)}
    return drawn


def _draw(dots: set[tuple[int, int]], width: int, height: int) -> list[str]:
    cells = [[BRAILLE] * width for _ in range(height)]
    for x, y in dots:
        cells[y // 4][x // 2] |= DOTS[y % 4][x % 2]
    return ["".join(map(chr, row)) for row in cells]
