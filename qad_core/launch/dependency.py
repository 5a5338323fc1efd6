"""What a chain's first link may wait for: jobs of the cluster, and other runs, as `--after` names them.

Owns the syntax, what a run stands for in it, and the look at those jobs that SLURM does not take. A run is all its
links that wait or run: it has ended well when one of them has, since a link exits 0 only once the run is done, and
the links left are cancelled then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qad_core.errors import ConfigError, RunError
from qad_core.run.jobs import is_job_id
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import AccountingUnavailable
from qad_core.slurm.jobs import is_finished

AFTER_KINDS = ("afterok", "afterany", "afternotok", "after")
EITHER = "?"
"""Between dependencies of which one is enough; SLURM joins by this or by a comma, and not by both."""


@dataclass(frozen=True)
class AwaitedRun:
    """A run that `--after` names, as it stands."""

    name: str
    done: bool
    jobs: tuple[str, ...]
    """Ids of its links that wait or run, in their order."""
    submitted: bool
    """Whether it ever had a link."""


@dataclass(frozen=True)
class Wait:
    """What comes of an `--after`."""

    dependency: str | None = None
    """As sbatch takes it; None where there is nothing (any more) to wait for."""
    notes: tuple[str, ...] = ()
    """What a reader may not expect."""


def parse_after(text: str, look_up: Callable[[str], AwaitedRun]) -> Wait:
    """Turn `singleton`, or `afterok:JOB[:JOB...]`, where a JOB may be a run's name or path, into a dependency.

    `look_up` tells how a run stands. Raises ConfigError for anything else, and for what can never be met, and
    RunError for a run that was never submitted.
    """
    if text == "singleton":
        return Wait(text)
    kind, names = _split(text)
    jobs: list[str] = []
    notes: list[str] = []
    for name in names:
        if name.isascii() and name.isdigit() and not is_job_id(name):
            raise ConfigError(f"--after {text!r} names job {name}, and no job has that number.", "See `squeue --me`.")
        if is_job_id(name):
            jobs.append(name)
            continue
        run = look_up(name)
        awaited = _jobs_of_run(kind, run)
        if kind == "afterok" and len(awaited) > 1:
            if len(names) > 1:
                what = f"--after {text!r} names {run.name}, of which any of {len(awaited)} links may finish the run"
                raise ConfigError(f"{what}; SLURM cannot wait for that and for another job.", "Name it alone.")
            return Wait(EITHER.join(f"afterok:{job}" for job in awaited))
        notes += [] if awaited else [f"--after {kind}: {run.name} {_past(kind)} already, nothing to wait for"]
        jobs += awaited
    return Wait(":".join([kind, *jobs]) if jobs else None, tuple(notes))


def check_dependency(client: SlurmClient, dependency: str) -> None:
    """SLURM takes a dependency on a job that it does not know and starts at once; we do not.

    Raises ConfigError for an unknown job, and for one whose end can no longer satisfy the dependency.
    """
    if EITHER in dependency:
        return  # all of a run's links: the queue has just named them, and one that fails leaves the others
    for kind, job_id in _jobs_in(dependency):
        states = _states_of(client, job_id)
        if not states:
            raise ConfigError(
                f"--after names job {job_id}, which SLURM does not know.",
                "It would take the dependency as met and start at once. See `qad_core status` for the job's id.",
            )
        ended = [state for state in states if is_finished(state)]
        bad = [state for state in ended if state != "COMPLETED"]
        if (kind == "afterok" and bad) or (kind == "afternotok" and len(ended) == len(states) and not bad):
            raise ConfigError(
                f"--after {kind}:{job_id} can never be met: job {job_id} has ended as {(bad or ended)[0]}.",
                "Use afterany, or wait for another job.",
            )


def _split(text: str) -> tuple[str, list[str]]:
    kind, colon, jobs = text.partition(":")
    names = [name for name in jobs.split(":") if name]
    if kind not in AFTER_KINDS or not colon or not names:
        hint = f"Write {', '.join(f'{name}:JOB' for name in AFTER_KINDS)} or singleton; JOB is a job id or a run."
        raise ConfigError(f"--after {text!r} is no dependency", hint)
    return kind, names


def _jobs_of_run(kind: str, run: AwaitedRun) -> Sequence[str]:
    """The links that the run's end (or start) depends on; none where it has come."""
    if kind == "afterok" and run.done:
        return ()
    if not run.submitted:
        raise RunError(f"The run {run.name} has no SLURM job to wait for.", "Submit it first, or name a job id.")
    if kind == "afterok" and not run.jobs:
        raise ConfigError(
            f"--after afterok:{run.name} can never be met: the run is not done, and no link of it waits or runs.",
            "Submit more links of it first, or use afterany.",
        )
    if kind == "afternotok" and run.done:
        raise ConfigError(f"--after afternotok:{run.name} can never be met: the run is done.", "Leave --after out.")
    return run.jobs[:1] if kind == "after" else run.jobs


def _past(kind: str) -> str:
    return {"afterok": "is done", "after": "has started"}.get(kind, "has ended")


def _states_of(client: SlurmClient, job_id: str) -> list[str]:
    """Of the job, or of all tasks of an array; none for a job that SLURM does not know."""
    queued = [entry.state for entry in client.queue([job_id])]
    if queued:
        return queued
    try:
        return [entry.state for entry in client.accounting([job_id])]
    except AccountingUnavailable:
        return []


def _jobs_in(dependency: str) -> list[tuple[str, str]]:
    """(kind, job id) of everything that a dependency waits for."""
    kind, _, jobs = dependency.partition(":")
    return [(kind, job) for job in jobs.split(":") if job]
