"""A program on a terminal of its own, as its user sees it: what it prints, how soon, and what that costs.

Owns the pty, the clock and the search for a mark among the printed bytes; what is printed is not laid out, since that
would cost the measuring process more than the measured one. Linux: processor time is read from the kernel.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

COLUMNS, ROWS = 120, 40
_MOVE = re.compile(rb"\x1b\[(\d+);(\d+)H")


@dataclass
class Screen:
    """The terminal's side of a program."""

    process: subprocess.Popen[bytes]
    terminal: int
    started: float

    def read(self, seconds: float) -> bytes:
        """What it prints within so many seconds, as soon as it prints anything; nothing once it has ended."""
        ready, _, _ = select.select([self.terminal], [], [], seconds)
        try:
            return os.read(self.terminal, 1 << 20) if ready else b""
        except OSError:  # how Linux says that nobody has the other side any more
            return b""

    def wait_until(self, is_there: Callable[[bytes], bool], seconds: float, seen: bytes = b"") -> bytes:
        """What it prints until that is enough. Raises TimeoutError, with the last of it."""
        end = time.perf_counter() + seconds
        while not is_there(seen):
            if time.perf_counter() > end or self.process.poll() is not None:
                raise TimeoutError(f"it did not print what was waited for within {seconds:g} s: {seen[-200:]!r}")
            seen += self.read(0.01)
        return seen

    def wait_for(self, text: bytes, seconds: float) -> float:
        """Seconds since its start until it has printed the text."""
        self.wait_until(lambda seen: text in seen, seconds)
        return time.perf_counter() - self.started

    def wait_for_end(self, seconds: float) -> float:
        """Seconds from its start until it has ended by itself. Raises TimeoutError, also where it has failed."""
        seen, end = b"", time.perf_counter() + seconds
        while self.process.poll() is None and time.perf_counter() < end:
            seen += self.read(0.01)
        took = time.perf_counter() - self.started
        if self.process.returncode != 0:
            said = (seen + self.read(0.1)).decode(errors="replace").strip().splitlines()
            code = self.process.returncode
            raise TimeoutError(
                f"it did not end well within {seconds:g} s (exit code {code}): {said[-1] if said else ''}"
            )
        return took

    def drain(self, seconds: float) -> bytes:
        """Whatever it prints for so long."""
        seen, end = b"", time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0 and self.process.poll() is None:
            seen += self.read(left)
        return seen

    def cpu_share(self, seconds: float) -> float:
        """Share of one core that it takes while nobody touches it."""
        before, began = self.cpu_seconds(), time.perf_counter()
        self.drain(seconds)
        return (self.cpu_seconds() - before) / (time.perf_counter() - began)

    def cpu_seconds(self) -> float:
        """Processor time of the program so far, without its children's."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def mebibytes(self) -> float:
        """Its resident memory."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def answer(self, key: bytes, is_there: Callable[[bytes], bool], seconds: float = 5.0) -> float:
        """Seconds from a key until what is printed after it is enough. Raises TimeoutError."""
        began = time.perf_counter()
        os.write(self.terminal, key)
        self.wait_until(is_there, seconds)
        return time.perf_counter() - began


@contextmanager
def open_screen(argv: Sequence[str], environ: Mapping[str, str]) -> Iterator[Screen]:
    """A terminal of 120 x 40 with the program on it, which is killed at the end."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    started = time.perf_counter()
    process = subprocess.Popen(
        list(argv),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,  # where Textual draws
        env={**_without_size(environ), "TERM": "xterm-256color", "COLORTERM": "truecolor"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Screen(process, ours, started)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _without_size(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what would be believed before the terminal's own size."""
    return {name: value for name, value in environ.items() if name not in ("COLUMNS", "LINES")}


def rows_of(mark: bytes, printed: bytes) -> list[int]:
    """Rows of the terminal, from 1 on, in which the mark was printed, in the order of printing.

    Textual moves to the row and column before each piece of a line.
    """
    pieces = _MOVE.split(printed)
    return [int(row) for row, text in zip(pieces[1::3], pieces[3::3], strict=True) if mark in text]
