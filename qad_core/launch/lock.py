"""One launcher a run folder: a lock that the kernel lets go of when the last process of the run has died.

The ranks inherit the locked file, so a folder stays taken while any of them lives, even when their
launcher was killed. The file's text, host and pid, is for the message only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Generator
from pathlib import Path

from qad_core.errors import BusyError, RunError
from qad_core.run.folder import RunFolder

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
"""Answers of file systems without locks, as Lustre's without -o flock: there SLURM's dependencies alone keep
the links of a chain apart."""


@contextlib.contextmanager
def locked_folder(folder: RunFolder) -> Generator[int]:
    """Hold the folder's lock; yields the file descriptor that ranks inherit.

    Raises BusyError naming the holder when another start of this run lives, and RunError when the folder
    cannot be written to.
    """
    with _locked(
        folder,
        folder.lock,
        "is running already",
        "Wait for its end, stop it (kill -TERM PID saves first), or keep the runs apart with --tag.",
    ) as descriptor:
        yield descriptor


@contextlib.contextmanager
def locked_submission(folder: RunFolder) -> Generator[None]:
    """Keep two submissions of one run apart; raises as `locked_folder`."""
    with _locked(folder, folder.submit_lock, "is being submitted already", "Wait for that submission's end."):
        yield


@contextlib.contextmanager
def _locked(folder: RunFolder, path: Path, busy: str, hint: str) -> Generator[int]:
    descriptor = _open_lock(folder, path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise BusyError(f"The run {folder.name} {busy} ({holder}).", hint) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"host {socket.gethostname()}, pid {os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_lock(folder: RunFolder, path: Path) -> int:
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RunError(
            f"The run folder {folder.path} cannot be written to: {error.strerror}.",
            "Choose another with paths.checkpoint_root=FOLDER (or QAD_CHECKPOINT_ROOT), or free it.",
        ) from error
