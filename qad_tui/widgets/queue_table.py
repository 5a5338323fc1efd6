"""The queue's jobs as a table: what each does, whose link it is, how long, where or why not.

Owns the columns and the orders. What is in the queue comes to `show`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from textual.binding import Binding, BindingType

from qad_core.slurm.queue_view import (
    JobStage,
    RunOfJob,
    elapsed_seconds,
    estimated_start,
    left_seconds,
    short_state,
    stage_of,
    usual_order,
    where_or_why,
)
from qad_core.slurm.records import QueueEntry
from qad_tui.formats import MISSING, format_short_duration, short_run_name, shorten_middle
from qad_tui.widgets.line_columns import Cell, LineColumn
from qad_tui.widgets.line_table import LineTable

SortKey = Literal["", "job", "state", "user", "name", "partition", "nodes", "gpus", "used", "left"]
"""Empty is the usual order: what runs, what waits, what has ended."""
SORT_KEYS: tuple[SortKey, ...] = ("", "job", "state", "user", "name", "partition", "nodes", "gpus", "used", "left")
LOOKS: dict[JobStage, tuple[str, str]] = {
    "running": ("●", "bold green"),
    "waiting": ("○", "cyan"),
    "held": ("‖", "yellow"),
    "stuck": ("✗", "bold red"),
    "ended": ("·", "dim"),
    "other": ("?", "dim"),
}
"""Mark and style of each stage."""
_ENDED_BADLY = frozenset({"FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"})


@dataclass
class QueueContext:
    """What the cells of a row need beside the row."""

    runs: Mapping[str, RunOfJob] = field(default_factory=dict[str, RunOfJob])
    """By the comment of a job."""
    now: float = 0.0
    """Unix time."""


class QueueTable(LineTable[QueueEntry]):
    """Jobs; space selects."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "select_job", "Select", id="queue.select"),
        Binding("y", "copy", "Copy the job's id", id="queue.copy", show=False),
    ]

    def __init__(self) -> None:
        self.context = QueueContext()
        self._everyone = False
        super().__init__(_columns(self.context, everyone=False), lambda entry: entry.job_id)

    def show(self, jobs: Sequence[QueueEntry], runs: Mapping[str, RunOfJob], *, everyone: bool, now: float) -> None:
        """Show these jobs in their order, as of Unix time `now`."""
        self.context.runs, self.context.now = runs, now
        if everyone != self._everyone:
            self._everyone = everyone
            self.show_columns(_columns(self.context, everyone=everyone))
        self.show_rows(jobs)

    def show_time(self, now: float) -> None:
        """Let times go on."""
        if int(now) != int(self.context.now):
            self.context.now = now
            self.refresh()

    def action_select_job(self) -> None:
        """Select the job under the cursor, or no more."""
        self.toggle_selected()


def sort_jobs(
    jobs: Sequence[QueueEntry], key: SortKey, runs: Mapping[str, RunOfJob], *, descending: bool, now: float
) -> list[QueueEntry]:
    """The jobs by a column, the usual order within it."""
    found = sorted(jobs, key=usual_order)
    if key:
        found.sort(key=_sort_value(key, runs, now), reverse=descending)
    elif descending:
        found.reverse()
    return found


def name_of_job(entry: QueueEntry, runs: Mapping[str, RunOfJob]) -> str:
    """The run and the link, where the job is one; else its own name."""
    run = runs.get(entry.comment)
    return entry.name if run is None else f"{run.place} {short_run_name(run.path.name)}"


def _sort_value(key: SortKey, runs: Mapping[str, RunOfJob], now: float) -> Callable[[QueueEntry], tuple[object, ...]]:
    values: dict[str, Callable[[QueueEntry], object]] = {
        "job": _job_number,
        "state": short_state,
        "user": lambda entry: entry.user,
        "name": lambda entry: name_of_job(entry, runs).partition(" ")[2] if entry.comment in runs else entry.name,
        "partition": lambda entry: entry.partition,
        "nodes": lambda entry: entry.num_nodes,
        "gpus": lambda entry: entry.gpus,
        "used": lambda entry: elapsed_seconds(entry, now) or 0.0,
        "left": lambda entry: _left_or_never(entry, now),
    }
    value = values[key]
    return lambda entry: (value(entry),)


def _job_number(entry: QueueEntry) -> tuple[int, ...]:
    return tuple(int(part) for part in entry.job_id.replace("+", "_").split("_") if part.isdigit())


def _left_or_never(entry: QueueEntry, now: float) -> float:
    left = left_seconds(entry, now)
    return float("inf") if left is None else left


def _columns(context: QueueContext, *, everyone: bool) -> list[LineColumn[QueueEntry]]:
    columns: list[LineColumn[QueueEntry]] = [
        LineColumn("job", "Job", 7, 0, lambda entry: Cell(entry.job_id), right=True),
        LineColumn("state", "State", 11, 0, _state_cell),
        LineColumn("name", "Run or name", 16, 0, lambda entry: _name_cell(entry, context.runs), grows=3),
        LineColumn("partition", "Partition", 10, 5, lambda entry: Cell(entry.partition)),
        LineColumn("nodes", "Nodes", 6, 4, lambda entry: Cell(str(entry.num_nodes)), right=True),
        LineColumn("gpus", "GPUs", 5, 3, lambda entry: Cell(str(entry.gpus or MISSING)), right=True),
        LineColumn("used", "Used", 5, 2, lambda entry: _seconds(elapsed_seconds(entry, context.now)), right=True),
        LineColumn("left", "Left", 7, 1, lambda entry: _left_cell(entry, context.now), right=True),
        LineColumn("why", "Where, or why not", 18, 0, lambda entry: Cell(where_or_why(entry)), grows=4),
    ]
    if everyone:
        columns.insert(3, LineColumn("user", "User", 8, 0, lambda entry: Cell(entry.user)))
    return columns


def _state_cell(entry: QueueEntry) -> Cell:
    mark, style = LOOKS[stage_of(entry)]
    if entry.state in _ENDED_BADLY:
        mark, style = "✗", "red"
    return Cell(f"{mark} {short_state(entry)}", style)


def _name_cell(entry: QueueEntry, runs: Mapping[str, RunOfJob]) -> Cell:
    if entry.comment in runs:
        return Cell(shorten_middle(name_of_job(entry, runs), 60), "bold")
    return Cell(entry.name)


def _seconds(seconds: float | None) -> Cell:
    return Cell(format_short_duration(seconds), "dim" if seconds is None else "")


def _left_cell(entry: QueueEntry, now: float) -> Cell:
    start = estimated_start(entry)
    if start is not None and start > now:
        return Cell(f"in {format_short_duration(start - now)}", "cyan")
    left = left_seconds(entry, now)
    return _seconds(left)
