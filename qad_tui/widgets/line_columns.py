"""The columns of a line table: what stands in a cell, which of them fit, and a text in so many cells. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.cells import cell_len, set_cell_size

Row = TypeVar("Row")
GAP = 2
"""Cells between two columns."""


@dataclass(frozen=True)
class Cell:
    """What stands in a cell."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class LineColumn(Generic[Row]):
    """A column; those with the highest `rank` leave first where the table is narrow, rank 0 stays."""

    key: str
    label: str
    width: int
    """Cells; of a column that grows the least."""
    rank: int
    cell: Callable[[Row], Cell]
    right: bool = False
    """Numbers stand at the right."""
    grows: int = 0
    """Its share of the cells that are left over."""


def fit_columns(columns: Sequence[LineColumn[Row]], width: int) -> list[tuple[LineColumn[Row], int]]:
    """The columns that fit into `width` cells, each with its own; the least important leave first."""
    shown = list(columns)
    while sum(column.width + GAP for column in shown) > width and any(column.rank for column in shown):
        shown.remove(max(shown, key=lambda column: column.rank))
    left = max(0, width - sum(column.width + GAP for column in shown))
    shares = sum(column.grows for column in shown) or 1
    return [(column, column.width + left * column.grows // shares) for column in shown]


def fit_text(text: str, width: int, *, right: bool) -> str:
    """The text in exactly so many cells, cut with an ellipsis, and without what a terminal would obey."""
    if not text.isprintable():  # a job's name may hold anything
        text = "".join(character if character.isprintable() else " " for character in text)
    if cell_len(text) > width:
        return set_cell_size(text, max(0, width - 1)) + "…"
    return " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)
