"""What a submission will put into SLURM's queue, decided before anything is done: a chain of links, their script.

Pure: `submit.py` acts on it, and `--dry-run` prints it.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from qad_core.config.load import ResolvedConfig
from qad_core.errors import ConfigError
from qad_core.launch.sbatch import BatchJob

AFTER_KINDS = ("afterok", "afterany", "afternotok", "after")
_MOST_LINKS = 100


@dataclass(frozen=True)
class LinkPlan:
    """One call of sbatch."""

    number: int
    """1-based place in the chain."""
    token: str
    """Tells this call from any other; SLURM keeps it as the job's comment."""
    dependency: str | None
    """What it waits for, `afterany:{previous}` where that is the link before."""

    @property
    def job_record(self) -> str:
        """Id of its record in jobs.jsonl."""
        return f"slurm-{self.token}"

    @property
    def comment(self) -> str:
        """The job's comment."""
        return f"qad:{self.token}"

    def dependency_on(self, previous: str) -> str | None:
        """The --dependency with the id of the link before in it."""
        return None if self.dependency is None else self.dependency.replace("{previous}", previous)


@dataclass(frozen=True)
class Submission:
    """A chain and what its jobs are made of."""

    resolved: ResolvedConfig
    batch: BatchJob
    script: str
    links: tuple[LinkPlan, ...]


def make_links(count: int, chain: str, after: str | None) -> tuple[LinkPlan, ...]:
    """The links of a chain: the first waits for `after`, each other for the end of the one before, however it ends.

    Raises ConfigError for a count that is none.
    """
    if not 1 <= count <= _MOST_LINKS:
        raise ConfigError(f"{count} links", f"Take 1 to {_MOST_LINKS}.")
    return tuple(
        LinkPlan(number, f"{chain}-{number}", after if number == 1 else "afterany:{previous}")
        for number in range(1, count + 1)
    )


def new_chain_token() -> str:
    """A name for a chain that no other has."""
    return secrets.token_hex(6)


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


def jobs_of_dependency(dependency: str | None) -> list[tuple[str, str]]:
    """(kind, job id) of everything that a dependency waits for."""
    kind, _, jobs = (dependency or "").partition(":")
    return [(kind, job) for job in jobs.split(":") if job]


def describe_calls(submission: Submission) -> str:
    """The calls of sbatch, as one would type them."""
    lines: list[str] = []
    for link in submission.links:
        words = ["sbatch", "--parsable", f"--comment={link.comment}"]
        dependency = link.dependency_on(f"JOB_OF_LINK_{link.number - 1}")
        if dependency:
            words += [f"--dependency={dependency}", "--kill-on-invalid-dep=no"]
        lines.append(shlex.join([*words, str(submission.batch.script)]))
    return "\n".join(lines)
