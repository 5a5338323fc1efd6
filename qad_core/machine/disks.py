"""Room where runs are kept: bytes and inodes of the file system below a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from qad_core.seen import is_there


@dataclass(frozen=True)
class DiskState:
    """The file system of one folder at one moment."""

    folder: Path
    """As it was asked for."""
    total: int = 0
    """Bytes."""
    free: int = 0
    """Bytes that this user may still write."""
    inodes: int | None = None
    """Files that there can be; None where the file system has no limit of its own."""
    inodes_free: int | None = None
    """Files that this user may still make."""
    silence: str = ""
    """Why nothing is known; empty when it is."""

    @property
    def used_share(self) -> float:
        """Share of the bytes that cannot be written any more, 0 to 1."""
        return 1 - self.free / self.total if self.total else 0.0

    @property
    def inodes_used_share(self) -> float | None:
        """Share of the inodes in use, 0 to 1."""
        return 1 - (self.inodes_free or 0) / self.inodes if self.inodes else None


def look_at_disk(folder: Path) -> DiskState:
    """The file system of a folder, or of the nearest one above it that is there. May wait for a slow file server."""
    there = folder.absolute()
    while not is_there(there) and there != there.parent:
        there = there.parent
    try:
        found = os.statvfs(there)
    except OSError as error:
        return DiskState(folder, silence=f"{there}: {error.strerror}")
    return DiskState(
        folder,
        total=found.f_blocks * found.f_frsize,
        free=found.f_bavail * found.f_frsize,
        inodes=found.f_files or None,
        inodes_free=found.f_favail if found.f_files else None,
    )
