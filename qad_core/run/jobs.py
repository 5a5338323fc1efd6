"""jobs.jsonl: every start of a run and how it ended, one JSON line an event, appended only.

Owns the format. A start that has no end line was killed, or is still running: whether the process
lives is for `store.py` to say.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError


class Job(BaseModel):
    """One start of a run, with its end where there was one."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)

    id: str
    """Tells starts apart: `local-HOST-PID-TIME`."""
    started: float
    """Unix time."""
    host: str
    """Machine of the launcher."""
    pid: int
    """Process of the launcher."""
    argv: tuple[str, ...]
    """Command of each rank."""
    ended: float | None = None
    """Unix time of the end, null while there was none."""
    exit_code: int | None = None
    """Exit code of the whole start."""


def local_job(argv: tuple[str, ...], *, pid: int, started: float) -> Job:
    """A start on this machine."""
    host = socket.gethostname()
    return Job(id=f"local-{host}-{pid}-{started:.3f}", started=started, host=host, pid=pid, argv=argv)


def append_job(path: Path, job: Job) -> None:
    """Append one line: at the start without `ended`, at the end with it."""
    with path.open("a", encoding="utf-8") as file:
        file.write(job.model_dump_json() + "\n")


def read_jobs(path: Path) -> list[Job]:
    """The starts in order, each with its newest line; lines that are not jobs are passed over."""
    jobs: dict[str, Job] = {}
    if not path.exists():
        return []
    for raw in path.read_bytes().splitlines():
        try:
            job = Job.model_validate(json.loads(raw))
        except (ValueError, ValidationError):
            continue
        jobs[job.id] = job
    return list(jobs.values())
