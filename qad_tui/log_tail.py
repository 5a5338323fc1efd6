"""The end of a log file, read by offset: opens a huge file at once, then follows it.

Owns bytes, offsets and the cutting into lines. It knows nothing of Textual, of run folders, or of
what the lines mean. Reads are plain `pread`, never a memory map: a truncated map would kill the process.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

TAIL_BYTES = 256 * 1024
"""Bytes read when a file is opened, and again for each step towards its beginning."""
READ_BYTES = 4 * 1024 * 1024
"""Most new bytes read in one poll; what lies between is skipped, and the window says so."""
MAX_LINES = 20_000
"""Lines kept; the oldest leave first."""
MAX_LINE_BYTES = 8 * 1024
"""Bytes shown of one line; the rest of it is counted, not kept."""
_WITNESS_BYTES = 64
_NO_FILE, _VANISHED = -1, -2
"""Inode numbers of no file yet, and of a file that was there: a new file may take its real number."""

_CONTROL_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL_CHARACTER = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class LogWindow:
    """The lines of a log that are in memory.

    `first_number` numbers the first line; numbers stay with their line as the window grows at either
    end (older lines get lower, even negative numbers), until `generation` changes: then the file was
    truncated, replaced, or grew by more than READ_BYTES at once, and its end is read anew.
    """

    path: Path
    lines: tuple[str, ...] = ()
    first_number: int = 0
    generation: int = 0
    at_start: bool = True
    """Whether the first line is the file's first."""
    size: int = 0
    """Bytes of the file."""
    exists: bool = True


@dataclass
class LogTail:
    """Follows one log file; one thread at a time calls it."""

    path: Path
    _lines: list[str] = field(default_factory=list[str])
    _first_number: int = 0
    _generation: int = 0
    _start: int = 0
    """Offset of the first kept line."""
    _end: int = 0
    """Offset up to which the file was read."""
    _partial: bytes = b""
    """The line that has no end yet, at most MAX_LINE_BYTES of it."""
    _partial_dropped: int = 0
    _witness: bytes = b""
    """The last bytes before `_end`; other bytes there later mean that the file is another one."""
    _inode: int = _NO_FILE
    _shrunk: bool = False
    _dropped: bool = False
    """Whether lines between `_start` and the first kept line were let go."""
    _window: LogWindow | None = None

    def poll(self) -> LogWindow:
        """Read what is new and return the window; the very same object when nothing changed.

        Raises OSError for anything but an absent file.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            self._inode = _NO_FILE if self._inode == _NO_FILE else _VANISHED
            return self._remember(replace(self._make_window(), exists=False))
        try:
            changed = self._read_new(descriptor)
        finally:
            os.close(descriptor)
        if changed or self._window is None or not self._window.exists:
            self._remember(self._make_window())
        assert self._window is not None
        return self._window

    def read_older(self) -> LogWindow:
        """Read TAIL_BYTES more towards the file's beginning and return the window."""
        if self._start > 0 and not self._dropped and len(self._lines) < MAX_LINES:
            with self.path.open("rb", buffering=0) as file:
                self._prepend(file.fileno())
            self._remember(self._make_window())
        return self._window or self.poll()

    def _read_new(self, descriptor: int) -> bool:
        stat = os.fstat(descriptor)
        if self._inode == _NO_FILE or self._is_another_file(descriptor, stat):
            self._open_at_end(descriptor, stat)
            return True
        if stat.st_size <= self._end:
            return False
        if stat.st_size - self._end > READ_BYTES:
            self._open_at_end(descriptor, stat)
            return True
        self._append(os.pread(descriptor, stat.st_size - self._end, self._end))
        return True

    def _is_another_file(self, descriptor: int, stat: os.stat_result) -> bool:
        if stat.st_ino != self._inode:
            return True
        if stat.st_size < self._end:
            # A network file system may show a stale, smaller size for a moment: believe the second look.
            believed, self._shrunk = self._shrunk, True
            return believed
        self._shrunk = False
        return os.pread(descriptor, len(self._witness), self._end - len(self._witness)) != self._witness

    def _open_at_end(self, descriptor: int, stat: os.stat_result) -> None:
        if self._inode != _NO_FILE:
            self._generation += 1
        self._lines, self._first_number, self._partial, self._partial_dropped = [], 0, b"", 0
        self._inode, self._shrunk, self._dropped = stat.st_ino, False, False
        start = max(0, stat.st_size - TAIL_BYTES)
        data = os.pread(descriptor, stat.st_size - start, start)
        if start > 0 and (first_end := data.find(b"\n")) >= 0:
            start += first_end + 1
            data = data[first_end + 1 :]
        self._start = self._end = start
        self._witness = b""
        self._append(data)

    def _append(self, data: bytes) -> None:
        self._end += len(data)
        self._witness = (self._witness + data[-_WITNESS_BYTES:])[-_WITNESS_BYTES:]
        *whole, rest = data.split(b"\n")
        for raw in whole:
            self._extend_partial(raw)
            self._lines.append(self._take_partial())
        self._extend_partial(rest)
        self._drop_oldest()

    def _extend_partial(self, raw: bytes) -> None:
        rewritten = raw.rstrip(b"\r").rfind(b"\r")
        if rewritten >= 0:
            # A progress bar wrote over its own line: only the newest state is a line.
            self._partial, self._partial_dropped = b"", 0
            raw = raw[rewritten + 1 :]
        room = max(0, MAX_LINE_BYTES - len(self._partial))
        self._partial += raw[:room]
        self._partial_dropped += max(0, len(raw) - room)

    def _take_partial(self) -> str:
        line = decode_log_line(self._partial, self._partial_dropped)
        self._partial, self._partial_dropped = b"", 0
        return line

    def _drop_oldest(self) -> None:
        surplus = len(self._lines) - MAX_LINES
        if surplus > 0:
            del self._lines[:surplus]
            self._first_number += surplus
            self._dropped = True

    def _prepend(self, descriptor: int) -> None:
        begin = max(0, self._start - TAIL_BYTES)
        data = os.pread(descriptor, self._start - begin, begin)
        cut = data.find(b"\n") + 1 if begin > 0 else 0
        if cut == len(data):
            cut = 0  # One line is longer than the whole block: show the block as a line of its own.
        older = [
            decode_log_line(raw[:MAX_LINE_BYTES], max(0, len(raw) - MAX_LINE_BYTES)) for raw in _lines_of(data[cut:])
        ]
        self._lines[:0] = older
        self._first_number -= len(older)
        self._start = begin + cut

    def _make_window(self) -> LogWindow:
        partial = (decode_log_line(self._partial, self._partial_dropped),) if self._partial else ()
        at_start = self._start == 0 and not self._dropped
        lines = (*self._lines, *partial)
        return LogWindow(self.path, lines, self._first_number, self._generation, at_start, self._end)

    def _remember(self, window: LogWindow) -> LogWindow:
        if window != self._window:
            self._window = window
        assert self._window is not None
        return self._window


def decode_log_line(raw: bytes, dropped: int = 0) -> str:
    """One line as text for a terminal: bad UTF-8 replaced, escape sequences and control characters removed."""
    text = raw.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", errors="replace").expandtabs(8)
    text = _CONTROL_CHARACTER.sub("", _CONTROL_SEQUENCE.sub("", text))
    return f"{text} … {dropped:,} more bytes" if dropped else text


def _lines_of(data: bytes) -> list[bytes]:
    return data.removesuffix(b"\n").split(b"\n")
