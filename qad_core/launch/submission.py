"""What a submission will put into SLURM's queue, decided before anything is done: a chain of links, their script.

Pure: `submit.py` acts on it, and `--dry-run` prints it.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from qad_core.config.load import ResolvedConfig
from qad_core.errors import ConfigError
from qad_core.launch.sbatch import BatchJob

_MOST_LINKS = 100


@dataclass(frozen=True)
class LinkPlan:
    """One call of sbatch."""

    number: int
    """1-based place in the chain."""
    token: str
    """Tells this call from any other; SLURM keeps it as the job's comment."""
    after: str | None
    """What it waits for beside the links before it, as sbatch takes it."""

    @property
    def job_record(self) -> str:
        """Id of its record in jobs.jsonl."""
        return f"slurm-{self.token}"

    @property
    def comment(self) -> str:
        """The job's comment."""
        return f"qad:{self.token}"

    def dependency_on(self, jobs: Sequence[str]) -> str | None:
        """The --dependency of a link behind these jobs of the same run: the end of all, however they end.

        Of all, because the end of the last alone comes early where it is cancelled while another runs.
        """
        earlier = [f"afterany:{':'.join(jobs)}"] if jobs else []
        return ",".join([*([self.after] if self.after else []), *earlier]) or None


@dataclass(frozen=True)
class Submission:
    """A chain and what its jobs are made of."""

    resolved: ResolvedConfig
    batch: BatchJob
    script: str
    links: tuple[LinkPlan, ...]


def make_links(count: int, chain: str, after: str | None) -> tuple[LinkPlan, ...]:
    """The links of a chain, of which the first waits for `after`.

    Raises ConfigError for a count that is none.
    """
    if not 1 <= count <= _MOST_LINKS:
        raise ConfigError(f"{count} links", f"Take 1 to {_MOST_LINKS}.")
    return tuple(
        LinkPlan(number, f"{chain}-{number}", after if number == 1 else None) for number in range(1, count + 1)
    )


def new_chain_token() -> str:
    """A name for a chain that no other has."""
    return secrets.token_hex(6)


def describe_calls(submission: Submission) -> str:
    """The calls of sbatch, as one would type them."""
    lines: list[str] = []
    for link in submission.links:
        words = ["sbatch", "--parsable", f"--comment={link.comment}"]
        dependency = link.dependency_on([f"JOB_OF_LINK_{number}" for number in range(1, link.number)])
        if dependency:
            words += [f"--dependency={dependency}", "--kill-on-invalid-dep=no"]
        lines.append(shlex.join([*words, str(submission.batch.script)]))
    return "\n".join(lines)
