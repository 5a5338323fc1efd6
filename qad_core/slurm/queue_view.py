"""The cluster's queue as a person reads it: what each job does or waits for, whose link it is, which go first.

Pure. A row is squeue's own entry; its words are made when they are shown, since of ten thousand jobs a screen
shows fifty.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qad_core.slurm.jobs import (
    ending_words,
    is_finished,
    is_pending,
    is_running,
    never_starts,
    reason_words,
    state_words,
)
from qad_core.slurm.records import QueueEntry

if TYPE_CHECKING:
    from qad_core.run.jobs import Job

COMMENT_PREFIX = "qad:"
"""How the comment of a run's link begins; its submission's token follows."""
JobStage = Literal["running", "waiting", "held", "stuck", "ended", "other"]
"""`held`: until it is released; `stuck`: waits for what cannot come."""
_HELD = frozenset({"JobHeldUser", "JobHeldAdmin", "JobHoldMaxRequeue"})
_HELD_STATES = frozenset({"REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
_SHORT_STATES = {
    "RUNNING": "runs", "CONFIGURING": "starts", "COMPLETING": "ending", "SUSPENDED": "suspended", "STOPPED": "stopped",
    "COMPLETED": "done", "CANCELLED": "cancelled", "FAILED": "failed", "TIMEOUT": "timed out",
    "NODE_FAIL": "node lost", "PREEMPTED": "preempted", "OUT_OF_MEMORY": "no memory", "BOOT_FAIL": "no boot",
    "REQUEUED": "requeued", "STAGE_OUT": "ending", "RESIZING": "resizing", "SIGNALING": "signalled",
    "DEADLINE": "deadline", "REVOKED": "revoked",
}  # fmt: skip
_STAGE_WORDS: dict[JobStage, str] = {"waiting": "waits", "held": "held", "stuck": "stuck"}
_ORDER: dict[JobStage, int] = {"running": 0, "waiting": 1, "stuck": 2, "held": 2, "other": 3, "ended": 4}


@dataclass(frozen=True)
class RunOfJob:
    """The run that a job is a link of."""

    path: Path
    job: Job
    """The link's record."""

    @property
    def place(self) -> str:
        """`2/4`, the link's number of so many."""
        return f"{self.job.link}/{self.job.links}" if self.job.links else str(self.job.link or "")


def own_name() -> str:
    """The caller's name as squeue has it; the number where there is no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def index_runs(jobs: Iterable[tuple[Path, Job]]) -> dict[str, RunOfJob]:
    """Comment of a job -> its run, from (run folder, record of a link) of every run that is known."""
    return {
        COMMENT_PREFIX + job.id.removeprefix("slurm-"): RunOfJob(path, job) for path, job in jobs if job.kind == "slurm"
    }


def stage_of(entry: QueueEntry) -> JobStage:
    """What a job is at, in one word."""
    return _stage(entry.state, entry.reason)


@lru_cache(maxsize=4096)
def _stage(state: str, reason: str) -> JobStage:
    """Kept: ten thousand jobs have some tens of reasons."""
    if is_running(state):
        return "running"
    if is_finished(state):
        return "ended"
    if not is_pending(state):
        return "other"
    if reason in _HELD or state in _HELD_STATES or reason.endswith("held"):
        return "held"
    return "stuck" if never_starts(reason) else "waiting"


def short_state(entry: QueueEntry) -> str:
    """The state in one or two short words, such as `runs` or `timed out`; one that is not known as it is."""
    stage = stage_of(entry)
    return _STAGE_WORDS.get(stage) or _SHORT_STATES.get(entry.state, entry.state.lower())


def job_words(entry: QueueEntry) -> str:
    """What a job does, waits for, or how it ended, in a phrase."""
    if is_pending(entry.state):
        words = reason_words(entry.reason, dependency=entry.dependency)
        return words if entry.state == "PENDING" else f"{state_words(entry.state)}: {words}"
    if is_finished(entry.state):
        return ending_words(entry.state, entry.exit_code, entry.signal, entry.reason)
    return state_words(entry.state)


def where_or_why(entry: QueueEntry) -> str:
    """Of a running job its nodes, of a waiting one what for, of one that has ended how."""
    return entry.node_list if entry.state == "RUNNING" and entry.node_list else job_words(entry)


def elapsed_seconds(entry: QueueEntry, now: float) -> float | None:
    """Seconds that the job has run; None before its start."""
    if is_pending(entry.state):
        return None
    if is_running(entry.state) and entry.start_time is not None and entry.state != "SUSPENDED":
        return max(0.0, now - entry.start_time)
    return entry.elapsed_seconds


def left_seconds(entry: QueueEntry, now: float) -> float | None:
    """Seconds to a running job's walltime; None where it does not run or has no walltime."""
    elapsed = elapsed_seconds(entry, now)
    if not is_running(entry.state) or entry.time_limit_seconds is None or elapsed is None:
        return None
    return max(0.0, entry.time_limit_seconds - elapsed)


def estimated_start(entry: QueueEntry) -> float | None:
    """Unix time at which SLURM expects a waiting job to start; None where it has no idea."""
    return entry.start_time if stage_of(entry) == "waiting" else None


def usual_order(entry: QueueEntry) -> tuple[int, float, int, str]:
    """Sort key: what runs, longest first; then what waits, soonest first; then what has ended, latest first."""
    stage = stage_of(entry)
    if stage == "running":
        moment = entry.start_time or 0.0
    elif stage == "ended":
        moment = -(entry.end_time or 0.0)
    else:
        moment = entry.start_time or float("inf")
    return (_ORDER[stage], moment, -entry.priority, entry.job_id)


def shown_jobs(
    jobs: Sequence[QueueEntry], *, user: str | None, needle: str, extra: Callable[[QueueEntry], str]
) -> list[QueueEntry]:
    """Those of a `user` (None is everyone, without what has ended) in which every word of `needle` is found.

    `extra` gives more text of a job to look in, such as the name of its run.
    """
    if user is not None:
        mine = [entry for entry in jobs if entry.user == user]
    else:
        me = own_name()
        mine = [entry for entry in jobs if entry.user == me or not is_finished(entry.state)]
    words = needle.lower().split()
    return [entry for entry in mine if _has(entry, words, extra)] if words else mine


def _has(entry: QueueEntry, words: Sequence[str], extra: Callable[[QueueEntry], str]) -> bool:
    fields = (entry.job_id, entry.user, entry.name, entry.partition, entry.account, entry.node_list, entry.reason)
    text = " ".join((*fields, short_state(entry), extra(entry))).lower()
    return all(word in text or word in job_words(entry).lower() for word in words)


def count_stages(jobs: Iterable[QueueEntry]) -> Mapping[JobStage, int]:
    """How many jobs are at what."""
    counts: dict[JobStage, int] = {}
    for entry in jobs:
        stage = stage_of(entry)
        counts[stage] = counts.get(stage, 0) + 1
    return counts
