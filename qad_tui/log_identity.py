"""Whether a log file is still the one that was read before: not truncated, not replaced.

Owns what is remembered of it, and doubts: network file systems tell stale sizes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

_WITNESS_BYTES = 64
_NO_FILE, _VANISHED = -1, -2
"""Inode numbers of no file yet, and of a file that was there: a new file may take its real number."""


@dataclass
class LogIdentity:
    """What tells one file from another of the same name."""

    size: int = 0
    """Bytes, as of the last look."""
    _inode: int = _NO_FILE
    _witness: bytes = b""
    """The last bytes before those that are read next; other bytes there mean that the file is another one."""
    _shrunk: bool = False

    @property
    def is_known(self) -> bool:
        """Whether there was such a file before."""
        return self._inode != _NO_FILE

    def look(self, descriptor: int, end: int) -> Literal["same", "another", "unsure"]:
        """Compare the open file with the one that was read up to `end`."""
        stat = os.fstat(descriptor)
        found = self._compare(descriptor, stat, end)
        if found == "another":
            self._inode, self.size, self._shrunk = stat.st_ino, stat.st_size, False
        elif found == "same":
            self.size = stat.st_size
        return found

    def read(self, data: bytes) -> None:
        """Remember that these bytes were read on."""
        self._witness = (self._witness + data[-_WITNESS_BYTES:])[-_WITNESS_BYTES:]

    def stand_at(self, descriptor: int, end: int) -> None:
        """Remember the bytes before an offset, from which reading goes on."""
        first = max(0, end - _WITNESS_BYTES)
        self._witness = os.pread(descriptor, end - first, first)

    def vanish(self) -> None:
        """There is no such file now."""
        self._inode = _VANISHED if self.is_known else _NO_FILE

    def _compare(self, descriptor: int, stat: os.stat_result, end: int) -> Literal["same", "another", "unsure"]:
        if stat.st_ino != self._inode:
            return "another"
        if stat.st_size < self.size:
            # A network file system may show a stale, smaller size for a moment: believe the second look.
            believed, self._shrunk = self._shrunk, True
            return "another" if believed else "unsure"
        self._shrunk = False
        same = os.pread(descriptor, len(self._witness), end - len(self._witness)) == self._witness
        return "same" if same else "another"
