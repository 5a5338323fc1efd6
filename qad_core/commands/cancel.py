"""`qad_core cancel`: end a run's link so that it saves first, or all that is left of its chain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qad_core.commands.output import console, error_console, print_json
from qad_core.commands.runs import find_run
from qad_core.errors import ExitCode, RunError
from qad_core.launch.submit import Submitter
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.jobs import is_running


def cancel(run: str, roots: Sequence[Path], *, chain: bool, now: bool, as_json: bool) -> ExitCode:
    """End the running link, or the first that waits; with `chain` all of them. With `now` nothing is saved.

    A running link is told to save and stop, as before its walltime; the next link of the chain, when there
    is one and `chain` is not given, goes on from there. Raises RunError when nothing waits or runs.
    """
    folder = find_run(run, roots).folder
    client = SlurmClient()
    submitter = Submitter(client, lambda text: error_console().print(text, markup=False))
    submitter.clear_up(folder)
    live = submitter.live_links(folder)
    if not live:
        raise RunError(f"The run {folder.name} has no job that waits or runs.", "There is nothing to cancel.")
    chosen = live if chain else live[:1]
    stopping = [] if now else [link.job for link in chosen if is_running(link.state)]
    ending = [link.job for link in chosen if link.job not in stopping]
    if ending:
        client.cancel([job.slurm_job_id for job in reversed(ending)])  # the last first: none must start meanwhile
    for job in stopping:
        client.stop_gently(job.slurm_job_id)
    _report(folder, stopping, ending, left=len(live) - len(chosen), as_json=as_json)
    return ExitCode.DONE


def _report(folder: RunFolder, stopping: Sequence[Job], ending: Sequence[Job], *, left: int, as_json: bool) -> None:
    if as_json:
        ids = {"stopping": stopping, "cancelled": ending}
        print_json({key: [job.slurm_job_id for job in jobs] for key, jobs in ids.items()})
        return
    out = console()
    for job in stopping:
        out.print(f"job {job.slurm_job_id} (link {job.link}) was told to save and stop", markup=False)
    for job in ending:
        out.print(f"job {job.slurm_job_id} (link {job.link}) is cancelled", markup=False)
    if left:
        out.print(
            f"{left} link{'s' if left > 1 else ''} of the chain left: qad_core cancel {folder.name} --chain",
            markup=False,
            soft_wrap=True,
        )
