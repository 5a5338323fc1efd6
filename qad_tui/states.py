"""How a run's state looks: a mark, a word and a colour, so that the colour is never the only sign."""

from __future__ import annotations

from dataclasses import dataclass

from qad_core.run.store import RunSummary, State


@dataclass(frozen=True)
class StateLook:
    """Mark and Rich style of a state."""

    mark: str
    style: str


LOOKS: dict[State, StateLook] = {
    "running": StateLook("●", "bold green"),
    "done": StateLook("✓", "cyan"),
    "stopped": StateLook("■", "yellow"),
    "failed": StateLook("✗", "bold red"),
    "killed": StateLook("†", "bold magenta"),
    "never started": StateLook("○", "dim"),
    "foreign": StateLook("·", "dim"),
}


def state_word(run: RunSummary) -> str:
    """The state in at most eleven letters; of a running run its phase (`training`, `evaluating`, ...)."""
    if run.state == "never started":
        return "not started"
    return run.status.phase if run.state == "running" and run.status else run.state


def state_phrase(run: RunSummary) -> str:
    """The state with what a person would ask next: by what it stopped, whether it can go on."""
    if run.state == "stopped":
        by = f" by {run.status.reason}" if run.status and run.status.reason else ""
        return f"stopped{by}, can be resumed"
    if run.state == "killed":
        return "killed, can be resumed"
    if run.state == "foreign":
        return "made by other scripts: no metrics.jsonl to show"
    return state_word(run)
