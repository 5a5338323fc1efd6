"""A folder that appears whole or not at all, and the work on it, which a later process can go on with.

The work is done beside the final folder, under a hidden name, by one process at a time; the result is
renamed last. A process that was stopped leaves its work there. Whether that still fits is said by a
key: work under another key is cleared away.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qad_core.errors import DataError

SUFFIX = ".partial"
RETRY_SECONDS = 0.5
_KEY_NAME = "key"
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Answers of file systems without locks, as Lustre's without -o flock: there nobody else is seen."""


@contextmanager
def work_folder(final: Path, tell: Callable[[str], None]) -> Iterator[Path]:
    """Hold the folder in which work on `final` is done, waiting while another process does; it stays on leaving.

    Raises `DataError` when the parent cannot be written to.
    """
    folder = final.with_name(f".{final.name}{SUFFIX}")
    descriptor = _lock(folder, tell)
    try:
        yield folder
    finally:
        os.close(descriptor)


def clear_other_work(folder: Path, key: str) -> None:
    """Remove what was done in a work folder under another key."""
    key_file = folder / _KEY_NAME
    if not key_file.exists() or key_file.read_text(encoding="utf-8") != key:
        _empty(folder)
        key_file.write_text(key, encoding="utf-8")


def finish_work(folder: Path, made: Path, final: Path) -> None:
    """Rename the folder `made`, inside the work folder, to `final`, replacing what is there; the work is removed."""
    if final.exists():
        # Moved aside before it is removed: a reader sees the old folder whole, none, or the new one whole.
        aside = folder / "old"
        os.replace(final, aside)
    os.replace(made, final)
    shutil.rmtree(folder)


def _lock(folder: Path, tell: Callable[[str], None]) -> int:
    """Descriptor of the folder's lock, which ends with the process."""
    told = False
    while True:
        descriptor = _open_lock(folder)
        if _take(descriptor) and _is_still(folder, descriptor):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"host {socket.gethostname()}, pid {os.getpid()}".encode(), 0)
            return descriptor
        if not told:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
            tell(f"  {holder} is preparing the same dataset; waiting for its end")
            told = True
        os.close(descriptor)
        time.sleep(RETRY_SECONDS)


def _open_lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:  # removed in between by the process that held it
        return _open_lock(folder)
    except PermissionError as error:
        raise DataError(
            f"no permission to write to {folder.parent}", "Choose another paths.data_cache (DATACACHE_DIR)."
        ) from error


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is_still(folder: Path, descriptor: int) -> bool:
    """Whether the lock taken is the folder's; its holder may have removed it with the folder meanwhile."""
    try:
        return os.fstat(descriptor).st_ino == (folder / "lock").stat().st_ino
    except FileNotFoundError:
        return False


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()
