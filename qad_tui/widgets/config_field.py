"""How one row of the form is drawn: its lines, with the problems below it, at a given width.

Pure functions; colours come from the form's own styles by name.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from qad_tui.form_rows import Row
from qad_tui.formats import shorten_middle

NAME_WIDTH = 28
MARKS_WIDTH = 3
VALUE_AT = MARKS_WIDTH + NAME_WIDTH + 1
"""Cell that values begin at."""
_PROBLEM_INDENT = 5


@dataclass(frozen=True)
class Span:
    """Some cells of a line; `role` names the style."""

    text: str
    role: str


Line = tuple[Span, ...]


def row_lines(row: Row, width: int) -> list[Line]:
    """The row's own line, and those of the problems that are told below it."""
    first = _head_line(row, width) if row.is_group else _field_line(row, width)
    return [first, *_problem_lines(row, width)] if not row.is_group else [first]


def value_width(width: int) -> int:
    """Cells of a value where the form is `width` wide."""
    return max(12, min(34, (width - VALUE_AT) * 45 // 100))


def _head_line(row: Row, width: int) -> Line:
    mark = "▾" if row.is_open else "▸"
    note = shorten_middle(row.note, max(0, width - VALUE_AT))
    return (Span(f"{mark} {row.name}".ljust(VALUE_AT), "group"), Span(note, "problem" if row.wrong else "note"))


def _field_line(row: Row, width: int) -> Line:
    cells = value_width(width)
    room = max(0, width - VALUE_AT - cells - 1)
    return (
        Span("*" if row.changed else " ", "changed"),
        Span("✗" if row.wrong else " ", "problem"),
        Span(f" {shorten_middle(row.name, NAME_WIDTH).ljust(NAME_WIDTH)} ", "changed" if row.changed else "name"),
        Span(f"{shorten_middle(_one_line(row.value), cells).ljust(cells)} ", _value_role(row)),
        Span(_cut(row.note, room), "note"),
    )


def _value_role(row: Row) -> str:
    if row.problems:
        return "problem"
    return "changed" if row.changed else "value"


def _problem_lines(row: Row, width: int) -> Iterator[Line]:
    for problem in row.problems:
        for role, mark, words in (("problem", "✗ ", problem.what), ("hint", "→ ", problem.hint)):
            indent = " " * _PROBLEM_INDENT
            wrapped = textwrap.wrap(_one_line(words), max(20, width - _PROBLEM_INDENT - len(mark) - 1)) if words else []
            for number, text in enumerate(wrapped):
                yield (Span(f"{indent}{mark if number == 0 else '  '}{text}", role),)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"[:width]
