"""What a chain's first link may wait for: other jobs of the cluster, as `--after` names them.

Owns the syntax, and the look at those jobs that SLURM does not take.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from qad_core.errors import ConfigError
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import AccountingUnavailable
from qad_core.slurm.jobs import is_finished

AFTER_KINDS = ("afterok", "afterany", "afternotok", "after")


def parse_after(text: str, job_of_run: Callable[[str], str]) -> str:
    """A dependency as sbatch takes it: `singleton`, or `afterok:JOB[:JOB...]`, where a JOB may be a run's name.

    `job_of_run` gives the id of a run's last job. Raises ConfigError for anything else.
    """
    if text == "singleton":
        return text
    kind, colon, jobs = text.partition(":")
    names = [name for name in jobs.split(":") if name]
    if kind not in AFTER_KINDS or not colon or not names:
        hint = f"Write {', '.join(f'{name}:JOB' for name in AFTER_KINDS)} or singleton; JOB is a job id or a run."
        raise ConfigError(f"--after {text!r} is no dependency", hint)
    return ":".join([kind, *(name if re.fullmatch(r"\d+(_\d+)?", name) else job_of_run(name) for name in names)])


def check_dependency(client: SlurmClient, dependency: str) -> None:
    """SLURM takes a dependency on a job that it does not know and starts at once; we do not.

    Raises ConfigError for an unknown job, and for one whose end can no longer satisfy the dependency.
    """
    for kind, job_id in _jobs_of(dependency):
        known = client.queue([job_id])
        state = known[0].state if known else _accounted_state(client, job_id)
        if state is None:
            raise ConfigError(
                f"--after names job {job_id}, which SLURM does not know.",
                "It would take the dependency as met and start at once. See `qad_core status` for the job's id.",
            )
        succeeded = state == "COMPLETED"
        if is_finished(state) and ((kind == "afterok" and not succeeded) or (kind == "afternotok" and succeeded)):
            raise ConfigError(
                f"--after {kind}:{job_id} can never be met: job {job_id} has ended as {state}.",
                "Use afterany, or wait for another job.",
            )


def _accounted_state(client: SlurmClient, job_id: str) -> str | None:
    try:
        found = client.accounting([job_id])
    except AccountingUnavailable:
        return None
    return found[0].state if found else None


def _jobs_of(dependency: str) -> list[tuple[str, str]]:
    """(kind, job id) of everything that a dependency waits for."""
    kind, _, jobs = dependency.partition(":")
    return [(kind, job) for job in jobs.split(":") if job]
