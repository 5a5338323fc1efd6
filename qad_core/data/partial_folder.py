"""A folder that appears whole or not at all: written under another name and renamed last.

The other name carries host and process, so that what a killed process left behind can be told from
the work of a living one, and is removed by the next.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from qad_core.errors import DataError

SUFFIX = ".partial"


@contextmanager
def partial_folder(final: Path) -> Iterator[Path]:
    """Yield a folder to write into; it becomes `final`, replacing what is there, when the block ends well.

    When the block raises, the folder is removed and `final` stays as it was.
    Raises `DataError` when the parent cannot be written to.
    """
    _remove_leftovers(final)
    partial = final.with_name(_partial_name(final, os.getpid()))
    try:
        partial.mkdir(parents=True)
    except PermissionError as error:
        raise DataError(
            f"no permission to write to {final.parent}", "Choose another paths.data_cache (DATACACHE_DIR)."
        ) from error
    try:
        yield partial
        _replace_folder(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial_name(final: Path, pid: int) -> str:
    return f".{final.name}.{socket.gethostname()}.{pid}{SUFFIX}"


def _replace_folder(partial: Path, final: Path) -> None:
    if final.exists():
        # Moved aside before it is removed: a reader sees the old folder whole, none, or the new one whole.
        aside = partial.with_suffix(".old")
        os.replace(final, aside)
        os.replace(partial, final)
        shutil.rmtree(aside)
    else:
        os.replace(partial, final)


def _remove_leftovers(final: Path) -> None:
    """Folders of dead processes on this host; those of other hosts may be alive and stay."""
    mine = f".{final.name}.{socket.gethostname()}."
    for folder in final.parent.glob(f".{final.name}.*"):
        pid = folder.name.removeprefix(mine).partition(".")[0]
        if folder.name.startswith(mine) and pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder)
