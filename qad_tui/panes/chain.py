"""The chain of a run: its links on SLURM with states, dependencies and times, and what may be done to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import Static

from qad_core.errors import QadError
from qad_core.run.checkpoints import newest_checkpoint_step
from qad_core.run.crash_loop import read_chain_stop
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job
from qad_core.slurm.answers import NOT_ASKED_YET
from qad_core.slurm.queue_actions import JobOutcome, act_on_jobs
from qad_core.slurm.queue_view import own_name
from qad_tui.chain_answers import cancelled_words, refusal_words, submitted_words
from qad_tui.chain_limits import ChainLimits, read_limits
from qad_tui.chain_rows import FolderFacts, LinkRow, make_rows
from qad_tui.fleet import RunRow
from qad_tui.headless import Answer, run_command
from qad_tui.panes.base import RunPane
from qad_tui.queue_questions import CHAIN, JOBS, chain_choices
from qad_tui.screens.confirm import Choice, ConfirmScreen
from qad_tui.slurm_words import first_words, short_problem
from qad_tui.widgets.chain_view import ChainTable, describe_link, describe_timeline
from qad_tui.widgets.words import Words

CANCEL_PATIENCE_SECONDS = 30
SUBMIT_PATIENCE_SECONDS = 120
"""How long a submission waits for a controller that is silent."""


@dataclass
class FolderRead(Message, bubble=False):
    """The run folder was looked at."""

    path: Path
    facts: FolderFacts


@dataclass
class LimitsRead(Message, bubble=False):
    """It is known what can be done to the chain of a run."""

    path: Path
    limits: ChainLimits


@dataclass
class ChainChanged(Message, bubble=False):
    """A command has ended, or jobs were changed."""

    done: Sequence[str]
    refused: Sequence[str]


class ChainPane(RunPane):
    """Links of the run as the fleet knows them; its folder is read in a thread."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "cancel(False)", "Cancel link", id="chain.cancel"),
        Binding("X", "cancel(True)", "Cancel chain", id="chain.cancel_all"),
        Binding("a", "add", "Add links", id="chain.add"),
    ]

    can_focus = True

    def __init__(self) -> None:
        super().__init__()
        self.facts = FolderFacts()
        self.limits = ChainLimits()
        self.busy = ""
        self._limits_of: Path | None = None
        self._last: RunRow | None = None
        self._reading: Path | None = None
        self._rows: list[LinkRow] = []

    def compose(self) -> ComposeResult:
        """Words, links, timeline, the link under the cursor."""
        yield Words("", id="chain-words")
        yield Static("", id="chain-empty")
        yield ChainTable()
        yield Words("", id="timeline")
        with VerticalScroll(id="link-box", can_focus=False):
            yield Words("", id="link")

    def take_keys(self) -> None:
        """Have the keys go to the links, or to the pane where there are none."""
        table = self.query_one(ChainTable)
        self.screen.set_focus(table if table.display else self)
        self.read()

    def run_changed(self) -> None:
        """Forget the run before."""
        self.facts, self._last, self.busy = FolderFacts(), None, ""
        self.limits, self._limits_of = ChainLimits(), None

    def read(self) -> None:
        """Look at the run folder, and once at what can be done."""
        if self.path is not None and self.path != self._limits_of and self.is_on_display:
            self._limits_of = self.path
            self._read_limits_in_thread(self.path)
        if self.path is not None and self.path != self._reading:
            row, self._reading = self.row or self._last, self.path
            self._read_in_thread(self.path, [] if row is None else [link.job for link in row.view.links])

    @work(thread=True, group="chain")
    def _read_in_thread(self, path: Path, jobs: Sequence[Job]) -> None:
        self.post_message(FolderRead(path, read_facts(RunFolder(path), jobs)))

    @on(FolderRead)
    def _keep(self, message: FolderRead) -> None:
        if message.path == self._reading:
            self._reading = None
        if message.path == self.path and message.facts != self.facts:
            self.facts = message.facts
            self.redraw()

    @work(thread=True, group="chain-limits")
    def _read_limits_in_thread(self, path: Path) -> None:
        self.post_message(LimitsRead(path, read_limits(RunFolder(path), self.qad.slurm_client.environ)))

    @on(LimitsRead)
    def _keep_limits(self, message: LimitsRead) -> None:
        if message.path == self.path:
            self.limits = message.limits
            self.refresh_bindings()
            self.redraw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer no key that cannot work."""
        if action == "add":
            return self.limits.allow_add
        return action != "cancel" or self.limits.allow_cancel(has_links=bool(self._rows))

    def redraw(self) -> None:
        """Draw the chain as of now."""
        self._last = self.row or self._last
        links = self._last.view.links if self._last else ()
        now = self.qad.now()
        self._rows = make_rows(links, self.facts, self.qad.slurm.answers.accounting)
        table = self.query_one(ChainTable)
        for part in ("#timeline", "#link-box", "ChainTable"):
            self.query_one(part).display = bool(links)
        empty = self.query_one("#chain-empty", Static)
        empty.display = not links
        if links:
            table.show(self._rows, now=now)
            timeline = describe_timeline(self._rows, now=now, width=max(0, self.size.width - 3))
            self.query_one("#timeline", Words).say(timeline)
        else:
            empty.update(_why_empty(self._last, self.limits))
        self.query_one("#chain-words", Words).say(self._words())

    @on(ChainTable.Moved)
    def _draw_link(self) -> None:
        row = self.query_one(ChainTable).chosen
        words = Text("") if row is None else describe_link(row, self.facts.logs, now=self.qad.now())
        self.query_one("#link", Words).say(words)

    def action_cancel(self, chain: bool) -> None:
        """Ask before the link under the cursor, or the chain, is ended."""
        row, live = self.query_one(ChainTable).chosen, self._live_ids()
        if not live or row is None:
            self.notify("No link of this run waits or runs: there is nothing to cancel.", severity="warning")
            return
        job_id = row.view.job.slurm_job_id
        if not chain and job_id not in live:
            self.notify(f"Link {row.place} has ended; choose one that waits or runs.", severity="warning")
            return
        saves = any(other.view.stage == "running" for other in self._rows)
        if chain:
            note = "What runs saves first; what waits is taken out." if saves else "Nothing of it has begun."
            choices = [Choice(CHAIN, f"Yes, the whole chain ({len(live)} link{'s' if live[1:] else ''})", note)]
            question = "Cancel all that is left of the chain?"
        else:
            choices = chain_choices(job_id, live, saves=row.view.stage == "running")
            question = f"Cancel link {row.place}, job {job_id}?"
        facts = [f"{one.view.job.slurm_job_id:>8}  link {one.place}  {one.view.words}" for one in self._live_rows()]
        self.qad.push_screen(ConfirmScreen(question, facts[:8], choices), lambda key: self._cancel(key, job_id))

    def action_add(self) -> None:
        """Ask how many links more."""
        from qad_tui.screens.add_links import AddLinksScreen

        row = self.row
        if row is None:
            self.notify("The run folder is gone: nothing can be submitted from it.", severity="warning")
            return
        self.qad.push_screen(AddLinksScreen(row.path, self._live_ids()), self._add)

    def _cancel(self, key: str | None, job_id: str) -> None:
        if key == JOBS:
            self._start(f"cancelling job {job_id} …")
            self._cancel_job_in_thread(job_id)
        elif key == CHAIN:
            self._start("cancelling the chain …")
            self._run_in_thread(["cancel", str(self.path), "--chain", "--patience", str(CANCEL_PATIENCE_SECONDS)])

    def _add(self, arguments: Sequence[str] | None) -> None:
        if arguments is not None:
            self._start("submitting …")
            self._run_in_thread([*arguments, "--patience", str(SUBMIT_PATIENCE_SECONDS)])

    def _start(self, words: str) -> None:
        self.busy = words
        self.redraw()

    @work(thread=True, group="chain-action")
    def _run_in_thread(self, arguments: Sequence[str]) -> None:
        answer = run_command(arguments, self.qad.slurm_client.environ)
        self.post_message(ChainChanged(_done_words(answer), refusal_words(answer)))

    @work(thread=True, group="chain-action")
    def _cancel_job_in_thread(self, job_id: str) -> None:
        try:
            outcomes = act_on_jobs(self.qad.slurm_client, "cancel", [job_id], own_name())
        except QadError as error:
            outcomes = [JobOutcome(job_id, False, error.message, error.hint)]
        said = [f"Job {one.job_id}: {one.words} {one.hint}".strip() for one in outcomes]
        done = all(one.done for one in outcomes)
        self.post_message(ChainChanged(said if done else [], [] if done else said))

    @on(ChainChanged)
    def _tell(self, message: ChainChanged) -> None:
        self.busy = ""
        self.qad.note_slurm_action()
        if message.done:
            self.notify("\n".join(message.done), markup=False)
        for words in message.refused[:5]:
            self.notify(words, title="Refused", severity="error", timeout=20, markup=False)
        self.redraw()

    def _live_rows(self) -> list[LinkRow]:
        return [row for row in self._rows if row.view.live and row.view.job.slurm_job_id]

    def _live_ids(self) -> list[str]:
        return [row.view.job.slurm_job_id for row in self._live_rows()]

    def _words(self) -> Text:
        live = len(self._live_rows())
        text = Text("")
        if self._rows:
            text.append(f"{len(self._rows)} link{'s' if self._rows[1:] else ''}", "bold")
            text.append(f", {self._queue_words(live)}")
        if self.busy:
            text.append(f"  ·  {self.busy}", "bold yellow")
        return text.append_text(self._slurm_words()) if self._rows else text

    def _queue_words(self, live: int) -> str:
        if any(row.view.unanswered for row in self._rows):
            return "what they do is not known" if self._rows[1:] else "what it does is not known"
        return f"{live} of them in the queue" if live else "none of them in the queue"

    def _slurm_words(self) -> Text:
        """Why nothing can be done, or the links are not told as they are now; empty where all is well."""
        slurm = self.qad.slurm
        if self.limits.brief:
            return Text(f"  ·  {self.limits.brief}", "yellow")
        if slurm.problem:
            since = "SLURM is silent" if slurm.answered_at is None else "as of SLURM's last answer"
            return Text(f"  ·  ⚠ {since}: {short_problem(slurm.problem)}", "yellow")
        if slurm.answers is not NOT_ASKED_YET:
            return Text("")
        asking = self.qad.slurm_asker.is_asking
        return Text(f"  ·  {first_words(now=self.qad.now(), next_at=self.qad.slurm_next_at, asking=asking)}", "dim")


def read_facts(folder: RunFolder, jobs: Sequence[Job]) -> FolderFacts:
    """What the folder tells; a folder that cannot be read tells nothing."""
    try:
        chains = {job.chain for job in jobs if job.chain}
        stops = {chain: reason for chain in chains if (reason := read_chain_stop(folder, chain))}
        logs = frozenset(str(path) for job in jobs for path in job.log_files() if path.is_file())
        return FolderFacts(newest_checkpoint_step(folder), stops, logs)
    except OSError:
        return FolderFacts()


def _done_words(answer: Answer) -> list[str]:
    return cancelled_words(answer) if answer.arguments[0] == "cancel" else submitted_words(answer)


def _why_empty(row: RunRow | None, limits: ChainLimits) -> Text:
    text = Text.assemble(("This run has no links on SLURM.", "bold"), "\n\n")
    local = row is not None and any(job.kind == "local" for job in row.view.jobs)
    text.append("It was started here, without SLURM." if local else "It was never submitted.")
    if limits.sentence:
        return text.append(f"\n\n{limits.sentence}", "yellow")
    return text.append("\n\n  ").append("a", "bold cyan").append("   submit it as a chain of links")
