"""One launcher a run folder: a lock that the kernel lets go of when the last process of the run has died.

The ranks inherit the locked file, so a folder stays taken while any of them lives, even when their
launcher was killed. The file's text, host and pid, is for the message only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Generator

from qad_core.errors import RunError
from qad_core.run.folder import RunFolder


@contextlib.contextmanager
def locked_folder(folder: RunFolder) -> Generator[int]:
    """Hold the folder's lock; yields the file descriptor that ranks inherit.

    Raises RunError naming the holder when another start of this run lives, and when the folder
    cannot be written to.
    """
    descriptor = _open_lock(folder)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise RunError(
                f"The run {folder.name} is running already ({holder}).",
                "Wait for its end, stop it (kill -TERM PID saves first), or keep the runs apart with --tag.",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"host {socket.gethostname()}, pid {os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_lock(folder: RunFolder) -> int:
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        return os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RunError(
            f"The run folder {folder.path} cannot be written to: {error.strerror}.",
            "Choose another with paths.checkpoint_root=FOLDER (or QAD_CHECKPOINT_ROOT), or free it.",
        ) from error
