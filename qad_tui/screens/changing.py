"""A screen of jobs that can be changed: it asks first, acts in a thread, and tells what came of it.

Owns the way from a key to SLURM and back. Which jobs are meant is the subclass's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message

from qad_core.errors import QadError
from qad_core.slurm.queue_actions import Action, JobOutcome, act_on_jobs, objection
from qad_core.slurm.queue_view import RunOfJob, own_name
from qad_core.slurm.records import QueueEntry
from qad_tui.chain_answers import cancelled_words, refusal_words
from qad_tui.formats import short_run_name
from qad_tui.headless import Answer, run_command
from qad_tui.queue_questions import CHAIN, JOBS, ask_about_chain, ask_about_jobs
from qad_tui.screens.base import QadScreen
from qad_tui.screens.confirm import ConfirmScreen

CANCEL_PATIENCE_SECONDS = 30
"""How long a cancelling waits for a controller that is silent."""


@dataclass
class JobsChanged(Message, bubble=False):
    """Something was done to jobs, or refused."""

    outcomes: Sequence[JobOutcome]


@dataclass
class ChainCancelled(Message, bubble=False):
    """`qad_core cancel` has ended."""

    answer: Answer


class ChangingScreen(QadScreen):
    """Keys that cancel, hold, release and requeue; only one's own jobs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "change('cancel')", "Cancel", id="queue.cancel"),
        Binding("h", "change('hold')", "Hold", id="queue.hold"),
        Binding("u", "change('release')", "Release", id="queue.release"),
        Binding("R", "change('requeue')", "Requeue", id="queue.requeue", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.me = own_name()

    def chosen_jobs(self) -> Sequence[QueueEntry]:
        """The jobs that a key is meant for."""
        return ()

    def run_of(self, entry: QueueEntry) -> RunOfJob | None:
        """The run that a job is a link of, where it is one and the run is known."""
        return None

    def jobs_were_changed(self) -> None:
        """See soon what came of it."""
        self.qad.note_slurm_action()

    def action_change(self, action: Action) -> None:
        """Ask before something is done to the selected jobs."""
        chosen = self.chosen_jobs()
        refused = [(entry, objection(action, entry, self.me)) for entry in chosen]
        able = [entry for entry, words in refused if not words]
        for entry, words in [pair for pair in refused if pair[1]][:3]:
            self.notify(f"Job {entry.job_id} {words}.", severity="warning")
        if able:
            self._confirm(action, able)

    def _confirm(self, action: Action, jobs: Sequence[QueueEntry]) -> None:
        run = self.run_of(jobs[0]) if len(jobs) == 1 else None
        live = self._live_links(run)
        if action == "cancel" and run is not None and live:
            question = ask_about_chain(jobs[0], run, live)
        else:
            question = ask_about_jobs(action, jobs, self._name_of)

        def act(choice: str | None) -> None:
            if choice == CHAIN and run is not None:
                self._cancel_chain(run.path)
            elif choice == JOBS:  # by their ids: what the run does next may be another job by now
                self._change_in_thread(action, [entry.job_id for entry in jobs])

        self.qad.push_screen(ConfirmScreen(*question), act)

    def _live_links(self, run: RunOfJob | None) -> list[str]:
        row = self.qad.fleet.rows.get(run.path) if run else None
        return [link.job.slurm_job_id for link in row.view.links if link.live] if row else []

    def _cancel_chain(self, path: Path) -> None:
        self._cancel_in_thread(["cancel", str(path), "--chain", "--patience", str(CANCEL_PATIENCE_SECONDS)])

    @work(thread=True, group="queue-action")
    def _cancel_in_thread(self, arguments: Sequence[str]) -> None:
        self.post_message(ChainCancelled(run_command(arguments, self.qad.slurm_client.environ)))

    @work(thread=True, group="queue-action")
    def _change_in_thread(self, action: Action, job_ids: Sequence[str]) -> None:
        try:
            outcomes = act_on_jobs(self.qad.slurm_client, action, job_ids, self.me)
        except QadError as error:
            outcomes = [JobOutcome(", ".join(job_ids), False, error.message, error.hint)]
        self.post_message(JobsChanged(outcomes))

    @on(JobsChanged)
    def _tell_outcomes(self, message: JobsChanged) -> None:
        self.jobs_were_changed()
        done = [one for one in message.outcomes if one.done]
        if done:
            self.notify("\n".join(f"Job {one.job_id} {one.words}." for one in done[:8]), markup=False)
        for one in [one for one in message.outcomes if not one.done][:5]:
            words = f"Job {one.job_id}: {one.words} {one.hint}".strip()
            self.notify(words, title="Refused", severity="error", timeout=20, markup=False)

    @on(ChainCancelled)
    def _tell_cancelled(self, message: ChainCancelled) -> None:
        self.jobs_were_changed()
        if done := cancelled_words(message.answer):
            self.notify("\n".join(done), markup=False)
        for words in refusal_words(message.answer):
            self.notify(words, title="Refused", severity="error", timeout=20, markup=False)

    def _name_of(self, entry: QueueEntry) -> str:
        run = self.run_of(entry)
        return entry.name if run is None else f"{run.place} {short_run_name(run.path.name)}"
