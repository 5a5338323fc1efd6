"""How a run's state looks: a mark, a word and a colour, so that the colour is never the only sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from qad_core.run.health import Severity
    from qad_core.slurm.outlook import OutlookState
    from qad_core.slurm.views import RunView

    RowState = OutlookState | Literal["gone", "asking"]
    """`gone`: the run folder was there and is no more; `asking`: SLURM knows, and has not said anything yet."""


@dataclass(frozen=True)
class StateLook:
    """Mark and Rich style of a state."""

    mark: str
    style: str


LOOKS: dict[RowState, StateLook] = {
    "running": StateLook("●", "bold green"),
    "starting": StateLook("◐", "green"),
    "queued": StateLook("◷", "cyan"),
    "blocked": StateLook("⊘", "bold red"),
    "silent": StateLook("◌", "bold yellow"),
    "unknown": StateLook("?", "yellow"),
    "asking": StateLook("…", "dim"),
    "done": StateLook("✓", "cyan"),
    "stopped": StateLook("■", "yellow"),
    "failed": StateLook("✗", "bold red"),
    "killed": StateLook("†", "bold magenta"),
    "never started": StateLook("○", "dim"),
    "foreign": StateLook("·", "dim"),
    "gone": StateLook("∅", "dim"),
}

HEALTH_LOOKS: dict[Severity, StateLook] = {
    "problem": StateLook("✗", "bold red"),
    "warning": StateLook("!", "bold yellow"),
    "note": StateLook("·", "dim"),
}
"""How a finding of the health rules looks."""

_SHORT_WORDS: dict[str, str] = {"never started": "not begun"}


def state_word(state: RowState) -> str:
    """The state in at most ten letters."""
    return _SHORT_WORDS.get(state, state)


def stage_word(view: RunView) -> str:
    """Where a run stands, in at most ten letters; of a steady one what it does. Empty where it does nothing."""
    status = view.run.status
    if view.stage == "steady" and status is not None and status.phase != "training":
        return status.phase
    return view.stage or ""


def state_phrase(view: RunView) -> str:
    """The state with what a person would ask next: by what it stopped, whether it can go on."""
    run, state = view.run, view.outlook.state
    if state == "stopped":
        by = f" by {run.status.reason}" if run.status and run.status.reason else ""
        return f"stopped{by}, can be resumed"
    if state == "killed":
        return "killed, can be resumed"
    if state == "foreign":
        return run.words if run.updated else f"{run.words}: no metrics to show"
    if state == "running":
        return run.status.phase if run.status else state
    return state_word(state)
