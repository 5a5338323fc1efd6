"""A window of lines on a log file, read by offset: opens a huge file at once, follows it, and moves through it.

Owns which part of the file is in memory. It knows nothing of Textual or of run folders; lines and their signs come
from `qad_core.run.log_lines` and `log_signs`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

from qad_core.run.log_lines import (
    BLOCK_BYTES,
    LineAssembler,
    blocks_backward,
    decode_log_line,
    shown_line,
    start_of_line,
)
from qad_core.run.log_signs import sign_of_line, signs_of_lines
from qad_tui.log_identity import LogIdentity
from qad_tui.log_window import LogWindow, WindowLine

OPEN_BYTES = 64 * 1024
"""Bytes read when a file is opened at its end: many screens of lines, at once."""
MOST_NEW_BYTES = 4 * 1024 * 1024
"""Most new bytes read in one poll; of a file that has grown by more, the end is read anew."""
MOST_WEIGHT = 4 * 1024 * 1024
"""Bytes of memory that the lines of a window may take, about; those at the far end leave first."""
_LINE_WEIGHT = 180
"""Bytes that a line takes beside its characters."""
_MOST_BLOCK_LINES = 5000
"""Of a block with more lines only so many are taken: a block must never push what is on the screen out of memory."""


@dataclass
class LogTail:
    """The window on one log file; one thread at a time calls it. Every method may raise OSError."""

    path: Path
    _lines: list[WindowLine] = field(default_factory=list[WindowLine])
    _first_number: int | None = None
    _generation: int = 0
    _start: int = 0
    """Offset of the first line in memory."""
    _end: int = 0
    """Offset up to which the file was read."""
    _weight: int = 0
    _partial: LineAssembler = field(default_factory=LineAssembler)
    """The line that has no end yet."""
    _partial_start: int = 0
    _file: LogIdentity = field(default_factory=LogIdentity)
    _window: LogWindow | None = None

    @property
    def window(self) -> LogWindow:
        """The window as it was last made."""
        return self._window or LogWindow(self.path, exists=False)

    def poll(self, *, following: bool = True) -> LogWindow:
        """Look for what is new; the very same object when nothing changed.

        Without `following` no line is let go for a new one: the window stays where it is when it is full.
        """
        return self._with_file(lambda descriptor: self._read_new(descriptor, following=following))

    def read_older(self) -> LogWindow:
        """Read a block more towards the beginning; the newest lines leave when there are too many."""
        return self._with_file(self._read_older)

    def read_newer(self) -> LogWindow:
        """Read a block more towards the end; the oldest lines leave when there are too many."""
        return self._with_file(self._append_line)

    def go_to(self, offset: int) -> LogWindow:
        """Read the lines around the one that holds the byte at `offset`."""
        return self._with_file(lambda descriptor: self._go_to(descriptor, offset))

    def go_to_end(self) -> LogWindow:
        """Read the last lines, unless they are in memory."""
        return self._with_file(lambda descriptor: self._end >= self._file.size or self._open_at_end(descriptor))

    def _with_file(self, act: Callable[[int], object]) -> LogWindow:
        try:
            # A named pipe that somebody has put there must not block the thread for ever.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return self._vanish()
        try:
            if self._is_the_same(descriptor):
                act(descriptor)
        finally:
            os.close(descriptor)
        return self._remember(self._make_window())

    def _is_the_same(self, descriptor: int) -> bool:
        """Whether the window is one on this very file; of another one the end is read."""
        known = self._file.is_known
        found = self._file.look(descriptor, self._end)
        if found == "another":
            self._generation += known
            self._open_at_end(descriptor)
        return found == "same"

    def _open_at_end(self, descriptor: int) -> None:
        start = max(0, self._file.size - OPEN_BYTES)
        first = os.pread(descriptor, self._file.size - start, start).find(b"\n", 0, -1) + 1
        start = 0 if start == 0 else start + first if first else start_of_line(descriptor, start)
        self._restart(descriptor, start)
        while self._end < self._file.size and self._append_block(descriptor):
            self._drop_oldest()

    def _read_new(self, descriptor: int, *, following: bool) -> None:
        if self._window is None or not self._window.at_end:
            return
        if following and self._file.size - self._end > MOST_NEW_BYTES:
            self._open_at_end(descriptor)
            return
        while self._end < self._file.size and (following or self._weight <= MOST_WEIGHT):
            if not self._append_block(descriptor):
                break
            if following:
                self._drop_oldest()
        self._drop_newest(descriptor)

    def _read_older(self, descriptor: int) -> None:
        if self._start > 0:
            self._prepend(descriptor)
            self._drop_newest(descriptor)

    def _go_to(self, descriptor: int, offset: int) -> None:
        start = start_of_line(descriptor, min(offset, self._file.size))
        self._restart(descriptor, start)
        self._append_line(descriptor)
        if start > 0:
            self._prepend(descriptor)

    def _restart(self, descriptor: int, start: int) -> None:
        self._lines, self._weight = [], 0
        self._first_number = 1 if start == 0 else None
        self._start = start
        self._stand_at(descriptor, start)

    def _stand_at(self, descriptor: int, end: int) -> None:
        """Go on reading at the beginning of a line."""
        self._partial.clear()
        self._end = self._partial_start = end
        self._file.stand_at(descriptor, end)

    def _append_line(self, descriptor: int) -> None:
        """Read on until there is a line more, or the end."""
        before = len(self._lines)
        while len(self._lines) == before and self._end < self._file.size and self._append_block(descriptor):
            pass
        self._drop_oldest()

    def _append_block(self, descriptor: int) -> bool:
        data = os.pread(descriptor, min(BLOCK_BYTES, self._file.size - self._end), self._end)
        *whole, rest = data.split(b"\n", _MOST_BLOCK_LINES)
        if len(whole) == _MOST_BLOCK_LINES:
            data, rest = data[: len(data) - len(rest)], b""
        offsets: list[int] = []
        texts: list[str] = []
        at = self._end
        for raw in whole:
            offsets.append(self._partial_start)
            texts.append(self._finish_line(raw))
            at += len(raw) + 1
            self._partial_start = at
        self._partial.feed(rest)
        self._end += len(data)
        self._file.read(data)
        self._lines += self._weigh(offsets, texts)
        return bool(data)

    def _finish_line(self, raw: bytes) -> str:
        if self._partial.is_empty:
            return shown_line(raw)
        self._partial.feed(raw)
        text = decode_log_line(self._partial.kept, self._partial.dropped)
        self._partial.clear()
        return text

    def _prepend(self, descriptor: int) -> None:
        block = next(blocks_backward(descriptor, self._start))
        raws = block.lines
        offsets = list(accumulate((len(raw) + 1 for raw in raws), initial=block.offset))[:-1]
        raws, offsets = raws[-_MOST_BLOCK_LINES:], offsets[-_MOST_BLOCK_LINES:]
        texts = [decode_log_line(raws[0], block.dropped)] if block.dropped else [shown_line(raw) for raw in raws]
        self._lines[:0] = self._weigh(offsets, texts)
        self._start = offsets[0]
        if self._start == 0:
            self._first_number = 1
        elif self._first_number is not None:
            self._first_number -= len(raws)

    def _weigh(self, offsets: list[int], texts: list[str]) -> list[WindowLine]:
        self._weight += sum(map(len, texts)) + _LINE_WEIGHT * len(texts)
        return list(map(WindowLine, offsets, texts, signs_of_lines(texts)))

    def _drop_oldest(self) -> None:
        surplus = self._count_surplus(iter(self._lines))
        if surplus:
            del self._lines[:surplus]
            self._start = self._lines[0].offset if self._lines else self._partial_start
            self._first_number = None if self._first_number is None else self._first_number + surplus

    def _drop_newest(self, descriptor: int) -> None:
        surplus = self._count_surplus(reversed(self._lines))
        if surplus:
            first = self._lines[-surplus].offset
            del self._lines[-surplus:]
            self._stand_at(descriptor, first)

    def _count_surplus(self, lines: Iterator[WindowLine]) -> int:
        surplus = 0
        while self._weight > MOST_WEIGHT:
            self._weight -= len(next(lines).text) + _LINE_WEIGHT
            surplus += 1
        return surplus

    def _vanish(self) -> LogWindow:
        self._file.vanish()
        return self._remember(replace(self.window, exists=False))

    def _make_window(self) -> LogWindow:
        at_end = self._end >= self._file.size
        lines = tuple(self._lines)
        if at_end and not self._partial.is_empty:
            text = decode_log_line(self._partial.kept, self._partial.dropped)
            lines = (*lines, WindowLine(self._partial_start, text, sign_of_line(text)))
        return LogWindow(
            self.path, lines, self._first_number, self._generation, self._start == 0, at_end, self._file.size
        )

    def _remember(self, window: LogWindow) -> LogWindow:
        if window != self._window:
            self._window = window
        return self.window
