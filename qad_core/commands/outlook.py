"""What the commands that look at runs share: each run with its links, SLURM asked once for all of them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from itertools import pairwise

from qad_core.config.load import read_resolved
from qad_core.config.schema import RunConfig
from qad_core.errors import ConfigError, ExitCode
from qad_core.run.crash_loop import MOST_STARTS, read_chain_stop, with_chain
from qad_core.run.failure import Failure, SlurmEnd, find_failure
from qad_core.run.jobs import Job
from qad_core.run.start_logs import logs_of_start
from qad_core.run.status import Status
from qad_core.run.store import RunSummary
from qad_core.seen import is_folder
from qad_core.slurm.answers import NOTHING_ASKED, SlurmAnswers, ask_slurm
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.views import RunView, jobs_of, view_run


def view_runs(runs: Sequence[RunSummary], *, endings: bool) -> tuple[list[RunView], SlurmAnswers]:
    """Each run with its links and outlook, and what SLURM answered; with `endings` also how links ended."""
    jobs = {run.path: jobs_of(run) for run in runs}
    links = [job for found in jobs.values() for job in found if job.kind == "slurm"]
    answers = ask_slurm(SlurmClient(), links, endings=endings) if links else NOTHING_ASKED
    now = time.time()
    views = [view_run(run, jobs[run.path], answers, now) for run in runs]
    return views, answers


def explain_failure(view: RunView) -> Failure | None:
    """The first root cause of the run's newest start, where it failed or was ended from outside.

    With it comes how many starts of its chain failed like that in a row, and why the chain was stopped.
    """
    if view.outlook.state in ("running", "starting", "queued", "done", "foreign"):
        return None
    newest_first = view.jobs[::-1]
    starts = [job for job in newest_first if job.started is not None]
    starts = starts or [job for job in newest_first if job.slurm_job_id][:1]
    if not starts:
        return None
    last, config = starts[0], _config_of(view.run)
    failure = _failure_of(view, last, config, view.run.status)
    of_chain = [job for job in starts if last.chain and job.chain == last.chain][:MOST_STARTS]
    # What status.json says is of the newest start alone.
    earlier = (_failure_of(view, job, config, None, until=after.started) for after, job in pairwise(of_chain))
    return with_chain(failure, earlier, read_chain_stop(view.run.folder, last.chain))


def retry_command(run: RunSummary, changes: Sequence[str]) -> str:
    """The run again with the changes, to paste; its resolved config is an experiment like any other."""
    verb = "submit" if "cluster.kind=slurm" in changes or is_folder(run.folder.slurm) else "train"
    return shlex.join(["qad_core", verb, str(run.folder.config), *changes])


def _failure_of(
    view: RunView, job: Job, config: RunConfig | None, status: Status | None, *, until: float | None = None
) -> Failure | None:
    """Why one start failed; one that wrote no end did not last beyond `until`, the Unix time of the next."""
    if status is None and job.exit_code in (ExitCode.DONE, ExitCode.STOPPED_EARLY):
        return None
    link = next((link for link in view.links if link.job.id == job.id), None)
    end = None
    if link is not None and link.stage == "ended":
        end = SlurmEnd(
            job_id=job.slurm_job_id,
            state=link.state,
            reason=link.reason,
            node_list=link.node_list,
            exit_code=link.exit_code,
            signal=link.signal,
        )
    began = job.started or (link.started if link else None) or job.submitted or 0.0
    logs = logs_of_start(view.run.folder, began, job.ended or until, job.log_files())
    return find_failure(logs, config, status, end, since=began)


def _config_of(run: RunSummary) -> RunConfig | None:
    """The run's config, where it has one that can be read: advice fits it then."""
    try:
        return read_resolved(run.folder.config).config
    except (ConfigError, OSError):
        return None
