"""One metric of several runs as an SVG chart, for a report or a message; drawn from numbers alone.

Owns the drawing. Lines are thinned to the least and the greatest value of each pixel column, so that a file of a
million steps is small and no spike is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 960, 540
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 24, 48, 48
_LEGEND_LINE = 18
SMALLEST_STEP = 1e-300
"""Ticks are never nearer to each other; floats below it are not whole any more."""
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
"""Okabe and Ito's colours, which people with any colour vision tell apart."""


@dataclass(frozen=True)
class SvgLine:
    """One run's curve; values that are not finite are gaps."""

    name: str
    points: tuple[tuple[float, float], ...]
    """(x, value), x rising."""
    marks: tuple[tuple[float, float], ...] = ()
    """Evaluations, drawn as diamonds."""


@dataclass(frozen=True)
class _Axes:
    """From numbers to pixels."""

    first: float
    last: float
    lowest: float
    highest: float
    log_scale: bool

    def x(self, value: float) -> float:
        return _LEFT + (value - self.first) / (self.last - self.first) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        place = math.log10(value) if self.log_scale else value
        return HEIGHT - _BOTTOM - (place - self.lowest) / (self.highest - self.lowest) * (HEIGHT - _TOP - _BOTTOM)


def draw_svg(lines: Sequence[SvgLine], *, title: str, x_title: str, log_scale: bool = False) -> str:
    """The chart as SVG text; raises ValueError when no line has a value that can be drawn on this scale."""
    kept = [_drawable(line, log_scale=log_scale) for line in lines]
    axes = _fit_axes(kept, log_scale=log_scale)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-size="16">{escape(title)}{" (log scale)" if log_scale else ""}</text>',
        f'<text x="{(WIDTH + _LEFT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_title)}</text>',
        *_draw_ticks(axes),
    ]
    for number, line in enumerate(kept):
        parts += _draw_line(line, axes, _COLOURS[number % len(_COLOURS)])
    parts += _draw_legend(kept)
    return "\n".join([*parts, "</svg>\n"])


def round_ticks(lowest: float, highest: float, most: int) -> list[float]:
    """At most `most` + 1 round values (1, 2 or 5 times a power of ten apart) within a span."""
    rough = max((highest - lowest) / max(most, 1), SMALLEST_STEP)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(lowest / step - 1e-9)
    return [number * step for number in range(first, math.floor(highest / step + 1e-9) + 1)]


def _drawable(line: SvgLine, *, log_scale: bool) -> SvgLine:
    def fits(value: float) -> bool:
        return math.isfinite(value) and (value > 0 or not log_scale)

    points = tuple((x, value) if fits(value) else (x, math.nan) for x, value in line.points)
    return SvgLine(line.name, points, tuple((x, value) for x, value in line.marks if fits(value)))


def _fit_axes(lines: Sequence[SvgLine], *, log_scale: bool) -> _Axes:
    found = [point for line in lines for point in (*line.points, *line.marks) if not math.isnan(point[1])]
    if not found:
        raise ValueError("no value can be drawn")
    places = [math.log10(value) if log_scale else value for _, value in found]
    lowest, highest = min(places), max(places)
    margin = 0.04 * (highest - lowest) or abs(highest) * 0.1 or 1.0
    first, last = min(x for x, _ in found), max(x for x, _ in found)
    last = last if last > first else first + max(1.0, 1e-9 * abs(first))
    return _Axes(first, last, lowest - margin, highest + margin, log_scale)


def _draw_ticks(axes: _Axes) -> list[str]:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts: list[str] = []
    for tick in round_ticks(axes.first, axes.last, 8):
        x = axes.x(tick)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#eee"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    for tick in _value_ticks(axes):
        y = axes.y(tick)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#eee"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    frame = f'<rect x="{_LEFT}" y="{_TOP}" width="{right - _LEFT}" height="{bottom - _TOP}"'
    return [*parts, f'{frame} fill="none" stroke="#999"/>']


def _value_ticks(axes: _Axes) -> list[float]:
    if not axes.log_scale:
        return round_ticks(axes.lowest, axes.highest, 6)
    decades = range(math.floor(axes.lowest), math.ceil(axes.highest) + 1)
    digits = (1, 2, 5) if axes.highest - axes.lowest < 3 else (1,)
    ticks = [digit * 10.0**decade for decade in decades for digit in digits]
    inside = [tick for tick in ticks if axes.lowest <= math.log10(tick) <= axes.highest]
    return inside or [10.0**axes.lowest, 10.0**axes.highest]


def _draw_line(line: SvgLine, axes: _Axes, colour: str) -> list[str]:
    parts: list[str] = []
    for piece in _pieces(_thinned(line.points, axes)):
        path = " ".join(f"{axes.x(x):.1f},{axes.y(value):.1f}" for x, value in piece)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    for x, value in line.marks:
        across, down = axes.x(x), axes.y(value)
        parts.append(f'<path d="M{across:.1f} {down - 5:.1f} l5 5 l-5 5 l-5 -5 z" fill="{colour}" stroke="white"/>')
    return parts


def _thinned(points: Sequence[tuple[float, float]], axes: _Axes) -> list[tuple[float, float]]:
    """The least and the greatest value of each pixel column, in their order, and every gap."""
    kept: list[tuple[float, float]] = []
    column: list[tuple[float, float]] = []
    for point in points:
        if column and (math.isnan(point[1]) or int(axes.x(point[0])) != int(axes.x(column[0][0]))):
            kept += _extremes(column)
            column = []
        if math.isnan(point[1]):
            kept.append(point)
        else:
            column.append(point)
    return kept + _extremes(column)


def _extremes(column: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    if not column:
        return []
    least, greatest = min(column, key=lambda point: point[1]), max(column, key=lambda point: point[1])
    return sorted({least, greatest})


def _pieces(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Runs of points between gaps."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isnan(point[1]):
            pieces.append([])
        else:
            pieces[-1].append(point)
    return [piece for piece in pieces if piece]


def _draw_legend(lines: Sequence[SvgLine]) -> list[str]:
    parts: list[str] = []
    for number, line in enumerate(lines):
        y = _TOP + 18 + number * _LEGEND_LINE
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(f'<line x1="{WIDTH - 340}" y1="{y - 4}" x2="{WIDTH - 316}" y2="{y - 4}" stroke="{colour}" '
                     'stroke-width="3"/>')  # fmt: skip
        parts.append(f'<text x="{WIDTH - 310}" y="{y}">{escape(_shortened(line.name, 42))}</text>')
    return parts


def _shortened(name: str, characters: int) -> str:
    return name if len(name) <= characters else f"…{name[-characters + 1 :]}"
