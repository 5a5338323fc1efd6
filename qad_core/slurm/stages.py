"""Where a run stands on its way to steady training, in one word.

Pure: from the outlook, the trainer's phase and its steps. A run that does nothing is at no stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from qad_core.run.status import Phase, Status
    from qad_core.run.store import RunSummary
    from qad_core.slurm.outlook import Outlook


Stage = Literal["queued", "container", "starting", "data", "teacher", "student", "first step", "steady"]
STAGES: tuple[Stage, ...] = ("queued", "container", "starting", "data", "teacher", "student", "first step", "steady")
"""In their order. `container`: the job has its nodes, and the trainer has said nothing yet; `starting`: it has, and
sets its ranks up; `first step`: all is loaded, and no step of this start is done."""
LOCAL_STAGES = STAGES[2:]
"""Those of a run that no SLURM job carries."""

_OF_PHASE: dict[Phase, Stage] = {
    "starting": "starting",
    "teacher": "teacher",
    "student": "student",
    "calibrating": "student",
    "loading": "student",
    "data": "data",
}


def find_stage(run: RunSummary, outlook: Outlook) -> Stage | None:
    """The run's stage; None when it neither waits nor runs, or nobody knows."""
    if outlook.state in ("queued", "blocked"):
        return "queued"
    if outlook.state == "starting":
        return "container"
    if outlook.state not in ("running", "silent") or run.status is None:
        return None
    return _OF_PHASE.get(run.status.phase) or ("steady" if _has_stepped(run, run.status) else "first step")


def _has_stepped(run: RunSummary, status: Status) -> bool:
    """Whether a step was done since this start."""
    newest = run.last_training.get("time") if run.last_training else None
    return newest is not None and newest >= status.started
