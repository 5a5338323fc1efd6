"""`qad_core queue`: the jobs and partitions of the cluster, and changes to one's own jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from qad_core.commands.output import console, error_console, make_table, print_json
from qad_core.commands.runs import run_roots
from qad_core.config.problems import Problem
from qad_core.errors import ConfigError, ExitCode
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, is_job_id, read_jobs
from qad_core.run.run_paths import find_run_paths
from qad_core.run.show import show_duration
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.jobs import never_starts, what_to_do
from qad_core.slurm.partitions import PartitionEntry
from qad_core.slurm.queue_actions import Action, JobOutcome, act_on_jobs
from qad_core.slurm.queue_view import (
    RunOfJob,
    elapsed_seconds,
    estimated_start,
    index_runs,
    job_words,
    left_seconds,
    own_name,
    short_state,
    shown_jobs,
    stage_of,
    usual_order,
    where_or_why,
)
from qad_core.slurm.records import QueueEntry


def show_queue(roots: Sequence[Path], *, everyone: bool, as_json: bool) -> None:
    """Print the caller's jobs, or everyone's, and the partitions; one squeue and one sinfo.

    Raises SlurmUnavailable rather than show an empty queue, and SlurmMissing where there is no SLURM.
    """
    client, me = SlurmClient(), own_name()
    jobs = client.queue(ended=True) if everyone else client.own_jobs()
    shown = shown_jobs(jobs, user=None if everyone else me, needle="", extra=lambda _: "")
    shown.sort(key=usual_order)
    partitions, runs, now = client.partitions(), find_links(run_roots(roots)), time.time()
    if as_json:
        rows = [_job_as_json(entry, runs.get(entry.comment), me, now) for entry in shown]
        print_json({"user": me, "jobs": rows, "partitions": [dataclasses.asdict(entry) for entry in partitions]})
        return
    _print_jobs(shown, runs, everyone=everyone, now=now)
    _print_partitions(partitions)


def change_jobs(action: Action, job_ids: Sequence[str], *, now: bool, as_json: bool) -> ExitCode:
    """Do it to each job; exit code 2 where one could not take it. Raises ConfigError for what is no job id."""
    for job_id in job_ids:
        if not is_job_id(job_id):
            raise ConfigError(f"{job_id!r} is no job id of SLURM's.", "`qad_core queue` lists your jobs.")
    outcomes = act_on_jobs(SlurmClient(), action, job_ids, own_name(), now=now)
    problems = [Problem(f"job {one.job_id}: {one.words}", one.job_id, one.hint) for one in outcomes if not one.done]
    if as_json:
        print_json([dataclasses.asdict(one) for one in outcomes], problems)
    else:
        for one in outcomes:
            _print_outcome(one)
    return ExitCode.USER_ERROR if problems else ExitCode.DONE


def find_links(roots: Sequence[Path]) -> Mapping[str, RunOfJob]:
    """Comment of a job -> the run below the roots that it is a link of; a run that cannot be read has none."""
    links: list[tuple[Path, Job]] = []
    for path in find_run_paths(roots):
        with contextlib.suppress(OSError):  # `qad_core status` says which, and why
            links += [(path, job) for job in read_jobs(RunFolder(path).jobs)]
    return index_runs(links)


def _job_as_json(entry: QueueEntry, run: RunOfJob | None, user: str, now: float) -> dict[str, object]:
    return {
        **entry._asdict(),
        "stage": stage_of(entry),
        "words": job_words(entry),
        "never_starts": never_starts(entry.reason),
        "what_to_do": what_to_do(entry.reason),
        "elapsed_seconds": elapsed_seconds(entry, now),
        "left_seconds": left_seconds(entry, now),
        "estimated_start": estimated_start(entry),
        "mine": entry.user == user,
        "run": run.path if run else None,
        "link": run.job.link if run else None,
        "links": run.job.links if run else None,
    }


def _print_jobs(jobs: Sequence[QueueEntry], runs: Mapping[str, RunOfJob], *, everyone: bool, now: float) -> None:
    if not jobs:
        whose = "The queue is empty." if everyone else "You have no jobs in the queue; --all shows everyone's."
        console().print(whose, markup=False)
        return
    user = ("user",) if everyone else ()
    table = make_table(
        ">job", "state", "name", ">link", *user, "partition", ">nodes", ">GPUs", ">used", ">left", "where or why"
    )
    for entry in jobs:
        run = runs.get(entry.comment)
        start = estimated_start(entry)
        expected = f"; expected in {show_duration(start - now)}" if start is not None and start > now else ""
        table.add_row(
            entry.job_id,
            short_state(entry),
            run.path.name if run else entry.name,
            run.place if run else "-",
            *((entry.user,) if everyone else ()),
            entry.partition,
            str(entry.num_nodes),
            str(entry.gpus),
            show_duration(elapsed_seconds(entry, now)),
            show_duration(left_seconds(entry, now)),
            f"{where_or_why(entry)}{expected}",
        )
    console().print(table)
    for advice in dict.fromkeys(
        filter(None, (what_to_do(entry.reason) for entry in jobs if stage_of(entry) != "ended"))
    ):
        console().print(f"- {advice}", markup=False, soft_wrap=True)


def _print_partitions(partitions: Sequence[PartitionEntry]) -> None:
    table = make_table("partition", "state", ">free nodes", ">of", ">free GPUs", ">of", ">longest walltime")
    for one in partitions:
        table.add_row(
            f"{one.name}{' (default)' if one.default else ''}",
            one.availability,
            str(one.nodes_idle),
            str(one.nodes),
            str(one.gpus_free),
            str(one.gpus),
            show_duration(one.time_limit_seconds),
        )
    console().print()
    console().print(table)


def _print_outcome(outcome: JobOutcome) -> None:
    out = console() if outcome.done else error_console()
    out.print(f"job {outcome.job_id} {outcome.words}", markup=False, soft_wrap=True)
    if outcome.hint:
        out.print(f"  {outcome.hint}", markup=False, soft_wrap=True)
