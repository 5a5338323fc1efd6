"""Table of the runs: one row a run, kept by its path; cells are updated by difference.

Owns rows, their order and the cursor. It reads no file and keeps no run but those it shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.widgets import DataTable
from textual.widgets.data_table import RowDoesNotExist

from qad_core.run.store import RunSummary
from qad_tui.curve_data import loss_of_line
from qad_tui.formats import (
    format_fraction,
    format_loss,
    format_rate,
    format_short_duration,
    progress_fraction,
    short_run_name,
    shorten_middle,
)
from qad_tui.messages import RunChosen, RunOpened
from qad_tui.runs_model import RunsDifference
from qad_tui.states import LOOKS, state_word

NAME_COLUMN = "name"
_MIN_NAME_WIDTH = 24
_CELL_PADDING = 2
_SCROLLBAR_WIDTH = 2


@dataclass(frozen=True)
class Column:
    """A column of the table; those with the highest `rank` leave first where the table is narrow."""

    key: str
    label: str
    width: int
    rank: int
    text: Callable[[RunSummary], str]
    justify_right: bool = True


def _loss(run: RunSummary) -> str:
    latest = run.last_training or {}
    return format_loss(latest.get(loss_of_line(latest).key))


def _steps(run: RunSummary) -> str:
    return f"{run.step}/{run.train_iterations}" if run.train_iterations else str(run.step)


COLUMNS = (
    Column("state", "State", 13, 0, state_word, justify_right=False),
    Column(NAME_COLUMN, "Run", _MIN_NAME_WIDTH, 0, lambda run: short_run_name(run.name), justify_right=False),
    Column("steps", "Step", 11, 6, _steps),
    Column("percent", "%", 5, 1, lambda run: format_fraction(progress_fraction(run.step, run.train_iterations))),
    Column("loss", "Loss", 8, 2, _loss),
    Column("recovered", "Won back", 8, 5, lambda run: format_fraction(run.recovered)),
    Column("speed", "Tokens/s", 8, 4, lambda run: format_rate(run.tokens_per_s)),
    Column("eta", "ETA", 5, 3, lambda run: format_short_duration(run.eta_seconds)),
)


class NameCell(Text):
    """A run's name, which also says whose row it is: DataTable shows a sort key the cells only."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(text, no_wrap=True)
        self.path = path


class RunTable(DataTable[Text]):
    """Rows of runs; posts RunChosen when the cursor comes to another run, RunOpened on Enter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Open", id="runs.open"),
        Binding("j,down", "cursor_down", "Next run", id="runs.next", show=False),
        Binding("k,up", "cursor_up", "Previous run", id="runs.previous", show=False),
        Binding("g,home", "scroll_top", "First run", id="runs.first", show=False),
        Binding("G,end", "scroll_bottom", "Last run", id="runs.last", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(cursor_type="row", zebra_stripes=True, cursor_foreground_priority="renderable")
        self._runs: dict[Path, RunSummary] = {}
        self._columns_shown: tuple[Column, ...] = ()
        self._name_width = _MIN_NAME_WIDTH
        self._chosen: Path | None = None

    @property
    def chosen(self) -> Path | None:
        """The run under the cursor."""
        return self._chosen

    @property
    def running_count(self) -> int:
        """Rows of runs that are running."""
        return sum(run.state == "running" for run in self._runs.values())

    def apply(self, difference: RunsDifference) -> None:
        """Bring the rows up to date; the cursor stays on its run."""
        for path in difference.removed:
            self._runs.pop(path, None)
        for run in (*difference.added, *difference.changed):
            self._runs[run.path] = run
        if not self._columns_shown:
            return
        self._apply_rows(difference)
        self._restore_cursor()
        self._tell_chosen()

    def _apply_rows(self, difference: RunsDifference) -> None:
        for path in difference.removed:
            self.remove_row(str(path))
        for run in difference.added:
            self._add_row(run)
        for run in difference.changed:
            self._update_row(run)
        if difference.added or difference.changed:
            self._sort()

    def _add_row(self, run: RunSummary) -> None:
        self.add_row(*(self._cell(run, column) for column in self._columns_shown), key=str(run.path))

    def _update_row(self, run: RunSummary) -> None:
        for column in self._columns_shown:
            cell = self._cell(run, column)
            if cell != self.get_cell(str(run.path), column.key):
                self.update_cell(str(run.path), column.key, cell)

    def _cell(self, run: RunSummary, column: Column) -> Text:
        text = column.text(run)
        if column.key == "state":
            look = LOOKS[run.state]
            return Text(f"{look.mark} {text}", look.style, no_wrap=True)
        if column.key == NAME_COLUMN:
            return NameCell(run.path, shorten_middle(text, self._name_width))
        return Text(text, justify="right", no_wrap=True)

    def _sort(self) -> None:
        wanted = [str(run.path) for run in sorted(self._runs.values(), key=order_of_run)]
        if wanted != [row.key.value for row in self.ordered_rows]:
            self.sort(NAME_COLUMN, key=self._order_of_cell)

    def _order_of_cell(self, cell: Text) -> tuple[bool, float, str]:
        assert isinstance(cell, NameCell)
        return order_of_run(self._runs[cell.path])

    def _restore_cursor(self) -> None:
        if self._chosen is None or self._chosen not in self._runs:
            return
        try:
            row = self.get_row_index(str(self._chosen))
        except RowDoesNotExist:
            return
        if row != self.cursor_row:
            self.cursor_coordinate = Coordinate(row, 0)

    @on(DataTable.RowHighlighted)
    def _move_chosen(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._tell_chosen()

    def _tell_chosen(self) -> None:
        chosen = self._path_at_cursor()
        if chosen != self._chosen:
            self._chosen = chosen
            self.post_message(RunChosen(chosen))

    def _path_at_cursor(self) -> Path | None:
        if not self.is_valid_row_index(self.cursor_row):
            return None
        return Path(str(self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value))

    @on(DataTable.RowSelected)
    def _open_run(self, event: DataTable.RowSelected) -> None:
        event.stop()
        self.post_message(RunOpened(Path(str(event.row_key.value))))

    @on(events.Resize)
    def _fit_columns(self, event: events.Resize) -> None:
        room = event.size.width - _SCROLLBAR_WIDTH
        shown = fitting_columns(room)
        name_width = room - sum(_outer_width(column) for column in shown if column.key != NAME_COLUMN) - _CELL_PADDING
        name_width = max(_MIN_NAME_WIDTH, name_width)
        if (shown, name_width) != (self._columns_shown, self._name_width):
            self._columns_shown, self._name_width = shown, name_width
            self._rebuild()

    def _rebuild(self) -> None:
        self.clear(columns=True)
        for column in self._columns_shown:
            width = self._name_width if column.key == NAME_COLUMN else column.width
            label = Text(column.label, justify="right" if column.justify_right else "left")
            self.add_column(label, width=width, key=column.key)
        for run in sorted(self._runs.values(), key=order_of_run):
            self._add_row(run)
        self._restore_cursor()
        self._tell_chosen()


def fitting_columns(width: int) -> tuple[Column, ...]:
    """The columns that fit into `width` cells: the least important leave first, state and name stay."""
    shown = list(COLUMNS)
    while sum(map(_outer_width, shown)) > width and any(column.rank for column in shown):
        shown.remove(max(shown, key=lambda column: column.rank))
    return tuple(shown)


def order_of_run(run: RunSummary) -> tuple[bool, float, str]:
    """Sort key: running first by start, then the latest changed; rows of running runs do not jump about."""
    started = run.status.started if run.status else 0.0
    return (run.state != "running", -(started if run.state == "running" else run.updated), run.name)


def _outer_width(column: Column) -> int:
    return column.width + _CELL_PADDING
