"""jobs.jsonl: every start of a run, here or as a link of a SLURM chain; one JSON line an event, appended only.

Owns the format. A line holds an id and what became known with that event; a job is all of its lines
laid over each other. Several machines append to one file: each line is one write. A start that has no
end line was killed, or is still running: that is for `store.py` and `links.py` to say.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from qad_core.run.status import Count, UnixTime

_JOB_ID = re.compile(r"([1-9][0-9]{0,9})([_+][0-9]{1,8})?", re.ASCII)
_LARGEST_JOB_ID = 2**31 - 1
"""squeue of 22.05 reads no larger one; ids begin anew at 2**26 or sooner (MaxJobId)."""


def is_job_id(text: str) -> bool:
    """Whether SLURM's commands take a text for a job: `12`, a task of an array (`12_3`), a part of a job (`12+1`)."""
    found = _JOB_ID.fullmatch(text)
    return found is not None and int(found[1]) <= _LARGEST_JOB_ID


def _check_job_id(text: str) -> str:
    if text and not is_job_id(text):
        raise ValueError(f"{text!r} is no job id of SLURM's")
    return text


def _check_path(text: str) -> str:
    if "\0" in text:
        raise ValueError("no path holds a NUL")
    return text


LogPath = Annotated[str, AfterValidator(_check_path)]
SlurmJobId = Annotated[str, AfterValidator(_check_job_id)]
"""Empty where there is none yet; squeue refuses a whole list for one that it cannot read."""


class Job(BaseModel):
    """One start of a run, with its end where there was one."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    id: str
    """Tells starts apart: `local-HOST-PID-TIME`, or `slurm-TOKEN`."""
    kind: Literal["local", "slurm"] = "local"
    """Where it was started."""
    host: str = ""
    """Machine of the launcher; in a SLURM job that of its first node."""
    pid: Count = 0
    """Process of the launcher."""
    argv: tuple[str, ...] = ()
    """Command of each rank, or of sbatch."""
    started: UnixTime | None = None
    """Unix time of the (last) start, null while it waits in a queue."""
    ended: UnixTime | None = None
    """Unix time of the end, null while there was none."""
    exit_code: int | None = None
    """Exit code of the whole start."""
    checkpoint_before: int | None = None
    """Step of the newest whole checkpoint at its (first) start."""

    chain: str = ""
    """Tells the chains of a run apart; empty for a local start."""
    link: Count = 0
    """1-based number of this link in its chain."""
    links: Count = 0
    """Links of the chain when it was submitted."""
    submitted: UnixTime | None = None
    """Unix time just before sbatch was called."""
    slurm_job_id: SlurmJobId = ""
    """Id that SLURM gave; empty while it is not known whether sbatch was heard."""
    refused: str = ""
    """What SLURM said when it took the job not."""
    dependency: str = ""
    """What sbatch was given as --dependency."""
    time_limit_seconds: Count | None = None
    """Walltime."""
    restarts: Count = 0
    """How often SLURM has started it again."""
    checkpoint_at_start: int | None = None
    """Step of the newest whole checkpoint at its last start."""
    starts_without_gain: Count = 0
    """Its starts in a row, just before the last one, that gained no checkpoint."""
    stopped_by: Literal["", "walltime", "signal"] = ""
    """What told it to stop, as its launcher took it: the signal before or at its walltime, or another."""
    cancelled: UnixTime | None = None
    """Unix time at which the user told it to end with `qad_core cancel`, null where nobody did."""
    nodes: tuple[str, ...] = ()
    """Nodes it ran on."""
    log: LogPath = ""
    """File of what the batch script printed, with SLURM's %j."""
    error_log: LogPath = ""
    """File of what it printed on stderr."""

    @property
    def unresolved(self) -> bool:
        """Whether sbatch was called, and neither its answer nor the job has been seen since."""
        return self.kind == "slurm" and not (self.slurm_job_id or self.refused or self.started)

    def log_files(self) -> list[Path]:
        """The batch script's logs, by this job's id; they need not be there yet."""
        named = [self.log, self.error_log] if self.slurm_job_id else []
        return [Path(name.replace("%j", self.slurm_job_id)) for name in named if name]


def local_job(argv: tuple[str, ...], *, pid: int, started: float) -> Job:
    """A start on this machine."""
    host = socket.gethostname()
    return Job(id=f"local-{host}-{pid}-{started:.3f}", started=started, host=host, pid=pid, argv=argv)


def append_job(path: Path, job: Job) -> None:
    """Append what was set in `job`; fields that nobody set are left as earlier lines have them."""
    rest = (job.model_dump_json(exclude_unset=True) + "\n").encode()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            rest = b"\n" + rest  # behind a line that a full disk has cut off
        while rest:  # a full disk takes a part and refuses the rest
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def read_jobs(path: Path) -> list[Job]:
    """The starts in the order of their first lines; lines that are not jobs are passed over."""
    merged: dict[str, dict[str, object]] = {}
    if not path.exists():
        return []
    for raw in path.read_bytes().splitlines():
        event = _read_event(raw)
        if event is not None:
            merged.setdefault(str(event["id"]), {}).update(event)
    return [Job.model_validate(fields) for fields in merged.values()]


def was_cancelled(jobs: Sequence[Job]) -> bool:
    """Whether the user has cancelled the newest start, since it last began."""
    newest = max(jobs, key=lambda job: job.started or 0.0, default=None)
    return newest is not None and newest.cancelled is not None and newest.cancelled >= (newest.started or 0.0)


def _read_event(raw: bytes) -> dict[str, object] | None:
    try:
        event: object = json.loads(raw)
        Job.model_validate(event)
    except (ValueError, ValidationError, RecursionError):
        return None
    return cast("dict[str, object]", event)
