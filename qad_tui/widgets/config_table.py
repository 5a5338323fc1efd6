"""A config as a table: key, value, where it came from, and the value of another run beside it."""

from __future__ import annotations

from collections.abc import Sequence

from qad_core.config.listing import ConfigLine
from qad_tui.widgets.line_columns import Cell, LineColumn
from qad_tui.widgets.line_table import LineTable

_DIFFERENT = "bold yellow"


class ConfigTable(LineTable[ConfigLine]):
    """Lines of a config; one that differs is marked by a sign too."""

    def __init__(self) -> None:
        self._with_other = False
        super().__init__(_columns(with_other=False), lambda line: line.key)

    def show(self, lines: Sequence[ConfigLine], *, with_other: bool) -> None:
        """Show these lines, with the other run's values where there is one."""
        if with_other != self._with_other:
            self._with_other = with_other
            self.show_columns(_columns(with_other=with_other))
        self.show_rows(lines)


def _columns(*, with_other: bool) -> list[LineColumn[ConfigLine]]:
    other = [LineColumn[ConfigLine]("other", "The other run", 14, 0, _other_cell, grows=2)] if with_other else []
    return [
        LineColumn("key", "Key", 34 if not with_other else 24, 0, _key_cell, grows=2),
        LineColumn("value", "Value", 14, 0, _value_cell, grows=2),
        *other,
        LineColumn("origin", "From", 16, 1, lambda line: Cell(line.origin, "dim"), grows=2),
    ]


def _key_cell(line: ConfigLine) -> Cell:
    if line.differs:
        return Cell(f"≠ {line.key}", _DIFFERENT)
    return Cell(line.key, "" if line.is_changed else "dim")


def _value_cell(line: ConfigLine) -> Cell:
    return Cell(line.value, _DIFFERENT if line.differs else "bold" if line.is_changed else "dim")


def _other_cell(line: ConfigLine) -> Cell:
    return Cell(line.other or "", _DIFFERENT if line.differs else "dim")
