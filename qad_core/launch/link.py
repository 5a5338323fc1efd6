"""The job of SLURM's that a launcher runs in, as its environment tells, and the record of its start.

Owns the names that tell this start from all others. What the start does is `node.py`'s.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qad_core.errors import ConfigError
from qad_core.launch.chain import count_lost_starts
from qad_core.launch.peers import ARRIVAL_SECONDS
from qad_core.run.jobs import Job


@dataclass(frozen=True)
class Link:
    """Which job of SLURM's this is, and which start of it."""

    submission: str
    """Token of the call of sbatch."""
    chain: str
    slurm_job_id: str
    restarts: int
    nodes: tuple[str, ...]
    node_rank: int
    """This node's number in the job."""
    job_start: float
    """Unix time at which its batch script began."""
    arrival_seconds: float
    """How long the launchers of the other nodes may take to start."""

    @property
    def id(self) -> str:
        """Id of its record in jobs.jsonl."""
        return f"slurm-{self.submission}"

    @property
    def key(self) -> str:
        """Names this start's files: SLURM starts a job again under the same id, and gives ids anew some day."""
        return f"{self.submission}.{self.slurm_job_id}.{self.restarts}"


def read_link(environ: Mapping[str, str]) -> Link:
    """This job as SLURM's and the batch script's variables name it; raises ConfigError outside of such a job."""
    missing = [name for name in ("SLURM_JOB_ID", "QAD_SUBMISSION", "QAD_CHAIN") if not environ.get(name)]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} is not set: this is no job that qad_core has submitted.",
            "Use `qad_core submit`, or `qad_core train` in a job of your own.",
        )
    return Link(
        submission=environ["QAD_SUBMISSION"],
        chain=environ["QAD_CHAIN"],
        slurm_job_id=environ["SLURM_JOB_ID"],
        restarts=int(_number(environ, "SLURM_RESTART_COUNT", 0)),
        nodes=tuple(environ.get("QAD_NODES", "").split()) or (socket.gethostname(),),
        node_rank=int(_number(environ, "NODE_RANK", _number(environ, "SLURM_NODEID", 0))),
        job_start=_number(environ, "QAD_JOB_START", time.time()),
        arrival_seconds=_number(environ, "QAD_ARRIVAL_SECONDS", ARRIVAL_SECONDS),
    )


def known_job(link: Link, jobs: Sequence[Job]) -> Job:
    """What jobs.jsonl tells of this job: its submission and its starts before this one."""
    return next((job for job in jobs if job.id == link.id), Job(id=link.id, kind="slurm"))


def start_record(link: Link, known: Job, argv: tuple[str, ...], at: int | None) -> Job:
    """The record of this start, with the newest checkpoint's step `at` it."""
    record = {
        "id": link.id,
        "kind": "slurm",
        "chain": link.chain,
        "slurm_job_id": link.slurm_job_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "argv": argv,
        "started": time.time(),
        "ended": None,
        "exit_code": None,
        "restarts": link.restarts,
        "stopped_by": "",
        "nodes": link.nodes,
        "checkpoint_before": known.checkpoint_before if link.restarts and known.started else at,
        "checkpoint_at_start": at,
        "starts_without_gain": count_lost_starts(known, link.restarts, at),
    }
    return Job.model_validate(record)


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name) or str(default)
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}, which is no number.", "Set it to a number, or not at all.") from None
