"""What the commands that look at runs share: each run with its links, SLURM asked once for all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from qad_core.config.load import read_resolved
from qad_core.config.schema import RunConfig
from qad_core.errors import ConfigError
from qad_core.run.failure import Failure, SlurmEnd, find_failure
from qad_core.run.jobs import Job, read_jobs
from qad_core.run.start_logs import logs_of_start
from qad_core.run.store import RunSummary
from qad_core.slurm.answers import NOTHING_ASKED, SlurmAnswers, ask_slurm
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.links import LinkView, view_links
from qad_core.slurm.outlook import Outlook, see_run


@dataclass(frozen=True)
class RunView:
    """One run as it is shown."""

    run: RunSummary
    links: tuple[LinkView, ...]
    outlook: Outlook
    jobs: tuple[Job, ...]


def view_runs(runs: Sequence[RunSummary], *, endings: bool) -> tuple[list[RunView], SlurmAnswers]:
    """Each run with its links and outlook, and what SLURM answered; with `endings` also how links ended."""
    jobs = {run.path: tuple(read_jobs(run.folder.jobs)) for run in runs}
    links = [job for found in jobs.values() for job in found if job.kind == "slurm"]
    answers = ask_slurm(SlurmClient(), links, endings=endings) if links else NOTHING_ASKED
    now = time.time()
    views: list[RunView] = []
    for run in runs:
        seen = tuple(view_links(jobs[run.path], answers.queue, answers.accounting, now))
        views.append(RunView(run, seen, see_run(run, seen, now), jobs[run.path]))
    return views, answers


def explain_failure(view: RunView) -> Failure | None:
    """The first root cause of the run's newest start, where it failed or was ended from outside."""
    run = view.run
    newest_first = view.jobs[::-1]
    last = next((job for job in newest_first if job.started is not None), None)
    last = last or next((job for job in newest_first if job.slurm_job_id), None)
    if last is None or view.outlook.state in ("running", "starting", "queued", "done", "foreign"):
        return None
    link = next((link for link in view.links if link.job.id == last.id), None)
    end = None
    if link is not None and link.stage == "ended":
        end = SlurmEnd(
            job_id=last.slurm_job_id,
            state=link.state,
            reason=link.reason,
            node_list=link.node_list,
            exit_code=link.exit_code,
            signal=link.signal,
        )
    began = last.started or (link.started if link else None) or last.submitted or 0.0
    logs = logs_of_start(run.folder, began, last.ended, last.log_files())
    return find_failure(logs, _config_of(run), run.status, end, since=began)


def _config_of(run: RunSummary) -> RunConfig | None:
    """The run's config, where it has one that can be read: advice fits it then."""
    try:
        return read_resolved(run.folder.config).config
    except (ConfigError, OSError):
        return None
