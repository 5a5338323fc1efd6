"""Which of SLURM's jobs are a run's links: known by the token that each carries as its comment, never by an id alone.

An id may be another job's: SLURM gives them anew after a wrap, and another cluster has its own. And a job may be
nobody's: its id was in an answer of sbatch that got lost. Both are settled here, before anything acts on a job.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.launch.patience import PatientSlurm
from qad_core.launch.sbatch import BatchJob
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job, read_jobs
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.jobs import is_finished
from qad_core.slurm.records import QueueEntry
from qad_core.slurm.submissions import find_submissions

SETTLE_SECONDS = 5.0
"""A job may show up so long after the call that asked for it broke off."""


@dataclass(frozen=True)
class LiveLink:
    """A link that waits or runs."""

    job: Job
    """Its record."""
    job_id: str
    """SLURM's id of the job that carries its token."""
    state: str
    """SLURM's word, such as PENDING."""


def live_links(slurm: PatientSlurm, folder: RunFolder) -> list[LiveLink]:
    """Links of the run that wait or run, in their order; raises SlurmUnavailable rather than take silence for none.

    A link that has ended by its own record may be in the queue again: SLURM requeues jobs. One that was submitted
    twice is there twice. A job that has a link's id and not its token is said to be another's, and left out.
    """
    jobs = [job for job in read_jobs(folder.jobs) if job.kind == "slurm"]
    if not jobs:
        return []
    by_comment = {comment_of(job): job for job in jobs}
    by_id = {job.slurm_job_id: job for job in jobs if job.slurm_job_id}
    found = slurm.ask(lambda client: _look(client, list(by_id)))
    live = {job_id: entry for job_id, entry in found.items() if not is_finished(entry.state)}
    for job_id, entry in live.items():
        if job_id in by_id and entry.comment not in by_comment:
            slurm.say(_stranger_words(by_id[job_id], entry))
    order = {comment: number for number, comment in enumerate(by_comment)}
    ours = [entry for entry in live.values() if entry.comment in by_comment]
    ours.sort(key=lambda entry: (order[entry.comment], _number(entry.job_id)))
    return [LiveLink(by_comment[entry.comment], entry.job_id, entry.state) for entry in ours]


def settle_lost_answers(slurm: PatientSlurm, folder: RunFolder) -> None:
    """Find out what became of calls of sbatch whose answer nobody has seen, and write it down.

    A job may come to be seconds after its call broke off, so that it is looked for twice. Raises SlurmUnavailable.
    """
    lost = [job for job in read_jobs(folder.jobs) if job.unresolved]
    missing = [job for job in lost if not _settle(slurm, folder, job)]
    if missing:
        time.sleep(SETTLE_SECONDS)
    for job in missing:
        if not _settle(slurm, folder, job):
            append_job(folder.jobs, Job(id=job.id, kind="slurm", refused="it never reached SLURM"))


def find_one(slurm: PatientSlurm, comment: str, deadline: float | None = None, *, keep: str = "") -> str | None:
    """Id of the job with this comment, of which there shall be one: further ones are cancelled, and that is said.

    `keep` is the id of the one that stays where there are several; else it is the first. None where there is none.
    Raises SlurmUnavailable.
    """
    found = slurm.ask(lambda client: find_submissions(client, comment), deadline)
    if not found:
        return None
    kept = keep if keep in found else found[0]
    doubles = [job_id for job_id in found if job_id != kept]
    if doubles:
        slurm.ask(lambda client: client.cancel(doubles), deadline)
        slurm.say(f"SLURM had taken it more than once: job {kept} stays, {', '.join(doubles)} cancelled.")
    return kept


def note_job(folder: RunFolder, job: Job, job_id: str) -> None:
    """Write down a link's job id: in its chain's list first, from which the batch script cancels what is left."""
    chain = BatchJob(folder, job.chain, stamp="", working_directory=Path())
    with chain.job_ids.open("a", encoding="utf-8") as file:
        file.write(f"{job_id}\n")
    append_job(folder.jobs, Job(id=job.id, kind="slurm", slurm_job_id=job_id))


def comment_of(job: Job) -> str:
    """The comment that the job of a link carries."""
    return f"qad:{job.id.removeprefix('slurm-')}"


def _settle(slurm: PatientSlurm, folder: RunFolder, job: Job) -> bool:
    job_id = find_one(slurm, comment_of(job))
    if job_id is None:
        return False
    note_job(folder, job, job_id)
    slurm.say(f"SLURM has link {job.link}, whose answer was lost: job {job_id}.")
    return True


def _look(client: SlurmClient, job_ids: Sequence[str]) -> Mapping[str, QueueEntry]:
    """The jobs of these ids, whosoever they are, and the caller's own, which may carry a token under another id."""
    return {entry.job_id: entry for entry in (*client.queue(job_ids), *client.own_jobs())}


def _stranger_words(job: Job, entry: QueueEntry) -> str:
    has = f"the comment {entry.comment!r}" if entry.comment else "no comment"
    return (
        f"Job {entry.job_id} is left alone: link {job.link} had this id, but the job of user {entry.user} that has "
        f"it now carries {has} and not {comment_of(job)!r}."
    )


def _number(job_id: str) -> int:
    return int(job_id.partition("_")[0])
