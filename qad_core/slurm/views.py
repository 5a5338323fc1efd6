"""A run as it is shown: its summary laid together with its links and what SLURM says of them.

Pure, but for reading the run's jobs.jsonl. The commands and the screen see runs through it, so that both say
the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qad_core.run.jobs import Job, read_jobs
from qad_core.run.store import RunSummary
from qad_core.slurm.answers import SlurmAnswers
from qad_core.slurm.links import LinkView, view_links
from qad_core.slurm.outlook import Outlook, see_run
from qad_core.slurm.stages import Stage, find_stage


@dataclass(frozen=True)
class RunView:
    """One run at one moment."""

    run: RunSummary
    links: tuple[LinkView, ...]
    """Its SLURM links, oldest first."""
    outlook: Outlook
    """One state over all of it."""
    jobs: tuple[Job, ...]
    """Every start of it, here and on SLURM."""

    @property
    def stage(self) -> Stage | None:
        """Where it stands on its way to steady training; None when it neither waits nor runs."""
        return find_stage(self.run, self.outlook)

    @property
    def current_link(self) -> LinkView | None:
        """The link that runs, else the first that waits, else the last; None without links."""
        running = (link for link in self.links if link.stage == "running")
        live = (link for link in self.links if link.live)
        return next(running, None) or next(live, None) or (self.links[-1] if self.links else None)


def view_run(run: RunSummary, jobs: Sequence[Job], answers: SlurmAnswers, now: float) -> RunView:
    """The run with its links, as of Unix time `now`; `jobs` are its starts as `read_jobs` has them."""
    links = tuple(view_links(jobs, answers.queue, answers.accounting, now, answers.asked))
    return RunView(run, links, see_run(run, links, now), tuple(jobs))


def jobs_of(run: RunSummary) -> tuple[Job, ...]:
    """Every start that is written down in the run folder; raises OSError where that cannot be read."""
    return tuple(read_jobs(run.folder.jobs))
