"""What SLURM says of a set of jobs, asked once for all of them: squeue, and sacct for those that have ended.

Silence is kept apart from an answer: what could not be asked is None, with the reason in words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qad_core.slurm.errors import AccountingUnavailable, SlurmMissing, SlurmUnavailable
from qad_core.slurm.jobs import is_finished

if TYPE_CHECKING:
    from qad_core.run.jobs import Job
    from qad_core.slurm.client import SlurmClient
    from qad_core.slurm.records import AccountingEntry, QueueEntry

MOST_IDS = 1000
"""Jobs asked about in one call: a command takes no argument above 128 KiB."""


@dataclass(frozen=True)
class SlurmAnswers:
    """One look at SLURM."""

    queue: Mapping[str, QueueEntry] | None = None
    """By job id; None when the controller gave no answer."""
    accounting: Mapping[str, AccountingEntry] | None = None
    """By job id; None when it was not asked or gave no answer."""
    silences: tuple[str, ...] = ()
    """What is not known and why, in sentences."""
    asked: Collection[str] | None = None
    """Ids of the jobs that were asked about, where these answers may be held beside newer jobs; None is all."""


NOTHING_ASKED = SlurmAnswers(queue={}, accounting={})
NOT_ASKED_YET = SlurmAnswers(asked=frozenset())
"""Before the first question to a SLURM that is going to be asked."""


def ask_slurm(client: SlurmClient, jobs: Sequence[Job], *, endings: bool = True) -> SlurmAnswers:
    """Ask about all SLURM links among `jobs`; one that has ended may be in the queue again.

    With `endings`, also how those that have left the queue ended, as SLURM accounts for it.
    """
    open_ids = list(dict.fromkeys(job.slurm_job_id for job in jobs if job.kind == "slurm" and job.slurm_job_id))
    if not open_ids:
        return NOTHING_ASKED
    silences: list[str] = []
    queue: dict[str, QueueEntry] | None = None
    try:
        queue = {entry.job_id: entry for ids in _batches(open_ids) for entry in client.queue(ids)}
    except (SlurmUnavailable, SlurmMissing) as error:
        silences.append(error.message)
    gone = [job_id for job_id in open_ids if queue is None or job_id not in queue or is_finished(queue[job_id].state)]
    accounting: dict[str, AccountingEntry] | None = None
    if gone and endings:
        try:
            accounting = {entry.job_id: entry for ids in _batches(gone) for entry in client.accounting(ids)}
        except (AccountingUnavailable, SlurmUnavailable, SlurmMissing) as error:
            silences.append(error.message)
    return SlurmAnswers(queue, accounting, tuple(dict.fromkeys(silences)))


def _batches(job_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (job_ids[first : first + MOST_IDS] for first in range(0, len(job_ids), MOST_IDS))
