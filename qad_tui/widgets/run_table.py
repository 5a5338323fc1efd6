"""Table of the runs: one row a run, told apart by its path.

Owns the columns. Which rows there are, and in which order, comes to `show`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from qad_core.run.show import is_worse, show_won_back
from qad_tui.fleet import RunRow
from qad_tui.formats import (
    MISSING,
    format_fraction,
    format_loss,
    format_rate,
    format_short_duration,
    progress_fraction,
    short_run_name,
    shorten_middle,
)
from qad_tui.messages import RunChosen, RunOpened
from qad_tui.states import HEALTH_LOOKS, LOOKS, stage_word, state_word
from qad_tui.widgets.line_columns import Cell, LineColumn
from qad_tui.widgets.line_table import LineTable
from qad_tui.widgets.sparkline import sparkline

SPARK_CELLS = 12
_STAGE_STYLE = "cyan"


@dataclass
class RunContext:
    """What the cells of a row need beside the row."""

    now: float = 0.0
    """Unix time."""
    name_width: int = 24
    has_stage_column: bool = False


COLUMN_WORDS: dict[str, tuple[str, str]] = {
    "state": ("State", "what the run does, or how it ended"),
    "name": ("Run", "student, teacher where it is another, data, learning rate and tag"),
    "health": ("!", "the worst finding of the health rules"),
    "percent": ("%", "share of the steps done"),
    "loss": ("Loss", "newest training loss: KL to the teacher, or cross-entropy"),
    "eta": ("ETA", "time left at the present pace"),
    "spark": ("Loss so far", "the training loss since the start"),
    "link": ("Link", "link of the chain that runs or comes next, of all"),
    "stage": ("Stage", "where a starting run stands"),
    "speed": ("Tokens/s", "newest training speed"),
    "steps": ("Step", "steps done, of all"),
    "recovered": ("Won back", "share of the KL gap won back; KL x2 where it has doubled"),
    "changed": ("Changed", "since the last sign of life"),
}
"""Column -> its header, and what it says."""


class RunTable(LineTable[RunRow]):
    """Rows of runs; posts RunChosen when the cursor comes to another run, RunOpened on Enter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", id="runs.open"),
        Binding("space", "select_run", "Select", id="runs.select"),
        Binding("y", "copy", "Copy the path", id="runs.copy_path", show=False),
    ]

    class SelectionChanged(Message):
        """Another set of runs is selected."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        """Show these columns, or those that fit when none are named."""
        self.context = RunContext()
        self._told: Path | None = None
        super().__init__(make_columns(self.context, keys), lambda row: str(row.path))

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    @property
    def chosen_path(self) -> Path | None:
        """The run under the cursor."""
        return self.chosen.path if self.chosen else None

    @property
    def cursor_row(self) -> int:
        """Number of the row under the cursor."""
        return self._cursor

    @property
    def column_keys(self) -> tuple[str, ...]:
        """The columns that are on the screen."""
        return tuple(column.key for column, _ in self._layout)

    def show(self, rows: Sequence[RunRow], *, now: float) -> None:
        """Show these rows in their order, as of Unix time `now`; the same again cost nothing."""
        is_same = len(rows) == len(self._rows) and all(map(_is, rows, self._rows))
        shows_age = "changed" in self.column_keys and int(now) != int(self.context.now)
        self.context.now = now
        if not is_same:
            selected = set(self.selected)
            self.show_rows(rows, only_changed=not shows_age)
            self.selected = selected  # also those that a filter hides
        elif shows_age:
            self.refresh()

    def choose_columns(self, keys: Sequence[str]) -> None:
        """Show these columns, or those that fit when none are named."""
        self.show_columns(make_columns(self.context, keys))

    def action_select_run(self) -> None:
        """Select the run under the cursor, or no more."""
        self.toggle_selected()
        self.post_message(self.SelectionChanged())

    def on_line_table_moved(self) -> None:
        """Tell which run the cursor is on, once for each."""
        if self.chosen_path != self._told:
            self._told = self.chosen_path
            self.post_message(RunChosen(self._told))

    def on_line_table_opened(self) -> None:
        """Ask to see the run under the cursor."""
        if self.chosen_path is not None:
            self.post_message(RunOpened(self.chosen_path))

    def _fit(self) -> None:
        super()._fit()
        widths = {column.key: width for column, width in self._layout}
        self.context.name_width = widths.get("name", 0)
        self.context.has_stage_column = "stage" in widths


def _is(one: object, other: object) -> bool:
    return one is other


def make_columns(context: RunContext, keys: Sequence[str] = ()) -> list[LineColumn[RunRow]]:
    """All columns with the more important staying longest, or exactly those named, in their order."""
    every = {column.key: column for column in _all_columns(context)}
    chosen = [every[key] for key in keys if key in every]
    return chosen or list(every.values())


def _all_columns(context: RunContext) -> list[LineColumn[RunRow]]:
    def column(
        key: str, width: int, rank: int, cell: Callable[[RunRow], Cell], *, right: bool = True, grows: int = 0
    ) -> LineColumn[RunRow]:
        return LineColumn(key, COLUMN_WORDS[key][0], width, rank, cell, right=right, grows=grows)

    return [
        column("state", 12, 0, lambda row: _state_cell(row, context), right=False),
        column("health", 2, 1, _health_cell, right=False),
        column("name", 21, 0, lambda row: _name_cell(row, context), right=False, grows=1),
        column("stage", 10, 7, lambda row: Cell(stage_word(row.view), _STAGE_STYLE), right=False),
        column("link", 5, 6, lambda row: Cell(row.link_words)),
        column("steps", 11, 9, lambda row: Cell(_steps(row))),
        column("percent", 5, 2, lambda row: Cell(format_fraction(_fraction(row)))),
        column("loss", 8, 3, _loss_cell),
        column("spark", SPARK_CELLS, 5, _spark_cell, right=False),
        column("recovered", 8, 10, _won_back_cell),
        column("speed", 8, 8, lambda row: Cell(format_rate(row.run.tokens_per_s))),
        column("eta", 5, 4, lambda row: Cell(format_short_duration(row.eta_seconds))),
        column("changed", 7, 11, lambda row: Cell(_age(row, context.now), "dim")),
    ]


def _state_cell(row: RunRow, context: RunContext) -> Cell:
    look = LOOKS[row.state]
    word = state_word(row.state)
    if row.state == "running" and not context.has_stage_column:
        word = stage_word(row.view) or word
        word = "training" if word == "steady" else word
    return Cell(f"{look.mark} {word}", look.style)


def _name_cell(row: RunRow, context: RunContext) -> Cell:
    return Cell(shorten_middle(short_run_name(row.run.name), context.name_width), "dim" if row.gone else "")


def _health_cell(row: RunRow) -> Cell:
    if row.health in (None, "note"):
        return Cell("")
    look = HEALTH_LOOKS[row.health]
    return Cell(look.mark, look.style)


def _loss_cell(row: RunRow) -> Cell:
    return Cell(format_loss(row.run.loss))


def _won_back_cell(row: RunRow) -> Cell:
    recovered = row.run.recovered
    if recovered is None:
        return Cell(MISSING)
    return Cell(show_won_back(recovered, digits=0, brief=True), "red" if is_worse(recovered) else "")


def _spark_cell(row: RunRow) -> Cell:
    return Cell(sparkline(row.run.loss_history, SPARK_CELLS), "cyan" if row.state == "running" else "dim")


def _fraction(row: RunRow) -> float | None:
    return progress_fraction(row.run.step, row.run.train_iterations)


def _steps(row: RunRow) -> str:
    run = row.run
    return f"{run.step}/{run.train_iterations}" if run.train_iterations else str(run.step)


def _age(row: RunRow, now: float) -> str:
    return format_short_duration(now - row.run.updated) if row.run.updated else MISSING
