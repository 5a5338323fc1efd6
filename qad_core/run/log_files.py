"""The logs of a run for people, and whose each is."""

from __future__ import annotations

import re
from pathlib import Path

from qad_core.run.folder import RunFolder

RANK_SUFFIX = re.compile(r"_rank(\d+)$")


def log_files(folder: RunFolder, *, rank: int | None = None) -> list[Path]:
    """Logs for people, oldest first; of one rank when given. The record of the environment is none."""
    logs = [path for path in folder.logs.glob("*.log") if not path.name.endswith(".env.log")]
    chosen = [path for path in logs if rank is None or rank_of_log(path) == rank]
    return sorted(chosen, key=lambda path: (_modified(path), path.name))


def rank_of_log(path: Path) -> int:
    """Rank of a log: `..._rank3.log` is 3, a name without it 0."""
    match = RANK_SUFFIX.search(path.stem)
    return int(match.group(1)) if match else 0


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except (FileNotFoundError, PermissionError):
        return 0.0
