"""Rows in named groups, as `config list` and `data list` answer: folded in a terminal, a line a row elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from qad_core.commands.output import make_table


@dataclass(frozen=True)
class Group:
    """Rows that belong together."""

    name: str
    rows: tuple[tuple[str, ...], ...]
    """Cells by column."""
    note: str = ""
    """What is true of them all."""


def print_groups(out: Console, kind: str, columns: Sequence[str], groups: Sequence[Group]) -> None:
    """Print the groups: in a terminal the rows below their group's name, else each row as a line with that in it.

    `kind` is what a group is, `columns` are names as `make_table` takes them.
    """
    if out.is_terminal:
        _print_folded(out, columns, groups)
    else:
        _print_lines(out, kind, columns, groups)


def _print_folded(out: Console, columns: Sequence[str], groups: Sequence[Group]) -> None:
    table = make_table(*columns)
    for group in groups:
        table.add_row(Text.assemble((group.name, "bold"), f"  {group.note}" if group.note else ""))
        for first, *others in group.rows:
            table.add_row(Padding(Text(first), (0, 0, 0, 2)), *others)
    out.print(table)


def _print_lines(out: Console, kind: str, columns: Sequence[str], groups: Sequence[Group]) -> None:
    names = [kind, *(column.removeprefix(">") for column in columns), ""]
    lines = [names, *([group.name, *row, group.note] for group in groups for row in group.rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        out.print("  ".join(cells).rstrip(), markup=False, soft_wrap=True)
