"""A folder that appears whole or not at all, and the work on it, which a later process can go on with.

The work is done beside the final folder, under a hidden name, by one process at a time; the result is
renamed last. A process that was stopped leaves its work there. Whether that still fits is said by a
key: work under another key is cleared away.

Some file systems have no locks that other machines see (Lustre without -o flock, or with localflock).
There several processes may do the same work at once, so each writes under names of its own
(`own_path`) and renames what is whole; equal work gives equal files.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from qad_core.errors import DataError
from qad_core.file_lock import read_holder, sign_lock, take_lock

RETRY_SECONDS = 0.5
_KEY_NAME = "key"
_FINISHED_NAME = "finished"
"""Names the final folder that the work is about to become: what is left beside that one is of no more use."""


def work_path(parent: Path, name: str) -> Path:
    """The hidden folder in `parent` in which work of that name is done."""
    return parent / f".{name}.partial"


@contextmanager
def hold_work(folder: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold a work folder, waiting while another process does; on leaving, it stays unless it is empty.

    Raises `DataError` when the parent cannot be written to.
    """
    # Beside the folder: NFS cannot remove a folder in which a file is open.
    lock = folder.with_suffix(".lock")
    descriptor = _lock(lock, tell)
    try:
        folder.mkdir(exist_ok=True)
        _clear_left_behind(folder)
        yield
    finally:
        with suppress(OSError):  # not there, or not empty
            folder.rmdir()
        if not folder.exists():
            lock.unlink(missing_ok=True)
        os.close(descriptor)


def clear_other_work(folder: Path, key: str) -> None:
    """Remove what was done in a work folder under another key."""
    key_file = folder / _KEY_NAME
    (folder / _FINISHED_NAME).unlink(missing_ok=True)
    if not key_file.exists() or key_file.read_text(encoding="utf-8") != key:
        for path in folder.iterdir():
            _remove(path)
        key_file.write_text(key, encoding="utf-8")


def finish_work(folder: Path, made: Path, final: Path) -> None:
    """Rename the folder `made`, inside the work folder, to `final`, replacing what is there; the work is removed."""
    (folder / _FINISHED_NAME).write_text(final.name, encoding="utf-8")
    if final.exists():
        # Moved aside before it is removed: a reader sees the old folder whole, none, or the new one whole.
        aside = own_path(folder / "old")
        _remove(aside)
        os.replace(final, aside)
    os.replace(made, final)
    with suppress(OSError):  # NFS keeps what a reader has open; the next start removes it (clear_finished_work)
        _remove_finished(folder)


def clear_finished_work(folder: Path, final: Path, tell: Callable[[str], None]) -> None:
    """Remove the work folder of a process that was killed after `final` had its name; any other stays."""
    if _became(folder, final) and os.access(folder.parent, os.W_OK):
        with hold_work(folder, tell):
            if _became(folder, final):
                _remove_finished(folder)


def own_path(path: Path) -> Path:
    """The path under a name that no other process on any host has."""
    return path.with_name(f"{path.name}{_own_suffix()}{os.getpid()}")


def _own_suffix() -> str:
    return f".{socket.gethostname()}-"


def _clear_left_behind(folder: Path) -> None:
    """Remove what processes of this host that have ended left under their own names."""
    for path in [*folder.iterdir(), *folder.glob("*/*")]:
        _, is_own, process = path.name.rpartition(_own_suffix())
        if is_own and process.isdigit() and not _runs(int(process)):
            _remove(path)


def _runs(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _became(folder: Path, final: Path) -> bool:
    marker = folder / _FINISHED_NAME
    return marker.exists() and marker.read_text(encoding="utf-8") == final.name


def _remove_finished(folder: Path) -> None:
    # The marker goes last, so that a process that finds it can end what a killed one began.
    for path in folder.iterdir():
        if path.name != _FINISHED_NAME:
            _remove(path)
    shutil.rmtree(folder)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _lock(path: Path, tell: Callable[[str], None]) -> int:
    """Descriptor of the lock, which ends with the process."""
    told = False
    while True:
        descriptor = _open_lock(path)
        if take_lock(descriptor) and _is_still(path, descriptor):
            sign_lock(descriptor)
            return descriptor
        if not told:
            tell(f"  {read_holder(descriptor)} is preparing the same dataset; waiting for its end")
            told = True
        os.close(descriptor)
        time.sleep(RETRY_SECONDS)


def _open_lock(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError as error:
        raise DataError(
            f"no permission to write to {path.parent}", "Choose another paths.data_cache (DATACACHE_DIR)."
        ) from error


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the lock taken is the one that others meet; its holder may have removed it meanwhile."""
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
