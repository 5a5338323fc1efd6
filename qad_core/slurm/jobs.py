"""A job's state, why it waits and how it ended, in plain words; SLURM 22.05 to 25.11.

Pure. States are those of src/common/slurm_protocol_defs.c (22.05) and job_state.c. Words are lower-case phrases
for a sentence of the caller's: `waits: ...`. Reasons are kept in `reasons.py`.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Collection

from qad_core.slurm.dependencies import dependency_words, short_dependency
from qad_core.slurm.reasons import find_reason

_PENDING = {
    "PENDING": "waits",
    "REQUEUED": "goes back into the queue",
    "REQUEUE_FED": "goes back into the queue",
    "REQUEUE_HOLD": "went back into the queue and is held",
    "SPECIAL_EXIT": "went back into the queue and is held",
    "RESV_DEL_HOLD": "is held: its reservation was removed",
    "EXPEDITING": "starts again ahead of others",
}
_RUNNING = {
    "RUNNING": "runs",
    "CONFIGURING": "starts: its nodes are made ready",
    "COMPLETING": "ends: its nodes are cleared",
    "SUSPENDED": "is suspended: its processes stand still",
    "STOPPED": "is stopped: its processes stand still",
    "SIGNALING": "is being signalled",
    "RESIZING": "changes its size",
    "STAGE_OUT": "ends: its data are copied back",
}
_FINISHED = {
    "COMPLETED": "ended well",
    "CANCELLED": "was cancelled",
    "FAILED": "failed",
    "TIMEOUT": "ran into its walltime",
    "NODE_FAIL": "lost a node",
    "PREEMPTED": "had to make way for another job",
    "BOOT_FAIL": "did not start: a node did not boot",
    "DEADLINE": "ran into its deadline",
    "OUT_OF_MEMORY": "ran out of memory",
    "REVOKED": "went to another cluster",
}
_WORDS = {**_PENDING, **_RUNNING, **_FINISHED}
_UNWRITABLE_OUTPUT = 53
"""What slurmd reports in place of a signal when it cannot open the job's output."""
_OUT_OF_MEMORY = 125


def state_words(state: str) -> str:
    """What a job of this state does, such as `runs`; a state that is not known as it is."""
    return _WORDS.get(state, state)


def is_pending(state: str) -> bool:
    """Whether the job has yet to start, for the first time or again."""
    return state in _PENDING


def is_running(state: str) -> bool:
    """Whether the job has nodes."""
    return state in _RUNNING


def is_finished(state: str) -> bool:
    """Whether the job has ended for good; a state that is not known is no end."""
    return state in _FINISHED


def reason_words(reason: str, *, dependency: str = "", before: Collection[str] = ()) -> str:
    """What a job waits for; with its `dependency`, as squeue has it, which jobs. Unknown reasons as they are.

    `before` are the ids of the links before it, which are not listed one by one.
    """
    known = find_reason(reason)
    if known is None:
        return reason
    if dependency and reason == "DependencyNeverSatisfied":
        return f"{known.words} ({short_dependency(dependency, before)})"
    awaited = dependency_words(dependency, before) if reason == "Dependency" else ""
    return f"{known.words}: until {awaited}" if awaited else known.words


def never_starts(reason: str) -> bool:
    """Whether waiting will not help: somebody has to act first."""
    known = find_reason(reason)
    return known is not None and known.never


def what_to_do(reason: str) -> str:
    """Advice to somebody whose job waits for this reason; empty where it is to wait."""
    known = find_reason(reason)
    return known.advice if known is not None else ""


def ending_words(state: str, exit_code: int | None, signal: int | None, reason: str) -> str:
    """How a job ended, from squeue's or sacct's entry of it."""
    if state == "CANCELLED" and reason == "DependencyNeverSatisfied":
        return "was cancelled by SLURM: what it depended on can no longer come"
    if state != "FAILED":
        return state_words(state)
    if signal == _UNWRITABLE_OUTPUT:
        return "failed before it began: its log file could not be written"
    if signal == _OUT_OF_MEMORY:
        return _FINISHED["OUT_OF_MEMORY"]
    if signal:
        return f"was killed by {_signal_name(signal)}"
    if exit_code:
        return f"failed with exit code {exit_code}"
    known = find_reason(reason)
    return f"failed: {known.words if known else reason}" if reason else "failed"


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
