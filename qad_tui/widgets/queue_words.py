"""What the queue shows, in a line, and why it shows nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from qad_core.slurm.queue_view import JobStage, count_stages
from qad_core.slurm.records import QueueEntry
from qad_tui.slurm_watch import SlurmSnapshot

_STAGES: tuple[tuple[JobStage, str], ...] = (
    ("running", "run"),
    ("waiting", "wait"),
    ("held", "held"),
    ("stuck", "stuck"),
    ("ended", "ended"),
)


def describe_list(jobs: Sequence[QueueEntry], *, everyone: bool, needle: str, sorted_by: str) -> Text:
    """Whose jobs, how many at what, in which order."""
    text = Text("Everyone's jobs" if everyone else "My jobs", "bold")
    counts = count_stages(jobs)
    for stage, word in _STAGES:
        if counts.get(stage):
            text.append(f"  {counts[stage]:,} {word}", "red" if stage == "stuck" else "")
    if needle:
        text.append(f"  ·  has “{needle}”", "yellow")
    if sorted_by:
        text.append(f"  ·  by {sorted_by}", "dim")
    return text


def why_empty(snapshot: SlurmSnapshot, *, everyone: bool, needle: str, age: Text) -> Text:
    """Why there is no job to see, and the next key."""
    if snapshot.missing:
        return _page(
            "There is no SLURM on this machine.",
            snapshot.problem,
            (("2", "a new run, which can run here without SLURM"), ("r", "look for SLURM again")),
        )
    if snapshot.jobs is None:
        if not snapshot.problem:
            return _page(f"Nothing is known of the queue yet: {age.plain}", "", ())
        why = f"{snapshot.problem} Nothing is known of the queue: that is not to say that it is empty."
        return _page("SLURM does not answer.", why, (("r", "ask again"),))
    if needle:
        return _page(f"No job has “{needle}”.", "", (("escape", "drop the filter"), *_other(everyone)))
    if everyone:
        return _page("The queue is empty.", "Nobody's jobs wait or run.", (("2", "a new run"),))
    others = len(snapshot.jobs)
    why = f"Others have {others:,}." if others else "Nor has anybody else."
    return _page("You have no jobs in the queue.", why, (*_other(everyone), ("2", "a new run")))


def _other(everyone: bool) -> tuple[tuple[str, str], ...]:
    return () if everyone else (("a", "everyone's jobs"),)


def _page(title: str, why: str, keys: Sequence[tuple[str, str]]) -> Text:
    text = Text(title, "bold")
    if why:
        text.append(f"\n\n{why}", "not bold")
    text.append("\n")
    for key, purpose in keys:
        text.append(f"\n  {key:<8}", "bold cyan").append(purpose, "not bold")
    return text
