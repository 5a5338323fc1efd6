"""Every log of a run: of each rank in each start, and what each SLURM job's batch script printed.

Owns the list and who wrote what. A file's last change says to which start it belongs, as in `start_logs.py`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job

Kind = Literal["rank", "output", "preparation", "job", "job errors"]
"""`output` is what a rank printed beside its log; `job` is the batch script's stdout, `job errors` its stderr."""

CLOCK_SLACK_SECONDS = 2.0
_ORDER: dict[Kind, int] = {"rank": 0, "job": 1, "job errors": 2, "output": 3, "preparation": 4}
_NODE = re.compile(r"_node(\d+)(?=_|$)")
_RANK = re.compile(r"_rank(\d+)$")


@dataclass(frozen=True)
class LogSource:
    """One log file, which need not be there yet."""

    path: Path
    kind: Kind
    rank: int = 0
    """Rank of a rank's log among all; of its output among those of its node."""
    node: int | None = None
    """Node of an output, where its name tells."""
    start: int = 0
    """1-based number of the start that wrote it among those of the run; 0 where it is not known."""
    link: int = 0
    """1-based number of its link in its chain; 0 for a start on this machine."""
    job_id: str = ""
    """SLURM's number of the job; empty for a start on this machine."""
    size: int | None = None
    """Bytes; None while it is not there, or may not be looked at."""
    modified: float = 0.0
    """Unix time of its last change."""

    @property
    def who(self) -> str:
        """Who wrote it, in two or three words."""
        if self.kind == "rank":
            return f"rank {self.rank}"
        if self.kind == "output":
            return "output, " + (f"node {self.node} " if self.node is not None else "") + f"rank {self.rank}"
        return {"job": "job's stdout", "job errors": "job's stderr", "preparation": "preparation"}[self.kind]

    @property
    def when(self) -> str:
        """Which start wrote it; empty where that is not known."""
        job = f"job {self.job_id}" if self.job_id else ""
        link = f"link {self.link}" if self.link else ""
        return ", ".join(part for part in (f"start {self.start}" if self.start else "", link, job) if part)


def list_logs(folder: RunFolder, jobs: Sequence[Job]) -> list[LogSource]:
    """The logs of a run with `jobs` as its starts; those of the newest start first, and of each the ranks first.

    Raises OSError where the folder of logs may not be read.
    """
    sources = [*_own_logs(folder, jobs), *_job_logs(jobs)]
    return sorted(
        sources, key=lambda one: (-one.start, _day(one), _ORDER[one.kind], one.node or 0, one.rank, -one.modified)
    )


def newest_log(sources: Sequence[LogSource], kind: Kind = "rank", rank: int = 0) -> LogSource | None:
    """The log of one writer in the newest start that has any; else another of that start, else one that is to come."""
    there = [source for source in sources if source.size is not None]
    if not there:
        return sources[0] if sources else None
    of_start = [source for source in there if source.start == there[0].start]
    wanted = [source for source in of_start if (source.kind, source.rank) == (kind, rank)]
    return max(wanted, key=lambda source: source.modified) if wanted else of_start[0]


def _own_logs(folder: RunFolder, jobs: Sequence[Job]) -> Iterator[LogSource]:
    started = sorted((job.started, number) for number, job in enumerate(jobs, 1) if job.started is not None)
    times = [time for time, _ in started]
    for path in _files(folder.logs):
        size, modified = _stat(path)
        at = bisect_right(times, modified + CLOCK_SLACK_SECONDS)
        number = started[at - 1][1] if at else 0
        job = jobs[number - 1] if number else None
        yield _of_file(path, number, job, size, modified)


def _of_file(path: Path, start: int, job: Job | None, size: int | None, modified: float) -> LogSource:
    rank, node = _RANK.search(path.stem), _NODE.search(path.stem)
    kind: Kind = "rank"
    if path.suffix == ".out":
        kind = "preparation" if path.stem.startswith("prepare_") else "output"
    return LogSource(
        path,
        kind,
        int(rank[1]) if rank else 0,
        int(node[1]) if node and kind == "output" else None,
        start,
        job.link if job else 0,
        job.slurm_job_id if job else "",
        size,
        modified,
    )


def _job_logs(jobs: Sequence[Job]) -> Iterator[LogSource]:
    kinds: tuple[Kind, Kind] = ("job", "job errors")
    for number, job in enumerate(jobs, 1):
        for kind, path in zip(kinds, job.log_files(), strict=False):
            size, modified = _stat(path)
            yield LogSource(path, kind, 0, None, number, job.link, job.slurm_job_id, size, modified)


def _files(logs: Path) -> list[Path]:
    try:
        names = [path for path in logs.iterdir() if path.suffix in (".log", ".out")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for path in names if not path.name.endswith(".env.log")]


def _stat(path: Path) -> tuple[int | None, float]:
    try:
        found = path.stat()
    except OSError:
        return None, 0.0
    return found.st_size, found.st_mtime


def _day(source: LogSource) -> float:
    """Orders what belongs to no start known, the latest change first."""
    return 0.0 if source.start else -source.modified
