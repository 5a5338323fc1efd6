"""How old SLURM's last answer is, and why there is no newer one, in a few words.

Pure; no Textual, no clock.
"""

from __future__ import annotations

import re

from rich.text import Text

from qad_tui.formats import format_duration
from qad_tui.slurm_watch import SlurmSnapshot

_WARNING = "bold yellow"
_TIMEOUT = re.compile(r"(\w+) said nothing in ([\d.]+ s)")
_LATE_SECONDS = 60.0
"""An answer that is older is called out where the next question has no moment."""


def short_problem(problem: str) -> str:
    """Why there was no answer, without what the place says already."""
    text = problem.removeprefix("The SLURM controller does not answer: ").removeprefix("SLURM gave no answer: ")
    if text.startswith(("Unable to contact", "Connection refused")):
        return "the controller cannot be reached"
    return _TIMEOUT.sub(r"\1 timed out after \2", text).rstrip(".")


def bar_words(snapshot: SlurmSnapshot, *, now: float, next_at: float | None, wide: bool) -> Text:
    """For the bar on top; empty where SLURM was not asked, `wide` adds the reason."""
    if snapshot.missing:
        return Text("no SLURM here", "dim")
    if snapshot.scope == "nothing":
        return Text("")
    if snapshot.problem:
        reason = f": {short_problem(snapshot.problem)}" if wide else ""
        return Text(f"⚠ SLURM {_silence(snapshot, now)}{reason}", _WARNING)
    if snapshot.answered_at is None:
        return Text("")
    age = now - snapshot.answered_at
    if next_at is None and age > _LATE_SECONDS:
        return Text(f"SLURM {format_duration(age)} ago", "dim")
    return Text(f"SLURM {format_duration(age)} ago", "green")


def queue_words(snapshot: SlurmSnapshot, *, now: float, next_at: float | None, asking: bool) -> Text:
    """For the queue itself: how old it is, and when SLURM is asked next; empty where there is no SLURM."""
    if snapshot.missing:
        return Text("")
    if snapshot.problem:
        again = _again(now, next_at, asking)
        if snapshot.jobs is None:
            return Text(f"⚠ silent; {again}", _WARNING)
        return Text(f"⚠ {_silence(snapshot, now, of_queue=True)}: {short_problem(snapshot.problem)}; {again}", _WARNING)
    if snapshot.jobs_at is None:
        return Text(first_words(now=now, next_at=next_at, asking=asking), "dim")
    return Text(f"{format_duration(now - snapshot.jobs_at)} old", "dim")


def _silence(snapshot: SlurmSnapshot, now: float, *, of_queue: bool = False) -> str:
    at = snapshot.jobs_at if of_queue else snapshot.answered_at
    return "silent" if at is None else f"stale {format_duration(now - at)}"


def first_words(*, now: float, next_at: float | None, asking: bool) -> str:
    """What becomes of the first question, where there was no answer yet."""
    if asking or (next_at is not None and next_at <= now):
        return "asking SLURM …"
    if next_at is None:
        return "SLURM is not asked while this is paused: r asks"
    return f"SLURM is asked in {format_duration(next_at - now)}"


def _again(now: float, next_at: float | None, asking: bool) -> str:
    if asking:
        return "asking again now"
    if next_at is None:
        return "r asks again"
    return "asking again" if next_at <= now else f"asked again in {format_duration(next_at - now)}, r asks now"
