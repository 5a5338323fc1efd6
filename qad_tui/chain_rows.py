"""The links of a run as the chain's table shows them: with the steps they began and ended at, and who stopped them.

Pure; what is known of the run comes from its view, and what only its folder tells is handed in.
"""

from __future__ import annotations

import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qad_core.errors import ExitCode
from qad_core.slurm.links import LinkView
from qad_core.slurm.records import AccountingEntry

EXIT_WORDS: dict[int, str] = {
    ExitCode.DONE: "done",
    ExitCode.BUG: "a bug, or it diverged",
    ExitCode.USER_ERROR: "the config is wrong",
    ExitCode.STOPPED_EARLY: "saved, to go on",
    ExitCode.OUTSIDE_FAILED: "failed outside",
}


@dataclass(frozen=True)
class FolderFacts:
    """What the run folder tells of its chains."""

    newest_step: int | None = None
    """Of the newest whole checkpoint."""
    stops: Mapping[str, str] = field(default_factory=dict[str, str])
    """Chain -> why it was stopped, where it was."""
    logs: frozenset[str] = frozenset()
    """Batch scripts' logs that are there."""


@dataclass(frozen=True)
class LinkRow:
    """One link."""

    view: LinkView
    start_step: int | None = None
    """Optimizer steps of the checkpoint that its last start went on from."""
    end_step: int | None = None
    """Steps of the newest checkpoint at its end, or now."""
    stopped_by: str = ""
    """Who or what ended it, where that is known."""
    chain_stop: str = ""
    """Why its chain goes no further; only of the last link that ran."""

    @property
    def key(self) -> str:
        """Tells rows apart."""
        return self.view.job.id

    @property
    def place(self) -> str:
        """`2/4`."""
        job = self.view.job
        return f"{job.link}/{job.links}" if job.links else str(job.link or "?")

    @property
    def exit_words(self) -> str:
        """The exit code with what it means; empty before the end."""
        code = self.view.exit_code
        return "" if code is None else f"{code} {EXIT_WORDS.get(code, '')}".strip()

    @property
    def steps(self) -> str:
        """`200 → 400`, as far as it is known."""
        if self.view.stage == "pending" or (self.start_step is None and self.end_step is None):
            return ""
        start = self.start_step or 0
        return f"{start} →" if self.end_step is None else f"{start} → {self.end_step}"


def make_rows(
    links: Sequence[LinkView], facts: FolderFacts, accounting: Mapping[str, AccountingEntry] | None
) -> list[LinkRow]:
    """A row for each link, in their order."""
    last_started = max((number for number, link in enumerate(links) if link.job.started), default=-1)
    rows: list[LinkRow] = []
    for number, link in enumerate(links):
        following = next((after.job for after in links[number + 1 :] if after.job.started), None)
        end = following.checkpoint_at_start if following else facts.newest_step if number == last_started else None
        started = link.job.started is not None
        rows.append(
            LinkRow(
                link,
                link.job.checkpoint_at_start if started else None,
                end if started else None,
                _stopped_by(link, (accounting or {}).get(link.job.slurm_job_id)),
                facts.stops.get(link.job.chain, "") if number == last_started else "",
            )
        )
    return rows


def _stopped_by(link: LinkView, accounted: AccountingEntry | None) -> str:
    if accounted is not None and accounted.cancelled_by:
        return f"cancelled by {_user_name(accounted.cancelled_by)}"
    if link.job.stopped_by == "walltime":
        return "told to save by its walltime"
    return "told to stop by a signal" if link.job.stopped_by == "signal" else ""


def _user_name(number: str) -> str:
    try:
        return pwd.getpwuid(int(number)).pw_name
    except (KeyError, ValueError, OverflowError):
        return f"user {number}"
