"""SLURM's queue: the jobs, what they wait for, whose links they are, what is free; and changes to one's own jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Input, Static

from qad_core.slurm.queue_view import RunOfJob, index_runs, shown_jobs
from qad_core.slurm.records import QueueEntry
from qad_tui.screens.changing import ChangingScreen
from qad_tui.slurm_words import queue_words
from qad_tui.widgets.job_card import describe_job
from qad_tui.widgets.partition_table import PartitionTable
from qad_tui.widgets.queue_table import SORT_KEYS, QueueTable, SortKey, sort_jobs
from qad_tui.widgets.queue_words import describe_list, why_empty
from qad_tui.widgets.words import Words


class QueueScreen(ChangingScreen):
    """Everyone's jobs as of squeue's last answer, filtered and sorted here; nothing is asked for a key."""

    PLACE = "queue"
    CSS_PATH = "../styles/queue.tcss"
    WANTS_QUEUE = True
    AUTO_FOCUS: ClassVar[str | None] = "QueueTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "toggle_everyone", "Everyone", id="queue.everyone"),
        Binding("slash", "filter", "Filter", id="queue.filter"),
        Binding("s", "sort(1)", "Sort", id="queue.sort"),
        Binding("S", "reverse", "Reverse the order", id="queue.reverse", show=False),
        Binding("escape", "step_back", "Clear", id="queue.clear", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.everyone = False
        self.needle = ""
        self.sort_key: SortKey = ""
        self.descending = False
        self._runs: Mapping[str, RunOfJob] = {}
        self._drawn: object = None
        self._shown = Text("")

    def compose_body(self) -> ComposeResult:
        """Words, table, the job under the cursor, partitions."""
        yield Words("", id="queue-words")
        yield Input(placeholder="id, user, name, run, partition, state or reason", id="queue-filter")
        yield Static("", id="queue-empty")
        yield QueueTable()
        with Horizontal(id="queue-below"):
            with VerticalScroll(id="job-box", can_focus=False):
                yield Words("", id="job")
            with VerticalScroll(id="partition-box", can_focus=False) as box:
                box.border_title = " Partitions "
                yield PartitionTable()

    def on_mount(self) -> None:
        """The filter comes with its key."""
        self.query_one("#queue-filter").display = False
        super().on_mount()

    def fleet_changed(self) -> None:
        """Runs may have come, and their links."""
        links = ((row.path, link.job) for row in self.qad.fleet.rows.values() for link in row.view.links)
        runs = index_runs(links)
        if runs.keys() != self._runs.keys():
            self._runs = runs
            self.draw_jobs()

    def slurm_changed(self) -> None:
        """Draw the new answer."""
        snapshot = self.qad.slurm
        if self._drawn is not snapshot.jobs or snapshot.jobs is None:
            self.draw_jobs()
        self.draw_words()

    def tick(self) -> None:
        """Times go on."""
        super().tick()
        self.query_one(QueueTable).show_time(self.qad.now())
        self.draw_words()
        self._draw_job()

    def draw_jobs(self) -> None:
        """Filter, sort and show the jobs of the last answer."""
        self._drawn, now = self.qad.slurm.jobs, self.qad.now()
        user = None if self.everyone else self.me
        jobs = shown_jobs(self.qad.slurm.jobs or (), user=user, needle=self.needle, extra=self._run_name)
        rows = sort_jobs(jobs, self.sort_key, self._runs, descending=self.descending, now=now)
        table = self.query_one(QueueTable)
        table.sorted_by, table.descending = self.sort_key, self.descending
        table.show(rows, self._runs, everyone=self.everyone, now=now)
        self._shown = describe_list(rows, everyone=self.everyone, needle=self.needle, sorted_by=self.sort_key)
        self.draw_words()

    def draw_words(self) -> None:
        """Say what is shown, how old it is, and why there is nothing."""
        snapshot, now, table = self.qad.slurm, self.qad.now(), self.query_one(QueueTable)
        age = queue_words(snapshot, now=now, next_at=self.qad.slurm_next_at, asking=self.qad.slurm_asker.is_asking)
        empty = not table.rows
        is_told_below = empty and snapshot.jobs is None and not snapshot.problem
        words = Text("  ·  ").join(part for part in (self._shown, age) if part)
        self.query_one("#queue-words", Words).say(self._shown if is_told_below else words)
        table.display = not empty
        if not empty and self.focused is None:
            table.focus()
        self.query_one("#queue-below").display = snapshot.jobs is not None
        self.query_one("#job-box").display = not empty
        page = self.query_one("#queue-empty", Static)
        page.display = empty
        if empty:
            page.update(why_empty(snapshot, everyone=self.everyone, needle=self.needle, age=age))
        partitions = self.query_one(PartitionTable)
        partitions.show(snapshot.partitions, snapshot.partition_problem)
        self.query_one("#partition-box").display = snapshot.partitions is not None or bool(snapshot.partition_problem)

    @on(QueueTable.Moved)
    def _draw_job(self) -> None:
        entry = self.query_one(QueueTable).chosen
        run = self._runs.get(entry.comment) if entry else None
        self.query_one("#job", Words).say(describe_job(entry, run, now=self.qad.now(), user=self.me))

    @on(QueueTable.Opened)
    def _open_run(self) -> None:
        entry = self.query_one(QueueTable).chosen
        if entry is None:
            return
        run = self._runs.get(entry.comment)
        if run is None:
            self.notify(f"Job {entry.job_id} is no link of a run that is shown here.", severity="warning")
        else:
            self.qad.open_run(run.path, tab="chain")

    @on(QueueTable.HeaderClicked)
    def _sort_by_header(self, message: QueueTable.HeaderClicked) -> None:
        key: SortKey | None = next((key for key in SORT_KEYS if key == message.column), None)
        if key is None:
            return
        self.descending = not self.descending if key == self.sort_key else False
        self.sort_key = key
        self.draw_jobs()

    @on(Input.Changed, "#queue-filter")
    def _filter_by(self, event: Input.Changed) -> None:
        self.needle = event.value
        self.draw_jobs()

    @on(Input.Submitted, "#queue-filter")
    def _end_filter(self) -> None:
        if not self.needle:
            self.query_one("#queue-filter").display = False
        self.query_one(QueueTable).focus()

    def action_toggle_everyone(self) -> None:
        """Show everyone's jobs, or one's own."""
        self.everyone = not self.everyone
        self.draw_jobs()

    def action_filter(self) -> None:
        """Type what to look for."""
        field = self.query_one("#queue-filter", Input)
        field.display = True
        field.focus()

    def action_step_back(self) -> None:
        """Drop the filter first, then the selection."""
        field, table = self.query_one("#queue-filter", Input), self.query_one(QueueTable)
        if field.display:
            field.value = ""
            field.display = False
            table.display = True
            table.focus()
        else:
            table.clear_selected()

    def action_sort(self, step: int) -> None:
        """Sort by the next column."""
        self.sort_key = SORT_KEYS[(SORT_KEYS.index(self.sort_key) + step) % len(SORT_KEYS)]
        self.descending = False
        self.draw_jobs()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.descending = not self.descending
        self.draw_jobs()

    def chosen_jobs(self) -> Sequence[QueueEntry]:
        """The selected jobs, else that under the cursor."""
        return self.query_one(QueueTable).chosen_rows

    def run_of(self, entry: QueueEntry) -> RunOfJob | None:
        """The run that the job is a link of."""
        return self._runs.get(entry.comment)

    def jobs_were_changed(self) -> None:
        """Select none, and see soon what came of it."""
        self.query_one(QueueTable).clear_selected()
        super().jobs_were_changed()

    def _run_name(self, entry: QueueEntry) -> str:
        run = self._runs.get(entry.comment)
        return "" if run is None else run.path.name
