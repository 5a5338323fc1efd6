"""What `qad_core cancel` and `qad_core submit` answered, in sentences for the screen. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from qad_tui.headless import Answer, command_line

_CANCEL_WORDS = (
    ("stopping", "told to save and stop"),
    ("cancelled", "cancelled"),
    ("ending", "ending already"),
    ("suspended", "suspended, and left alone: it cannot save while it stands still"),
)


def cancelled_words(answer: Answer) -> list[str]:
    """What was done to which jobs; empty where nothing was."""
    if not isinstance(answer.data, Mapping):
        return []
    if (process := cast("Mapping[str, int]", answer.data).get("process")) is not None:
        return [f"Process {process}: told to save and stop."]
    data = cast("Mapping[str, Sequence[str]]", answer.data)
    return [f"{_jobs(data[key])}: {words}." for key, words in _CANCEL_WORDS if data.get(key)]


def submitted_words(answer: Answer) -> list[str]:
    """Which jobs are in the queue now; empty where none are."""
    if not isinstance(answer.data, Mapping):
        return []
    data = cast("Mapping[str, Any]", answer.data)
    jobs = [str(job["job_id"]) for job in data.get("jobs", [])]
    return [*([f"{_jobs(jobs)}: submitted."] if jobs else []), *(str(words) for words in data.get("warnings", []))]


def refusal_words(answer: Answer) -> list[str]:
    """Why the command did not do it, or not all of it."""
    if answer.problems:
        return list(answer.problems)
    return [] if answer.ok else [f"{command_line(answer.arguments)} ended with exit code {answer.exit_code}."]


def _jobs(job_ids: Sequence[str]) -> str:
    return f"Job{'s' if len(job_ids) > 1 else ''} {', '.join(job_ids)}"
