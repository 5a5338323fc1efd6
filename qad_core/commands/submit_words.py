"""What `qad_core submit` prints: the plan, the dry run, and what became of the jobs. It decides nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from qad_core.commands.output import console, error_console, print_json
from qad_core.config.problems import Problem
from qad_core.launch.chain import ChainEstimate
from qad_core.launch.submission import Submission, describe_calls
from qad_core.run.address import address
from qad_core.run.jobs import Job
from qad_core.run.show import count_of, show_duration
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import SlurmUnavailable
from qad_core.slurm.jobs import never_starts, reason_words, state_words, what_to_do
from qad_core.slurm.records import QueueEntry


def show_plan(submission: Submission, estimate: ChainEstimate | None) -> None:
    """Say what is going to be submitted, and what of it will not be enough."""
    config, out = submission.resolved.config, console()
    cluster, count = config.cluster, len(submission.links)
    out.print(f"run folder: {submission.batch.folder.path}", markup=False, soft_wrap=True)
    out.print(f"{count_of(count, 'link')} of {cluster.slurm.time_limit} on {count_of(cluster.nodes, 'node')}, "
              f"{count_of(cluster.gpus_per_node, 'GPU')} each", markup=False)  # fmt: skip
    out.print(estimate_words(estimate, count), markup=False)
    names = [name for name in config.cluster.slurm.secrets if os.environ.get(name)]
    if names:
        out.print(f"in the job's environment, and nowhere else: {', '.join(names)}", markup=False)


def estimate_words(estimate: ChainEstimate | None, links: int) -> str:
    """What a chain has to do, beside what is submitted."""
    if estimate is None:
        return "how many links it needs is not known: no step of this run has been timed yet"
    text = (
        f"{count_of(estimate.iterations_left, 'iteration')} left x {estimate.seconds_per_iteration:.3g} s = "
        f"{show_duration(estimate.hours * 3600)}; a link trains for {show_duration(estimate.link_seconds)}: "
        f"{count_of(estimate.links, 'link')} needed"
    )
    if links < estimate.links:
        return f"{text}, {links} submitted: it will not be done after them"
    return f"{text}, {links - estimate.links} spare" if links > estimate.links else text


def show_dry_run(submission: Submission, estimate: ChainEstimate | None, *, as_json: bool) -> None:
    """Print the script and the calls of sbatch."""
    if as_json:
        print_json(_as_json(submission, estimate, []))
        return
    print(f"\n# {submission.batch.script}\n{submission.script}\n# and then\n{describe_calls(submission)}")


def show_result(
    client: SlurmClient, submission: Submission, estimate: ChainEstimate | None, jobs: Sequence[Job], *, as_json: bool
) -> None:
    """Say what each job does now; that some were taken and can never start is a warning."""
    entries = _ask(client, jobs)
    warnings = [warning for job in jobs if (warning := _warning(job, entries.get(job.slurm_job_id))) is not None]
    if as_json:
        print_json({**_as_json(submission, estimate, jobs), "warnings": [warning.what for warning in warnings]})
        return
    ids = [job.slurm_job_id for job in jobs]
    for job in jobs:
        words = _words(entries.get(job.slurm_job_id), before=ids[: ids.index(job.slurm_job_id)])
        console().print(f"link {job.link} of {job.links}: job {job.slurm_job_id}, {words}", markup=False)
    for warning in warnings:
        error_console().print(f"warning: {warning}", markup=False)
    console().print(f"watch it: qad_core status {address(submission.batch.folder)}", markup=False, soft_wrap=True)


def _ask(client: SlurmClient, jobs: Sequence[Job]) -> Mapping[str, QueueEntry]:
    try:
        return {entry.job_id: entry for entry in client.queue([job.slurm_job_id for job in jobs])}
    except SlurmUnavailable:
        return {}  # the jobs are submitted all the same


def _words(entry: QueueEntry | None, before: Sequence[str]) -> str:
    if entry is None:
        return "submitted"
    if entry.state == "PENDING":
        return f"waits: {reason_words(entry.reason, dependency=entry.dependency, before=before)}"
    return state_words(entry.state)


def _warning(job: Job, entry: QueueEntry | None) -> Problem | None:
    if entry is None or entry.state != "PENDING" or not never_starts(entry.reason):
        return None
    what = f"job {job.slurm_job_id} was accepted, but can never start: {entry.reason}"
    return Problem(what, f"link {job.link}", what_to_do(entry.reason))


def _as_json(submission: Submission, estimate: ChainEstimate | None, jobs: Sequence[Job]) -> dict[str, object]:
    return {
        "run_folder": submission.batch.folder.path,
        "chain": submission.batch.chain,
        "script": submission.script,
        "script_path": submission.batch.script,
        "links_needed": estimate.links if estimate else None,
        "links": [{"link": link.number, "after": link.after, "comment": link.comment} for link in submission.links],
        "jobs": [{"link": job.link, "job_id": job.slurm_job_id, "dependency": job.dependency} for job in jobs],
    }
