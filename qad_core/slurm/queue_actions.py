"""Changes to jobs in the queue: cancel, hold, release, requeue; one's own jobs alone, and each job's answer kept.

Owns what may be done to which job. A running link of a run is told to save before it ends; how a whole chain is
ended is `commands/cancel.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qad_core.errors import QadError
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.jobs import is_finished, is_pending, is_running
from qad_core.slurm.queue_view import COMMENT_PREFIX
from qad_core.slurm.records import QueueEntry

Action = Literal["cancel", "hold", "release", "requeue"]
ACTIONS: tuple[Action, ...] = ("cancel", "hold", "release", "requeue")
_SAVABLE = frozenset({"RUNNING", "RESIZING", "SIGNALING"})
_ENDING = frozenset({"COMPLETING", "STAGE_OUT"})
_STANDING_STILL = frozenset({"SUSPENDED", "STOPPED"})


@dataclass(frozen=True)
class JobOutcome:
    """What came of an action on one job."""

    job_id: str
    done: bool
    words: str
    """What was done, or who refused it and why."""
    hint: str = ""
    """What to do about a refusal."""


def act_on_jobs(
    client: SlurmClient, action: Action, job_ids: Sequence[str], user: str, *, now: bool = False
) -> list[JobOutcome]:
    """Do it to each of these jobs that is the `user`'s and can take it; the outcomes, in their order.

    With `now` a running link is ended without a save. Raises SlurmUnavailable and SlurmMissing when SLURM does not
    even say whose the jobs are; later silence is the outcome of the job that met it.
    """
    entries = {entry.job_id: entry for entry in client.queue(list(dict.fromkeys(job_ids)))}
    return [_act_on(client, action, job_id, entries, user, now=now) for job_id in dict.fromkeys(job_ids)]


def objection(action: Action, entry: QueueEntry, user: str) -> str:
    """Why the action cannot be done to a job, in a phrase after `job 12`; empty where it can."""
    if entry.user != user:
        return f"is {entry.user}'s: only your own jobs can be changed here"
    if is_finished(entry.state) and action != "requeue":
        return "has ended already"
    if action == "requeue" and is_pending(entry.state):
        return "is in the queue already"
    if action == "release" and not is_pending(entry.state):
        return "does not wait, so it cannot be held"
    return ""


def saves_first(entry: QueueEntry) -> bool:
    """Whether the job is a run's link that can save before it ends."""
    return _is_link(entry) and entry.state in _SAVABLE


def _is_link(entry: QueueEntry) -> bool:
    return entry.comment.startswith(COMMENT_PREFIX)


def _act_on(
    client: SlurmClient, action: Action, job_id: str, entries: Mapping[str, QueueEntry], user: str, *, now: bool
) -> JobOutcome:
    entry = entries.get(job_id)
    if entry is None:
        return JobOutcome(job_id, False, "SLURM does not know it: it ended a while ago, or never was")
    refused = objection(action, entry, user)
    if action == "cancel" and not now and _is_link(entry) and entry.state in _STANDING_STILL:
        refused = "is suspended, and cannot save while it stands still: --now ends it without a save"
    if refused:
        return JobOutcome(job_id, False, refused)
    try:
        return JobOutcome(job_id, True, _do(client, action, entry, now=now))
    except QadError as error:
        return JobOutcome(job_id, False, error.message, error.hint)


def _do(client: SlurmClient, action: Action, entry: QueueEntry, *, now: bool) -> str:
    job_ids = [entry.job_id]
    if action == "hold":
        client.hold(job_ids)
        return "will be held once it is requeued: it runs" if is_running(entry.state) else "is held"
    if action == "release":
        client.release(job_ids)
        return "is released"
    if action == "requeue":
        client.requeue(job_ids)
        return "goes back into the queue; it starts again no sooner than in two minutes"
    if saves_first(entry) and not now:
        client.stop_gently(entry.job_id)
        return "was told to save and stop"
    if entry.state in _ENDING:
        return "is ending already"
    client.cancel(job_ids)
    return "is cancelled"
