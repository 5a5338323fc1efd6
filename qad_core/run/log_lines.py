"""The lines of a log file by their offsets, whatever bytes are in it: a huge file, a line of megabytes, bad UTF-8.

Owns the cutting of bytes into lines and how a line looks on a terminal. Reads are plain `pread`, never a memory
map: a truncated map would kill the process. What a line means is `log_signs.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK_BYTES = 256 * 1024
"""Bytes read at a time: so many are searched before another thread gets its turn."""
MAX_LINE_BYTES = 8 * 1024
"""Bytes shown and searched of one line; the rest of it is counted."""

_CONTROL_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL_CHARACTER = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class LineBlock:
    """Whole lines that stand together in a file, or the shown part of one line that is longer than a block."""

    offset: int
    """Of the first line."""
    end: int
    """Offset behind the last line and its end."""
    data: bytes
    """The lines without the last one's end."""
    dropped: int = 0
    """Bytes of a very long line that are not in `data`."""

    @property
    def lines(self) -> list[bytes]:
        """The lines as they are in the file."""
        return self.data.split(b"\n")


class LineAssembler:
    """Puts a line together from pieces; what a progress bar wrote over is let go, and a long rest is counted."""

    def __init__(self) -> None:
        self.kept = b""
        self.dropped = 0
        self._returned = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the line has come."""
        return not (self.kept or self._returned)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the line, without its end."""
        body = piece.rstrip(b"\r")
        if self._returned and body:
            self.clear()
        self._returned = self._returned or len(body) < len(piece)
        rewritten = body.rfind(b"\r")
        if rewritten >= 0:
            self.kept, self.dropped = b"", 0
            body = body[rewritten + 1 :]
        room = MAX_LINE_BYTES - len(self.kept)
        self.kept += body[:room]
        self.dropped += max(0, len(body) - room)

    def clear(self) -> None:
        """Begin the next line."""
        self.kept, self.dropped, self._returned = b"", 0, False


def shown_line(raw: bytes) -> str:
    """A whole line as text for a terminal."""
    if b"\r" in raw:
        raw = raw.rstrip(b"\r").rpartition(b"\r")[2]
    return decode_log_line(raw[:MAX_LINE_BYTES], max(0, len(raw) - MAX_LINE_BYTES))


def decode_log_line(raw: bytes, dropped: int = 0) -> str:
    """One line as text: bad UTF-8 replaced, escape sequences and control characters removed, the rest counted."""
    text = raw.decode("utf-8", errors="replace")
    if not text.isprintable():
        text = _CONTROL_CHARACTER.sub("", _CONTROL_SEQUENCE.sub("", text).expandtabs(8))
    return f"{text} … {dropped:,} more bytes" if dropped else text


def start_of_line(descriptor: int, offset: int) -> int:
    """Offset at which the line begins that holds the byte at `offset`."""
    end = offset
    while end > 0:
        begin = max(0, end - BLOCK_BYTES)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def blocks_forward(descriptor: int, start: int, end: int) -> Iterator[LineBlock]:
    """The lines from `start`, which is a line's beginning, as far as they begin before `end`."""
    while start < end:
        block = _block_from(descriptor, start, end)
        if block.end <= start:
            return  # the file has become shorter
        yield block
        start = block.end


def blocks_backward(descriptor: int, end: int) -> Iterator[LineBlock]:
    """The lines before `end`, which is a line's beginning or the end of the file; the last ones first."""
    while end > 0:
        begin = max(0, end - BLOCK_BYTES)
        data = os.pread(descriptor, end - begin, begin)
        first = 0 if begin == 0 else data.find(b"\n", 0, len(data) - 1) + 1
        if begin > 0 and first == 0:
            begin = start_of_line(descriptor, end - 1)
            yield _long_line(descriptor, begin, end)
        else:
            begin += first
            yield LineBlock(begin, end, data[first:].removesuffix(b"\n"))
        end = begin


def _block_from(descriptor: int, start: int, end: int) -> LineBlock:
    data = os.pread(descriptor, min(BLOCK_BYTES, end - start), start)
    last = data.rfind(b"\n")
    if last >= 0:
        return LineBlock(start, start + last + 1, data[:last])
    if start + len(data) >= end:
        return LineBlock(start, start + len(data), data)
    return _long_line(descriptor, start, end)


def _long_line(descriptor: int, start: int, end: int) -> LineBlock:
    line = LineAssembler()
    at = start
    while at < end:
        piece = os.pread(descriptor, min(BLOCK_BYTES, end - at), at)
        found = piece.find(b"\n")
        line.feed(piece if found < 0 else piece[:found])
        at += len(piece) if found < 0 else found + 1
        if found >= 0 or not piece:
            break
    return LineBlock(start, at, line.kept, line.dropped)
