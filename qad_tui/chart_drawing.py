"""A chart put into the cells of a terminal: lines of braille dots, marks, borders, axes and a legend.

Pure: from a Chart and a size to rows of (text, role). A role says what a piece is; the widget gives it a colour.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from qad_tui.axes import Scale, Tick, nearest, x_scale, x_ticks, y_scale, y_ticks
from qad_tui.chart_legend import EVALUATION_MARK, NON_FINITE_MARK, Piece, Row, legend_rows
from qad_tui.charts import Chart, Points, is_drawable
from qad_tui.dots import DOTS_ACROSS, DOTS_DOWN, DotRaster

BORDER_MARK, CURSOR_MARK, VALUE_MARK, POINT_MARK = "┊", "│", "●", "•"
LEFT_COLUMNS = 8
"""Cells of the labels of the y axis, and of the axis itself."""
AXIS_ROWS = 2
COLUMNS_FOR_LABELS = 50
"""Narrower plots have no words at their borders."""
COLUMNS_A_MARK = 4
"""Cells that a diamond has for itself, so that diamonds never hide the line."""


@dataclass(frozen=True)
class Drawing:
    """Rows of a chart, and where in them the plot is."""

    rows: tuple[Row, ...]
    left: int = 0
    columns: int = 0
    x_scale: Scale | None = None

    def x_at(self, column: int) -> float | None:
        """The number on the x axis at a column of the rows; None outside of the plot."""
        inside = column - self.left
        if self.x_scale is None or not 0 <= inside < self.columns:
            return None
        return self.x_scale.value(inside * DOTS_ACROSS + 0.5)


@dataclass
class _Cells:
    """Characters and roles of the plot's cells."""

    columns: int
    rows: int

    def __post_init__(self) -> None:
        self.cells: dict[tuple[int, int], Piece] = {}

    def put(self, column: int, row: int, text: str, role: str) -> None:
        for place, character in enumerate(text):
            if 0 <= column + place < self.columns and 0 <= row < self.rows:
                self.cells[column + place, row] = (character, role)

    def row(self, row: int) -> list[Piece]:
        return [self.cells.get((column, row), (" ", "axis")) for column in range(self.columns)]


def draw_chart(chart: Chart, width: int, height: int, *, legend: bool = True, cursor: float | None = None) -> Drawing:
    """The chart in `width` x `height` cells; `cursor` is an x whose values are read out in place of the legend."""
    top = legend_rows(chart, width, cursor) if legend or cursor is not None else []
    top = top[: max(0, height - AXIS_ROWS - 2)]
    columns, rows = width - LEFT_COLUMNS, height - AXIS_ROWS - len(top)
    xs, ys = x_scale(chart, columns * DOTS_ACROSS), y_scale(chart, rows * DOTS_DOWN)
    if columns < 2 or rows < 1 or xs is None or ys is None:
        return Drawing(tuple(_words_rows(why_empty(chart), width, height)))
    cells = _Cells(columns, rows)
    _put_borders(cells, chart, xs)
    _put_lines(cells, chart, xs, ys)
    _put_marks(cells, chart, xs, ys)
    _put_border_labels(cells, chart, xs)
    if cursor is not None:
        _put_cursor(cells, chart, cursor, xs, ys)
    plot = [_join(piece) for piece in _with_y_axis(cells, y_ticks(ys, rows), ys)]
    below = _x_axis(x_ticks(chart.x_axis, xs, columns), xs, columns)
    return Drawing(tuple([*top, *plot, *below]), LEFT_COLUMNS, columns, xs)


def why_empty(chart: Chart) -> str:
    """Why there is nothing to draw."""
    if chart.whole is None:
        return chart.empty_words
    if not chart.log_scale:
        return "Nothing to draw: no value is finite."
    return "Nothing to draw: no value is finite and above 0. `y` goes back to the linear scale."


def _put_lines(cells: _Cells, chart: Chart, xs: Scale, ys: Scale) -> None:
    for line in chart.lines:
        lowest = ys.value(0)
        kept = [place for place, value in enumerate(line.band.highest) if is_drawable(value, log_scale=ys.log_scale)]
        band = DotRaster(cells.columns, cells.rows)
        band.area(
            [xs.dot(line.band.xs[place]) for place in kept],
            [ys.dot(max(line.band.lowest[place], lowest)) for place in kept],
            [ys.dot(line.band.highest[place]) for place in kept],
        )
        _put_dots(cells, band, f"dim{line.style_index}")
    for line in chart.lines:
        _put_dots(cells, _trace(cells, line.raw, xs, ys), f"dim{line.style_index}")
    for line in chart.lines:
        _put_dots(cells, _trace(cells, line.points, xs, ys), f"line{line.style_index}")


def _trace(cells: _Cells, points: Points, xs: Scale, ys: Scale) -> DotRaster:
    raster = DotRaster(cells.columns, cells.rows)
    kept = [(x, value) for x, value in points.pairs() if is_drawable(value, log_scale=ys.log_scale)]
    raster.line([xs.dot(x) for x, _ in kept], [ys.dot(value) for _, value in kept])
    return raster


def _put_dots(cells: _Cells, raster: DotRaster, role: str) -> None:
    for column, row, character in raster.cells():
        cells.put(column, row, character, role)


def _put_borders(cells: _Cells, chart: Chart, xs: Scale) -> None:
    for border in chart.borders:
        column = _column(xs, border.x)
        for row in range(cells.rows if column > 0 else 0):
            cells.put(column, row, BORDER_MARK, "border")


def _put_border_labels(cells: _Cells, chart: Chart, xs: Scale) -> None:
    free_from = 1 if cells.columns >= COLUMNS_FOR_LABELS else cells.columns
    for border in chart.borders:
        column = _column(xs, border.x)
        if free_from <= column and column + len(border.label) + 1 < cells.columns:
            cells.put(column + 1, 0, border.label, "border")
            free_from = column + len(border.label) + 3


def _put_marks(cells: _Cells, chart: Chart, xs: Scale, ys: Scale) -> None:
    several = len(chart.lines) > 1
    for line in chart.lines:
        for x in line.non_finite:
            cells.put(_column(xs, x), cells.rows - 1, NON_FINITE_MARK, "nan")
        role = f"line{line.style_index}" if several else "mark"
        for x, value in _spread(line.evaluations, xs):
            if is_drawable(value, log_scale=ys.log_scale):
                cells.put(_column(xs, x), _row(ys, value, cells.rows), EVALUATION_MARK, role)
        if (
            len(line.points) == 1
            and not line.evaluations
            and is_drawable(line.points.values[0], log_scale=ys.log_scale)
        ):
            place = _column(xs, line.points.xs[0]), _row(ys, line.points.values[0], cells.rows)
            cells.put(*place, POINT_MARK, f"line{line.style_index}")
    if several:
        _put_numbers(cells, chart, xs, ys)


def _spread(points: Points, xs: Scale) -> list[tuple[float, float]]:
    """Points at least COLUMNS_A_MARK cells apart, the newest and the first among them."""
    pairs = list(points.pairs())
    kept: list[tuple[float, float]] = []
    for x, value in reversed(pairs):
        if not kept or _column(xs, kept[-1][0]) - _column(xs, x) >= COLUMNS_A_MARK:
            kept.append((x, value))
    if pairs and kept[-1] != pairs[0]:
        kept[-1 if len(kept) > 1 else len(kept) :] = [pairs[0]]
    return kept


def _put_numbers(cells: _Cells, chart: Chart, xs: Scale, ys: Scale) -> None:
    """A line's number at its end, so that lines are told apart without colours."""
    for line in chart.lines:
        visible = [
            (x, value)
            for x, value in line.points.pairs()
            if 0 <= _column(xs, x) < cells.columns and is_drawable(value, log_scale=ys.log_scale)
        ]
        if visible:
            x, value = visible[-1]
            cells.put(_column(xs, x), _row(ys, value, cells.rows), str(line.number), f"line{line.style_index}")


def _put_cursor(cells: _Cells, chart: Chart, cursor: float, xs: Scale, ys: Scale) -> None:
    column = _column(xs, cursor)
    for row in range(cells.rows):
        if (column, row) not in cells.cells or cells.cells[column, row][1] == "border":
            cells.put(column, row, CURSOR_MARK, "cursor")
    for line in chart.lines:
        if line.points:
            value = line.points.values[nearest(line.points.xs, cursor)]
            if is_drawable(value, log_scale=ys.log_scale):
                cells.put(column, _row(ys, value, cells.rows), VALUE_MARK, "cursor")


def _column(xs: Scale, x: float) -> int:
    return round(xs.dot(x)) // DOTS_ACROSS


def _row(ys: Scale, value: float, rows: int) -> int:
    return rows - 1 - round(min(max(ys.dot(value), 0), ys.dots - 1)) // DOTS_DOWN


def _with_y_axis(cells: _Cells, ticks: Sequence[Tick], ys: Scale) -> Iterable[list[Piece]]:
    labels = {_row(ys, tick.at, cells.rows): tick.label for tick in ticks}
    for row in range(cells.rows):
        label = labels.get(row, "")
        yield [
            (label[: LEFT_COLUMNS - 1].rjust(LEFT_COLUMNS - 1), "tick"),
            ("┤" if label else "│", "axis"),
            *cells.row(row),
        ]


def _x_axis(ticks: Sequence[Tick], xs: Scale, columns: int) -> list[Row]:
    line, labels = ["─"] * columns, [" "] * (columns + LEFT_COLUMNS)
    free_from = 0
    for tick in ticks:
        column = _column(xs, tick.at)
        start = max(0, min(LEFT_COLUMNS + column - len(tick.label) // 2, len(labels) - len(tick.label)))
        if not 0 <= column < columns or start < free_from:
            continue
        line[column] = "┬"
        labels[start : start + len(tick.label)] = tick.label
        free_from = start + len(tick.label) + 1
    corner = " " * (LEFT_COLUMNS - 1) + "└"
    return [((corner + "".join(line), "axis"),), (("".join(labels), "tick"),)]


def _join(pieces: Iterable[Piece]) -> Row:
    """Neighbours of the same role become one piece."""
    return tuple(
        ("".join(text for text, _ in group), role) for role, group in groupby(pieces, key=lambda piece: piece[1])
    )


def _words_rows(words: str, width: int, height: int) -> list[Row]:
    lines = textwrap.wrap(words, max(1, width - 2))[:height]
    return [((f" {line}", "word"),) for line in lines]
