"""What a run is doing: state, progress, losses, health; and why it failed, which its logs are read for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.worker import Worker, get_current_worker  # pyright: ignore[reportUnknownVariableType]

from qad_tui.panes.base import RunPane
from qad_tui.widgets.failure_card import FailureCard
from qad_tui.widgets.status_card import (
    StatusCard,
    describe_briefly,
    describe_error,
    describe_loss,
    describe_numbers,
    describe_state,
)

if TYPE_CHECKING:
    from qad_core.run.failure import Failure
    from qad_core.run.store import RunSummary
    from qad_core.slurm.views import RunView
    from qad_tui.fleet import RunRow

SETTLE_SECONDS = 0.2
"""A cursor that goes on within this time wants no log read."""
MOST_KEPT = 32
_FAILED = frozenset({"failed", "killed", "stopped", "silent", "blocked", "unknown"})
Start = tuple[Path, str, int, float]
"""What a failure is of: run, state, number of starts, and the time of the trainer's last word."""


@dataclass
class FailureFound(Message, bubble=False):
    """The logs of a start were read."""

    start: Start
    failure: Failure | None
    problem: str = ""


@dataclass
class CommandMade(Message, bubble=False):
    """The command that starts the run again is known."""

    command: str


class OverviewPane(RunPane):
    """Draws the fleet's row of its run; a vanished run stays as last seen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "screen.clone", "Clone", id="overview.clone"),
        Binding("Y", "screen.copy_command", "Copy the command", id="overview.copy"),
        Binding("j", "scroll(1)", "Scroll down", id="overview.down", show=False),
        Binding("k", "scroll(-1)", "Scroll up", id="overview.up", show=False),
        Binding("g", "scroll_to_end(False)", "Top", id="overview.top", show=False),
        Binding("G", "scroll_to_end(True)", "End", id="overview.end", show=False),
    ]

    def __init__(self, *, compact: bool = False) -> None:
        """A `compact` pane stands beside other things."""
        super().__init__()
        self.failure: Failure | None = None
        self._compact = compact
        self._last: RunRow | None = None
        self._found: dict[Start, Failure | None] = {}
        self._sought: Start | None = None

    def compose(self) -> ComposeResult:
        """The cards."""
        with VerticalScroll(can_focus=not self._compact):
            if self._compact:  # of a run full screen, the screen says it above all tabs
                yield StatusCard(describe_loss)
            yield StatusCard(describe_state)
            yield StatusCard(describe_error).add_class("error")
            yield FailureCard(brief=self._compact)
            yield StatusCard(describe_briefly if self._compact else describe_numbers)

    def take_keys(self) -> None:
        """Have the keys scroll it."""
        self.screen.set_focus(self.query_one(VerticalScroll))

    def run_changed(self) -> None:
        """Another run's last state is of no use."""
        self._last = self.failure = self._sought = None

    def read(self) -> None:
        """Find out why the run failed, once for each start."""
        row = self.row
        if row is None or row.state not in _FAILED:
            return
        start = _start_of(row)
        if start not in self._found and start != self._sought:
            self._sought = start
            self._explain_in_thread(start, row.view)

    @work(thread=True, group="failure", exclusive=True)
    def _explain_in_thread(self, start: Start, view: RunView) -> None:
        worker = cast("Worker[None]", get_current_worker())
        time.sleep(SETTLE_SECONDS)
        if worker.is_cancelled:
            return
        from qad_core.commands.outlook import explain_failure

        try:
            self.post_message(FailureFound(start, explain_failure(view)))
        except OSError as error:
            self.post_message(FailureFound(start, None, f"The logs cannot be read: {error.strerror}"))

    @on(FailureFound)
    def _keep_failure(self, message: FailureFound) -> None:
        self._found[message.start] = message.failure
        while len(self._found) > MOST_KEPT:
            del self._found[next(iter(self._found))]
        if message.problem:
            self.notify(message.problem, severity="warning", markup=False)
        self.redraw()

    def redraw(self) -> None:
        """Draw the cards."""
        row = self.row
        if row is None and self._last is not None and self.qad.fleet.polled_at is not None:
            row = replace(self._last, gone=True)
        self._last = row
        self.failure = self._found.get(_start_of(row)) if row is not None and row.state in _FAILED else None
        for card in self.query(StatusCard):
            is_told_better = self.failure is not None and card.has_class("error")
            card.show(None if is_told_better else row, now=self.qad.now())
        self.query_one(FailureCard).show(self.failure)

    def clone_with_fix(self) -> None:
        """Open the form of a new run with the changes that mend this failure."""
        if self.path is None:
            return
        if self.failure is None or not self.failure.changes:
            self.notify("There is no change to propose here; n clones the run as it is.", severity="warning")
            return
        self.qad.new_run(self.path, self.failure.changes)

    def copy_command(self) -> None:
        """Copy the command that starts the run again, with the fix where there is one."""
        if self._last is not None:
            self._make_command_in_thread(self._last.run, self.failure.changes if self.failure else ())

    @work(thread=True, group="command", exclusive=True)
    def _make_command_in_thread(self, run: RunSummary, changes: Sequence[str]) -> None:
        from qad_core.commands.outlook import retry_command

        self.post_message(CommandMade(retry_command(run, changes)))

    @on(CommandMade)
    def _copy(self, message: CommandMade) -> None:
        self.qad.copy_to_clipboard(message.command)
        self.notify(message.command, title="Copied", markup=False)

    def action_scroll(self, step: int) -> None:
        """Scroll by a line."""
        self.query_one(VerticalScroll).scroll_relative(y=step, animate=False)

    def action_scroll_to_end(self, end: bool) -> None:
        """Go to the top or the end."""
        box = self.query_one(VerticalScroll)
        if end:
            box.scroll_end(animate=False)
        else:
            box.scroll_home(animate=False)


def _start_of(row: RunRow) -> Start:
    return (row.path, row.state, len(row.view.jobs), row.run.status.updated if row.run.status else 0.0)
