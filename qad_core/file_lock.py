"""A lock on a file, which the kernel lets go of when the last process that holds it has died.

Owns how it is taken and what its holder writes into it, host and pid, for messages only. Who waits for it, and for how
long, is the caller's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Answers of file systems without locks, as Lustre's without -o flock; there nothing keeps two processes apart."""


def take_lock(descriptor: int) -> bool:
    """Whether the lock of an open file is ours now, or the file system has no locks; never waits."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def sign_lock(descriptor: int) -> None:
    """Write who holds it."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"host {socket.gethostname()}, pid {os.getpid()}\n".encode(), 0)


def read_holder(descriptor: int) -> str:
    """Who holds it, as the holder has written."""
    return os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
