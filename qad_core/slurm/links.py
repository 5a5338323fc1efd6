"""The links of a run's chain as a person asks about them: what each does, waits for, or how it ended.

Pure: a link's record in jobs.jsonl is laid together with what SLURM answered (`answers.py`). What nobody has
said is called unknown; a job that has left the queue is not taken for one that has completed.

Of a link that is live, squeue knows best, since accounting lags by seconds; of one that has ended, the run
folder's own record and sacct, then what is left of it in the controller's memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qad_core.errors import ExitCode
from qad_core.run.jobs import Job
from qad_core.slurm.dependencies import short_dependency
from qad_core.slurm.jobs import (
    ending_words,
    is_finished,
    is_pending,
    never_starts,
    reason_words,
    state_words,
    what_to_do,
)
from qad_core.slurm.records import AccountingEntry, QueueEntry

Stage = Literal["refused", "lost", "pending", "running", "ended", "unknown"]


@dataclass(frozen=True)
class LinkView:
    """One link at one moment."""

    job: Job
    """Its record in the run folder."""
    stage: Stage
    """`lost`: sbatch was called and nobody knows whether it was heard; `unknown`: gone, and nobody says how."""
    state: str
    """SLURM's own word, such as TIMEOUT; empty when nobody said one."""
    words: str
    """All of it in plain words."""
    what_to_do: str = ""
    """Advice, where waiting will not help."""
    never_starts: bool = False
    """Whether it waits for something that cannot come."""
    started: float | None = None
    """Unix time; SLURM's where it said so."""
    ended: float | None = None
    """Unix time."""
    estimated_start: float | None = None
    """When SLURM expects a waiting link to start, Unix time."""
    elapsed_seconds: float | None = None
    """Walltime used."""
    left_seconds: float | None = None
    """Walltime left of a running link."""
    node_list: str = ""
    """Nodes as SLURM writes them."""
    dependency: str = ""
    """What it waits for, as SLURM writes it."""
    waits_for: str = ""
    """What it waits for, or what sbatch was told, in a few words: `all links before it`."""
    exit_code: int | None = None
    """Exit code of the training, or of the batch script."""
    signal: int | None = None
    """Signal that ended the batch script."""
    reason: str = ""
    """SLURM's own word for why it waits or ended."""
    source: Literal["run folder", "squeue", "sacct", "nobody"] = "nobody"
    """Who said so."""
    unanswered: bool = False
    """Whether nothing more is known because SLURM does not answer."""

    @property
    def live(self) -> bool:
        """Whether it waits or runs."""
        return self.stage in ("pending", "running")

    @property
    def logs(self) -> list[Path]:
        """What its batch script printed."""
        return self.job.log_files()


def view_links(
    jobs: Sequence[Job],
    queue: Mapping[str, QueueEntry] | None,
    accounting: Mapping[str, AccountingEntry] | None,
    now: float,
    asked: Collection[str] | None = None,
) -> list[LinkView]:
    """The SLURM links among a run's jobs, in their order.

    `queue` and `accounting` hold what SLURM answered by job id; None where it gave no answer. They tell nothing of
    a link whose id is not among `asked`; None is all of them.
    """
    links = [job for job in jobs if job.kind == "slurm"]
    ids = [job.slurm_job_id for job in links]
    views: list[LinkView] = []
    for number, job in enumerate(links):
        view = _view(job, queue, accounting, now, before=frozenset(ids[:number]))
        if view.stage == "unknown" and queue is not None and asked is not None and job.slurm_job_id not in asked:
            view = LinkView(job, "pending", "", "is submitted, and SLURM was not asked since", source="run folder")
        elif view.unanswered and asked is not None and job.slurm_job_id not in asked:
            view = dataclasses.replace(view, words="SLURM has not said yet what it does")
        waits_for = short_dependency(view.dependency or job.dependency, frozenset(ids[:number]))
        views.append(dataclasses.replace(view, waits_for=waits_for))
    return views


def _view(
    job: Job,
    queue: Mapping[str, QueueEntry] | None,
    accounting: Mapping[str, AccountingEntry] | None,
    now: float,
    *,
    before: Collection[str],
) -> LinkView:
    if job.refused:
        return LinkView(job, "refused", "", f"not taken by SLURM: {job.refused}", source="run folder")
    if not job.slurm_job_id:
        hint = "The next `qad_core submit` of this run looks for it first."
        return LinkView(job, "lost", "", "submitted, and SLURM's answer is not known", hint, source="run folder")
    queued = queue.get(job.slurm_job_id) if queue is not None else None
    accounted = accounting.get(job.slurm_job_id) if accounting is not None else None
    if queued is not None and not is_finished(queued.state):
        is_waiting = is_pending(queued.state)
        return _view_pending(job, queued, before) if is_waiting else _view_running(job, queued, now)
    if accounted is not None and is_finished(accounted.state):
        return _view_ended(job, accounted, started=accounted.start_time, ended=accounted.end_time, source="sacct")
    if queued is not None:  # still in the controller's memory
        started, ended = job.started or queued.start_time, job.ended or queued.end_time
        return _view_ended(job, queued, started=started, ended=ended, source="squeue")
    if job.ended is not None:
        return _view_recorded(job)
    return _view_unknown(job, queue is not None, accounted)


def _view_pending(job: Job, entry: QueueEntry, before: Collection[str]) -> LinkView:
    words = reason_words(entry.reason, dependency=entry.dependency, before=before)
    return LinkView(
        job,
        "pending",
        entry.state,
        f"waits: {words}",
        what_to_do(entry.reason),
        never_starts(entry.reason),
        estimated_start=entry.start_time,
        node_list=entry.node_list,
        dependency=entry.dependency,
        reason=entry.reason,
        source="squeue",
    )


def _view_running(job: Job, entry: QueueEntry, now: float) -> LinkView:
    elapsed = entry.elapsed_seconds if entry.start_time is None else max(now - entry.start_time, 0.0)
    limit = entry.time_limit_seconds
    return LinkView(
        job,
        "running",
        entry.state,
        state_words(entry.state),
        started=entry.start_time,
        elapsed_seconds=elapsed,
        left_seconds=None if limit is None or elapsed is None else max(limit - elapsed, 0.0),
        node_list=entry.node_list,
        source="squeue",
    )


def _view_ended(
    job: Job,
    entry: QueueEntry | AccountingEntry,
    *,
    started: float | None,
    ended: float | None,
    source: Literal["squeue", "sacct"],
) -> LinkView:
    """Ended by SLURM's word; the training's own exit code counts over that of the batch script."""
    code = job.exit_code if job.exit_code is not None else entry.exit_code
    return LinkView(
        job,
        "ended",
        entry.state,
        _ended_words(entry.state, code, entry.signal, entry.reason),
        started=started,
        ended=ended,
        elapsed_seconds=entry.elapsed_seconds,
        node_list=entry.node_list,
        exit_code=code,
        signal=entry.signal,
        reason=entry.reason,
        source=source,
    )


def _view_recorded(job: Job) -> LinkView:
    assert job.ended is not None
    return LinkView(
        job,
        "ended",
        "",
        _ended_words("", job.exit_code, None, ""),
        started=job.started,
        ended=job.ended,
        elapsed_seconds=None if job.started is None else job.ended - job.started,
        node_list=" ".join(job.nodes),
        exit_code=job.exit_code,
        source="run folder",
    )


def _view_unknown(job: Job, queue_answered: bool, accounted: AccountingEntry | None) -> LinkView:
    """No end is written down, and SLURM says none: what it does is not known, and not guessed."""
    if not queue_answered:
        words = "SLURM does not answer, so what it does is not known"
    elif accounted is not None:
        words = f"has left the queue; accounting still says {accounted.state}"
    elif job.started is None:
        words = "has left the queue without having started; accounting says nothing of it"
    else:
        words = "has left the queue without a word of how it ended; accounting says nothing of it"
    state = accounted.state if accounted else ""
    nodes = " ".join(job.nodes)
    return LinkView(job, "unknown", state, words, started=job.started, node_list=nodes, unanswered=not queue_answered)


def _ended_words(state: str, exit_code: int | None, signal: int | None, reason: str) -> str:
    if exit_code == ExitCode.STOPPED_EARLY and state in ("", "FAILED"):
        return "stopped early and saved"
    if state:
        return ending_words(state, exit_code, signal, reason)
    return "ended: done" if exit_code == ExitCode.DONE else f"ended with exit code {exit_code}"
