"""First screen: all runs on the left, the chosen one on the right where the terminal is wide enough."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Static

from qad_tui.chain_answers import cancelled_words, refusal_words
from qad_tui.fleet import RunRow
from qad_tui.formats import short_run_name
from qad_tui.headless import Answer, run_command
from qad_tui.messages import RunChosen, RunOpened
from qad_tui.run_list_words import describe_list, why_empty, why_filtered
from qad_tui.run_order import SORT_KEYS, is_wanted, sort_rows
from qad_tui.screens.base import QadScreen
from qad_tui.settings import State
from qad_tui.widgets.filter_line import FilterLine
from qad_tui.widgets.run_table import COLUMN_WORDS, RunTable
from qad_tui.widgets.words import Words

if TYPE_CHECKING:
    from textual.timer import Timer

    from qad_tui.panes.side import RunSide

CANCEL_PATIENCE_SECONDS = 30
FOLLOW_SECONDS = 0.3
"""Keys that come sooner after each other are one movement: to draw a run takes longer than the next key may wait."""
LIST_PERCENTS = (40, 50, 64, 100)
"""Widths that the list can have where the terminal is split; with the last one it stands alone."""
SORT_WORDS = {"": "the usual order", "health": "health"}
"""What an order is called where its column's header does not say it."""


@dataclass
class RunCancelled(Message, bubble=False):
    """`qad_core cancel` has ended."""

    answer: Answer


class RunsScreen(QadScreen):
    """The list of runs and, from SPLIT_COLUMNS on, the run under the cursor."""

    AUTO_FOCUS: ClassVar[str | None] = "RunTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "open_tab('log')", "Log", id="runs.log", show=False),
        Binding("c", "open_tab('curves')", "Curves", id="runs.curves", show=False),
        Binding("h", "open_tab('chain')", "Chain", id="runs.chain", show=False),
        Binding("slash", "filter", "Filter", id="runs.filter"),
        Binding("s", "sort(1)", "Sort", id="runs.sort"),
        Binding("S", "reverse", "Reverse the order", id="runs.reverse", show=False),
        Binding("v", "pick_columns", "Columns", id="runs.columns", show=False),
        Binding(
            "left_square_bracket", "move_border(-1)", "Narrower list", id="runs.narrower", key_display="[", show=False
        ),
        Binding("right_square_bracket", "move_border(1)", "More list", id="runs.wider", key_display="]", show=False),
        Binding("n,C", "clone", "Clone", id="runs.clone"),
        Binding("d", "compare", "Compare", id="runs.compare"),
        Binding("x", "cancel", "Cancel", id="runs.cancel"),
        Binding("L", "toggle_log_scale", "Log scale", id="runs.log_scale", show=False),
        Binding("f", "clone_with_fix", "Clone with the fix", id="runs.fix", show=False),
        Binding("Y", "copy_command", "Copy the command", id="runs.copy", show=False),
        Binding("escape", "step_back", "Clear", id="runs.clear", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.needle = ""
        self._side: RunSide | None = None
        self._follow_timer: Timer | None = None
        self._chosen_at = -FOLLOW_SECONDS

    def compose_body(self) -> ComposeResult:
        """Table and panes."""
        yield Words("", id="runs-words")
        yield FilterLine(placeholder="part of a name, a tag, a state or a stage", id="runs-filter")
        yield Static("", id="empty")
        with Horizontal(id="body"):
            yield RunTable(self.qad.settings.state.columns)

    @property
    def table(self) -> RunTable:
        """The list."""
        return self.query_one(RunTable)

    @property
    def list_percent(self) -> int:
        """How wide the list is where the terminal is split."""
        kept = self.qad.settings.state.list_percent  # state.json may name any
        return kept if kept in LIST_PERCENTS else State().list_percent

    @property
    def shows_side(self) -> bool:
        """Whether the run under the cursor stands beside the list."""
        return self.split and self.list_percent < LIST_PERCENTS[-1]

    @on(events.Resize)
    def _show_side(self) -> None:
        for percent in LIST_PERCENTS:
            self.set_class(percent == self.list_percent, f"-list-{percent}")
        if self.shows_side and self.stands:
            self.call_after_refresh(self._fill_side)

    async def _fill_side(self) -> None:
        """Show the run under the cursor; its panes come after the first frame, and only where there is room."""
        if self._side is None:
            from qad_tui.panes.side import RunSide

            self._side = RunSide()
            await self.query_one("#body").mount(self._side)
        self._side.show_run(self.table.chosen_path)

    def catch_up(self) -> None:
        """Also the side, as it was left."""
        if self.is_current:
            self._show_side()
        super().catch_up()

    def fleet_changed(self) -> None:
        """Bring table and words up to date."""
        self.draw_rows()

    @property
    def problems(self) -> list[str]:
        """Also what of the roots and the runs cannot be read."""
        return [*super().problems, *self.qad.fleet.problems]

    def tick(self) -> None:
        """Ages grow; and the cursor may have come to a run before there was room to show it."""
        super().tick()
        self.table.show(self.table.rows, now=self.qad.now())
        if time.monotonic() - self._chosen_at >= FOLLOW_SECONDS:
            self._show_side()

    def draw_rows(self) -> None:
        """Filter, sort and show the runs."""
        state, table = self.qad.settings.state, self.table
        order = state.sort_by if state.sort_by in SORT_KEYS else ""  # state.json may name any
        rows = [row for row in self.qad.fleet.rows.values() if is_wanted(row, self.needle)]
        if (table.sorted_by, table.descending) != (order, state.sort_descending):
            table.sorted_by, table.descending = order, state.sort_descending
            table.refresh()
        table.show(sort_rows(rows, order, descending=state.sort_descending), now=self.qad.now())
        self._note_selection()
        self._show_emptiness()

    @on(RunChosen)
    def _follow_chosen(self) -> None:
        """Show the run beside the list at once, but while keys follow each other only when they rest."""
        now = time.monotonic()
        is_moving = now - self._chosen_at < FOLLOW_SECONDS
        self._chosen_at = now
        if self._follow_timer is not None:
            self._follow_timer.stop()
        if is_moving:
            self._follow_timer = self.set_timer(FOLLOW_SECONDS, self._show_side)
        else:
            self._show_side()

    @on(RunOpened)
    def _open_run(self, message: RunOpened) -> None:
        self.qad.open_run(message.path)

    @on(RunTable.SelectionChanged)
    def _note_selection(self) -> None:
        self.table.selected &= {str(path) for path in self.qad.fleet.rows}
        self.qad.selected = [Path(key) for key in sorted(self.table.selected)]
        self._show_words()

    @on(RunTable.HeaderClicked)
    def _sort_by_header(self, message: RunTable.HeaderClicked) -> None:
        state = self.qad.settings.state
        if message.column in SORT_KEYS:
            is_again = message.column == state.sort_by
            self._keep_order(message.column, descending=is_again and not state.sort_descending)

    @on(FilterLine.Filtered)
    def _filter_by(self, message: FilterLine.Filtered) -> None:
        self.needle = message.needle
        self.draw_rows()

    @on(FilterLine.Left)
    def _leave_filter(self) -> None:
        self.query_one("#body").display = True
        self.table.focus()

    def action_open_tab(self, tab: str) -> None:
        """Open the run under the cursor at one of its tabs."""
        if (path := self.table.chosen_path) is not None:
            self.qad.open_run(path, tab=tab)

    def action_toggle_log_scale(self) -> None:
        """Linear or logarithmic values of the curve."""
        if self._side is not None:
            self._side.curves.action_toggle_log_scale()

    def action_filter(self) -> None:
        """Type what to look for."""
        self.query_one(FilterLine).open()

    def action_step_back(self) -> None:
        """Drop the filter first, then the selection."""
        line = self.query_one(FilterLine)
        if line.is_open:
            line.action_drop()
        else:
            self.table.clear_selected()
            self._note_selection()

    def action_sort(self, step: int) -> None:
        """Sort by the next column."""
        known = SORT_KEYS.index(self.table.sorted_by) if self.table.sorted_by in SORT_KEYS else 0
        self._keep_order(SORT_KEYS[(known + step) % len(SORT_KEYS)], descending=False)

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._keep_order(self.table.sorted_by, descending=not self.table.descending)

    def action_pick_columns(self) -> None:
        """Choose the columns."""
        from qad_tui.screens.column_picker import ColumnPicker

        self.qad.push_screen(ColumnPicker(self.table.column_keys), self._keep_columns)

    def action_move_border(self, step: int) -> None:
        """Give the list more room, or the run beside it."""
        if not self.split:
            self.notify("The list has all the room: a wider terminal shows the run beside it.", severity="warning")
            return
        place = LIST_PERCENTS.index(self.list_percent) + step
        if 0 <= place < len(LIST_PERCENTS):
            self._keep_choice(list_percent=LIST_PERCENTS[place])
            self._show_side()

    def action_clone(self) -> None:
        """Start a new run from the one under the cursor, or from nothing where there is none."""
        if (path := self.table.chosen_path) is not None:
            self.qad.new_run(path, ())
        else:
            self.qad.action_go("new")

    def action_clone_with_fix(self) -> None:
        """Start a new run with the changes that mend the failure of the one beside the list."""
        if self.shows_side and self._side is not None:
            self._side.overview.clone_with_fix()

    def action_copy_command(self) -> None:
        """Copy the command that starts the run beside the list again."""
        if self.shows_side and self._side is not None:
            self._side.overview.copy_command()

    def action_compare(self) -> None:
        """Compare the selected runs."""
        if not self.qad.selected and (path := self.table.chosen_path) is not None:
            self.qad.selected = [path]
        self.qad.action_go("compare")

    def action_cancel(self) -> None:
        """Ask before the link that runs or comes next, or the whole chain, is ended."""
        from qad_tui.queue_questions import CHAIN, chain_choices
        from qad_tui.screens.confirm import ConfirmScreen

        row = self.table.chosen
        if row is None:
            return
        live = [link.job.slurm_job_id for link in row.view.links if link.live]
        if not live:
            self._cancel_here(row)
            return
        link = row.view.current_link
        is_running = link is not None and link.stage == "running"
        facts = [short_run_name(row.run.name), f"job {live[0]} is link {row.link_words}: {row.view.outlook.words}"]
        path, choices = row.path, chain_choices(live[0], live, saves=is_running)

        def act(choice: str | None) -> None:
            if choice is not None:
                whole = ["--chain"] if choice == CHAIN else []
                self._cancel_in_thread(["cancel", str(path), *whole, "--patience", str(CANCEL_PATIENCE_SECONDS)])

        self.qad.push_screen(ConfirmScreen(f"Cancel job {live[0]}?", facts, choices), act)

    def _cancel_here(self, row: RunRow) -> None:
        """Ask before a run that was started without SLURM is told to save and stop."""
        from qad_core.launch.local_start import find_living
        from qad_tui.queue_questions import JOBS
        from qad_tui.screens.confirm import Choice, ConfirmScreen

        start = find_living(row.view.jobs)
        if start is None:
            self.notify("Nothing of this run waits or runs on SLURM or on this machine.", severity="warning")
            return
        note = "It goes on from there when it is started again."
        facts = [short_run_name(row.run.name), f"process {start.pid} on this machine"]

        def act(choice: str | None) -> None:
            if choice is not None:
                self._cancel_in_thread(["cancel", str(row.path)])

        self.qad.push_screen(ConfirmScreen("Stop this run?", facts, [Choice(JOBS, "Save and stop", note)]), act)

    @work(thread=True, group="runs-action")
    def _cancel_in_thread(self, arguments: Sequence[str]) -> None:
        self.post_message(RunCancelled(run_command(arguments, self.qad.slurm_client.environ)))

    @on(RunCancelled)
    def _tell_cancelled(self, message: RunCancelled) -> None:
        self.qad.note_slurm_action()
        if done := cancelled_words(message.answer):
            self.notify("\n".join(done), markup=False)
        for words in refusal_words(message.answer):
            self.notify(words, title="Refused", severity="error", timeout=20, markup=False)

    def _keep_order(self, key: str, *, descending: bool) -> None:
        self._keep_choice(sort_by=key, sort_descending=descending)
        self.draw_rows()

    def _keep_columns(self, columns: tuple[str, ...] | None) -> None:
        if columns is not None:
            self._keep_choice(columns=columns)
            self.table.choose_columns(columns)

    def _keep_choice(self, **changes: object) -> None:
        self.qad.keep_choice(**changes)

    def _show_words(self) -> None:
        rows, table = list(self.qad.fleet.rows.values()), self.table
        words = describe_list(rows, shown=len(table.rows), needle=self.needle, selected=len(table.selected))
        if table.sorted_by or table.descending:
            label = SORT_WORDS.get(table.sorted_by) or COLUMN_WORDS[table.sorted_by][0]
            words.append(f"  ·  by {label}{' ▼' if table.descending else ' ▲'}", "dim")
        self.query_one("#runs-words", Words).say(words)

    def _show_emptiness(self) -> None:
        fleet = self.qad.fleet
        nothing_known = fleet.polled_at is not None and not fleet.rows
        nothing_wanted = bool(fleet.rows) and not self.table.rows
        empty = nothing_known or nothing_wanted
        self.query_one("#body").display = not empty
        self.query_one("#runs-words").display = not nothing_known
        page = self.query_one("#empty", Static)
        page.display = empty
        if empty:
            page.update(why_filtered(self.needle) if nothing_wanted else why_empty(self.qad.roots))
