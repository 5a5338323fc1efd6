"""Words above a chart: what its lines and marks are, with their newest values or those under the cursor."""

from __future__ import annotations

from collections.abc import Sequence

from qad_tui.axes import nearest, value_words, x_words
from qad_tui.charts import Chart, Line

EVALUATION_MARK, NON_FINITE_MARK = "◆", "×"
Piece = tuple[str, str]
"""Text and role: axis, tick, border, nan, cursor, word, note, mark; `line2` and `dim2` are of style_index 2."""
Row = tuple[Piece, ...]


def legend_rows(chart: Chart, width: int, cursor: float | None = None) -> list[Row]:
    """Entries in as many rows of `width` cells as they need; values are those nearest to x = `cursor`, if given."""
    several = len(chart.lines) > 1
    entries: list[Row] = []
    if cursor is not None:
        entries.append(((x_words(chart.x_axis, cursor), "cursor"),))
    for line in chart.lines:
        entries.append(_line_entry(line, line.number if several else None, cursor))
        if not several:
            entries += _mark_entries(line, cursor)
    if several and any(line.evaluations for line in chart.lines):
        entries.append(((f"{EVALUATION_MARK} held-out", "word"),))
    if several and any(line.non_finite for line in chart.lines):
        entries.append(((f"{NON_FINITE_MARK} not finite", "nan"),))
    entries += [((note, "note"),) for note in chart.notes]
    return _flow([entry for entry in entries if entry], width)


def _line_entry(line: Line, number: int | None, cursor: float | None) -> Row:
    if not (line.points or line.raw):
        return ()
    value = line.newest
    if cursor is not None:
        value = line.points.values[nearest(line.points.xs, cursor)]
    sign = "━" if number is None else f"{number}━"
    return ((f"{sign} ", f"line{line.style_index}"), (f"{line.name} {value_words(value)}", "word"))


def _mark_entries(line: Line, cursor: float | None) -> list[Row]:
    entries: list[Row] = []
    if line.evaluations and line.evaluation_name:
        value = line.newest_evaluation
        if cursor is not None:
            value = line.evaluations.values[nearest(line.evaluations.xs, cursor)]
        entries.append(((f"{EVALUATION_MARK} ", "mark"), (f"{line.evaluation_name} {value_words(value)}", "word")))
    if line.non_finite_count:
        steps = "step" if line.non_finite_count == 1 else "steps"
        entries.append(((f"{NON_FINITE_MARK} ", "nan"), (f"{line.non_finite_count} {steps} not finite", "word")))
    return entries


def _flow(entries: Sequence[Row], width: int, gap: int = 3) -> list[Row]:
    """Entries side by side, in as many rows as they need."""
    rows: list[Row] = []
    used = 0
    for entry in entries:
        length = sum(len(text) for text, _ in entry)
        if rows and used + gap + length <= width:
            rows[-1] = (*rows[-1], (" " * gap, "word"), *entry)
            used += gap + length
        else:
            rows.append(((" ", "word"), *entry))
            used = 1 + length
    return rows
