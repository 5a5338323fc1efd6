"""Which log files one start of a run has written.

Owns the choice by times. The launcher stamps the names with its own clock, in the time zone of its node or its
container; a file's last change is the same for every reader, so that it decides, and the stamp only in doubt.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from qad_core.run.folder import RunFolder

CLOCK_SLACK_SECONDS = 2.0
GRACE_SECONDS = 60.0
"""Ranks of other nodes may write so long after the first node has ended."""
_STAMP = re.compile(r"_(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?=[_.])")


def logs_of_start(folder: RunFolder, started: float, ended: float | None, slurm_logs: Sequence[Path]) -> list[Path]:
    """Logs of the start between two Unix times, those of ranks by name and then SLURM's own that are there.

    `ended` is None for a start that wrote no end; then its logs are taken with those of every later one.
    """
    written = [path for suffix in ("log", "out") for path in folder.logs.glob(f"*.{suffix}")]
    own = [path for path in written if not path.name.endswith(".env.log") and _is_of_start(path, started, ended)]
    return [*sorted(own), *(path for path in slurm_logs if path.is_file())]


def _is_of_start(path: Path, started: float, ended: float | None) -> bool:
    modified = path.stat().st_mtime
    if modified < started - CLOCK_SLACK_SECONDS:
        return False
    if ended is None or modified <= ended + CLOCK_SLACK_SECONDS:
        return True
    return modified <= ended + GRACE_SECONDS and _stamp_of(path) <= ended


def _stamp_of(path: Path) -> float:
    """The time in a log's name as Unix time; 0 for a name without one."""
    match = _STAMP.search(path.name)
    return time.mktime(time.strptime(match[1], "%Y-%m-%d_%H-%M-%S")) if match else 0.0
