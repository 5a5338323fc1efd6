"""`qad_core logs`: the log that a run wrote for people, followed on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from qad_core.commands.runs import find_run
from qad_core.errors import RunError
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import read_jobs
from qad_core.run.log_sources import list_logs
from qad_core.run.store import summarize_run

POLL_SECONDS = 0.5
TAIL_BYTES = 256 * 1024


def show_log(run: str, roots: Sequence[Path], *, rank: int, job: str | None, lines: int, follow: bool) -> None:
    """Print the last lines of the newest log of a rank, or of what a SLURM job printed; with `follow`, what comes
    until the run ends.

    Raises RunError when there is no such log.
    """
    folder = find_run(run, roots).folder
    path = choose_log(folder, rank=rank, job=job)
    text, offset = read_tail(path, lines)
    print(text, end="", flush=True)
    if follow:
        _follow(folder, path, offset, lambda: choose_log(folder, rank=rank, job=job))


def choose_log(folder: RunFolder, *, rank: int, job: str | None) -> Path:
    """The newest log of a rank, or with `job`, SLURM's id, what that job's batch script printed.

    Raises RunError, with the logs that there are, when there is no such log.
    """
    sources = [source for source in list_logs(folder, read_jobs(folder.jobs)) if source.size is not None]
    if job is None:
        found = [source.path for source in sources if (source.kind, source.rank) == ("rank", rank)]
        chosen = max(found, key=lambda path: (path.stat().st_mtime, path.name), default=None)
    else:
        chosen = next((one.path for one in sources if one.kind == "job" and one.job_id == job), None)
    if chosen is None:
        wanted = f"rank {rank}" if job is None else f"job {job}"
        others = ", ".join(source.path.name for source in sources) or "none"
        raise RunError(f"The run {folder.name} has no log of {wanted}.", f"Its logs: {others}.")
    return chosen


def read_tail(path: Path, lines: int) -> tuple[str, int]:
    """The last `lines` lines within the last 256 KiB of a file, and the offset of its end."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - TAIL_BYTES))
        data = file.read(TAIL_BYTES)
    last = data.splitlines(keepends=True)[-lines:] if lines else []
    return b"".join(last).decode(errors="replace"), end


def _follow(folder: RunFolder, path: Path, offset: int, choose: Callable[[], Path]) -> None:
    """Print what is appended; go over to a newer log when the run is started again; stop when it has ended."""
    while True:
        running = summarize_run(folder.path).state == "running"
        offset = _print_from(path, offset)
        newest = choose()
        if newest != path:
            path, offset = newest, 0
        elif not running:
            return
        else:
            time.sleep(POLL_SECONDS)


def _print_from(path: Path, offset: int) -> int:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(offset if offset <= size else 0)
        data = file.read()
        end = file.tell()
    print(data.decode(errors="replace"), end="", flush=True)
    return end
