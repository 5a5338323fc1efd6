"""`qad_core logs`: the log that a run wrote for people, followed on request."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from qad_core.commands.runs import find_run
from qad_core.errors import RunError
from qad_core.run.folder import RunFolder
from qad_core.run.store import log_files, summarize_run

POLL_SECONDS = 0.5
TAIL_BYTES = 256 * 1024


def show_log(run: str, roots: Sequence[Path], *, rank: int, lines: int, follow: bool) -> None:
    """Print the last lines of the newest log of a rank; with `follow`, what comes until the run ends.

    Raises RunError when there is no such log.
    """
    folder = find_run(run, roots).folder
    logs = log_files(folder, rank=rank)
    if not logs:
        others = ", ".join(path.name for path in log_files(folder)) or "none"
        raise RunError(f"The run {folder.name} has no log of rank {rank}.", f"Its logs: {others}.")
    text, offset = read_tail(logs[-1], lines)
    print(text, end="", flush=True)
    if follow:
        _follow(folder, logs[-1], offset, rank)


def read_tail(path: Path, lines: int) -> tuple[str, int]:
    """The last `lines` lines within the last 256 KiB of a file, and the offset of its end."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - TAIL_BYTES))
        data = file.read(TAIL_BYTES)
    last = data.splitlines(keepends=True)[-lines:] if lines else []
    return b"".join(last).decode(errors="replace"), end


def _follow(folder: RunFolder, path: Path, offset: int, rank: int) -> None:
    """Print what is appended; go over to a newer log when the run is started again; stop when it has ended."""
    while True:
        running = summarize_run(folder.path).state == "running"
        offset = _print_from(path, offset)
        newest = log_files(folder, rank=rank)[-1]
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
