"""What a run is doing, seen over its run folder and its links: one state, its words, and what to do next.

Pure. The run folder's status.json comes first; SLURM adds what the folder cannot know: that the run waits in a
queue, that its job has ended without a word, or that SLURM does not answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qad_core.run.show import show_duration
from qad_core.run.state import SILENCE_SECONDS, describe
from qad_core.run.status import ENDED, Status
from qad_core.run.store import RunSummary
from qad_core.slurm.links import LinkView

OutlookState = Literal[
    "running", "starting", "silent", "queued", "blocked", "unknown",
    "done", "stopped", "failed", "killed", "never started", "foreign",
]  # fmt: skip
"""`starting`: its job runs and the trainer has said nothing yet; `silent`: nothing for minutes; `blocked`: in the
queue for what can never come; `unknown`: SLURM does not say. The others are those of the run folder alone."""


@dataclass(frozen=True)
class Outlook:
    """One run, over all its links."""

    state: OutlookState
    words: str
    what_to_do: str = ""
    """The next command, where one is called for."""


def see_run(run: RunSummary, links: Sequence[LinkView], now: float) -> Outlook:
    """The run's outlook from its summary and its links as `view_links` shows them."""
    running = next((link for link in links if link.stage == "running"), None)
    if running is not None:
        return _see_running(run, running, now)
    waiting = [link for link in links if link.stage == "pending"]
    if waiting:
        return _see_waiting(run, waiting, now)
    last = links[-1] if links else None
    if last is not None and last.stage == "unknown" and (unknown := _see_unknown(run, last, now)) is not None:
        return unknown
    if last is not None and last.stage in ("refused", "lost") and run.status is None:
        return Outlook("never started", last.words, last.what_to_do)
    return _see_ended(run, last)


def _see_unknown(run: RunSummary, link: LinkView, now: float) -> Outlook | None:
    """What can be said though SLURM does not say what the last link does; None where the run folder says it all."""
    status, job = run.status, f"job {link.job.slurm_job_id}"
    if link.unanswered and run.state == "running":
        return Outlook("running", f"{run.words}; SLURM does not answer, so that this is the trainer's own word alone")
    if link.unanswered and run.state == "stopped":
        return Outlook("unknown", f"{run.words}; SLURM does not answer, so whether {job} goes on is not known")
    if status is not None and status.phase in ENDED:
        return None
    last_word = "" if status is None else f"; its last word, {_age(run, now)} ago: {_last_word(status)}"
    return Outlook("unknown", f"{job}: {link.words}{last_word}", link.what_to_do)


def _see_running(run: RunSummary, link: LinkView, now: float) -> Outlook:
    job = f"job {link.job.slurm_job_id}"
    status = run.status
    if status is None or (link.started is not None and status.updated < link.started):
        age = show_duration(link.elapsed_seconds)
        return Outlook("starting", f"{job} has its nodes since {age}; the trainer has not said anything yet")
    if status.phase in ENDED:
        return Outlook(run.state, f"{run.words}; {job} is ending")
    if now - run.updated > SILENCE_SECONDS:
        words = f"{job} runs, but the trainer has said nothing for {_age(run, now)}; its last word: "
        return Outlook("silent", words + _last_word(status), f"See what it does: qad_core logs {run.name}")
    return Outlook("running", describe("running", status))


def _last_word(status: Status) -> str:
    return f"{status.phase} at step {status.step} of {status.train_iterations}"


def _age(run: RunSummary, now: float) -> str:
    return show_duration(max(now - run.updated, 0.0))


def _see_waiting(run: RunSummary, waiting: Sequence[LinkView], now: float) -> Outlook:
    blocked = next((link for link in waiting if link.never_starts), None)
    if blocked is not None:
        words = f"job {blocked.job.slurm_job_id} can never start: {blocked.words.removeprefix('waits: ')}"
        clear = f"Clear it: qad_core cancel {run.name} --chain"
        return Outlook("blocked", words, f"{blocked.what_to_do} {clear}".strip())
    first = waiting[0]
    words = f"job {first.job.slurm_job_id} {first.words}"
    if first.estimated_start is not None and first.estimated_start > now:
        words += (
            f"; expected to start in {show_duration(first.estimated_start - now)}, at {_clock(first.estimated_start)}"
        )
    if run.step:
        words += f"; {run.step} of {run.train_iterations or '?'} steps are done"
    return Outlook("queued", words)


def _see_ended(run: RunSummary, last: LinkView | None) -> Outlook:
    if run.state == "done":
        return Outlook("done", run.words, f"Export it: qad_core export {run.name} --out DIR")
    resumable = run.state in ("stopped", "killed")
    advice = f"Go on: qad_core submit {run.name} --links 1" if resumable and last is not None else ""
    if run.state == "killed" and last is not None and last.stage == "ended":
        return Outlook("killed", f"{run.words}: job {last.job.slurm_job_id} {last.words}", advice)
    return Outlook(run.state, run.words, advice)


def _clock(moment: float) -> str:
    return time.strftime("%a %H:%M", time.localtime(moment))
