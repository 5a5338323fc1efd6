"""Searches a whole log for words or for errors, a block at a time, so that it can be watched and stopped.

Owns the pattern a person typed and the walk over the file. It searches what is shown: the first 8 KiB of a line,
without escape sequences, and of a progress bar its last state. Case is ignored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from qad_core.run.log_lines import (
    MAX_LINE_BYTES,
    LineBlock,
    blocks_backward,
    blocks_forward,
    decode_log_line,
    shown_line,
)

MOST_SPANS = 200
"""Matches told of one line."""
_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}]")
_NESTED_REPEAT = re.compile(r"\([^()]*[+*}][^()]*\)[+*{]")
"""Such an expression can take for ever on a line that does not match."""


_NOT_QUICK = re.compile(r"\(\?|\[\^|\\[^bdwSB.\\^$|?*+()\[\]{}/-]")
"""With these a match may go over the end of a line, or depend on what is around it."""


class Matcher(Protocol):
    """Says which lines are looked for."""

    def offsets_in(self, block: LineBlock) -> Iterator[int]:
        """Offsets of the lines looked for, in their order."""
        ...


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    offset: int | None
    """Of the line found; None when there is none, or the search was stopped."""
    wrapped: bool = False
    """Whether it was found beyond the end (or the beginning), where the search went on at the other side."""
    stopped: bool = False
    """Whether `watch` stopped it."""


class LogPattern:
    """What a person looks for: a regular expression where it is a valid one, else plain text."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.note = ""
        """Why it is not taken as the regular expression that it looks like; empty otherwise."""
        self._is_plain = _SPECIAL.search(words) is None or self._is_refused(words)
        source = re.escape(words) if self._is_plain else words
        self._expression = re.compile(source, re.IGNORECASE)
        self._literal = words.lower().encode() if self._is_plain and words.isascii() else None
        self._raw = re.compile(source.encode(), re.IGNORECASE) if words.isascii() else None
        self._quick = _quick_expression(source)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the matches stand in a line; those of no width are none."""
        found: list[tuple[int, int]] = []
        for match in self._expression.finditer(text):
            if match.end() > match.start():
                found.append(match.span())
            if len(found) == MOST_SPANS:
                break
        return found

    def offsets_in(self, block: LineBlock) -> Iterator[int]:
        """Offsets of the lines of a block that match."""
        is_clean = b"\x1b" not in block.data and b"\r" not in block.data and not block.dropped
        if self._literal and is_clean:
            yield from self._literal_in(block, self._literal)
            return
        if is_clean and self._quick is not None and self._quick.search(block.data.lower()) is None:
            return
        quick = self._raw.search if self._raw is not None and is_clean else None
        offset = block.offset
        for raw in block.lines:
            if (quick is None or quick(raw, 0, MAX_LINE_BYTES) is not None) and self._matches(raw, block.dropped):
                yield offset
            offset += len(raw) + 1

    def _is_refused(self, words: str) -> bool:
        try:
            re.compile(words)
        except (re.error, OverflowError, RecursionError) as error:
            self.note = f"as plain text: {error}"
            return True
        if _NESTED_REPEAT.search(words):
            self.note = "as plain text: a repeat of a repeat would take for ever"
            return True
        return False

    def _literal_in(self, block: LineBlock, literal: bytes) -> Iterator[int]:
        data = block.data.lower()
        at = data.find(literal)
        while at >= 0:
            start = data.rfind(b"\n", 0, at) + 1
            if at + len(literal) - start <= MAX_LINE_BYTES:
                yield block.offset + start
            end = data.find(b"\n", at)
            if end < 0:
                return
            at = data.find(literal, end)

    def _matches(self, raw: bytes, dropped: int) -> bool:
        return bool(self.spans(decode_log_line(raw, dropped) if dropped else shown_line(raw)))


def _quick_expression(source: str) -> re.Pattern[bytes] | None:
    """An expression for a whole block in lower case, which has a match wherever one of its lines has one.

    It takes no longer on a block than line by line, and mostly much less. None where there is none such.
    """
    if not source.isascii() or _NOT_QUICK.search(source):
        return None
    lowered = re.sub(r"\\.|[A-Z]+", lambda found: found[0] if found[0][0] == "\\" else found[0].lower(), source)
    return re.compile(lowered.encode(), re.MULTILINE)


def search_log(
    path: Path, matcher: Matcher, start: int, *, forward: bool, watch: Callable[[float], bool] = lambda _: True
) -> Found:
    """The nearest line that matches, from the line at offset `start` on or before it; then from the other side.

    `watch` is told the share of the file that has been searched, and returns whether to go on. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        searched = 0
        for wrapped, block in _walk(descriptor, min(start, size), size, forward=forward):
            hits = matcher.offsets_in(block)
            hit = next(hits, None) if forward else max(hits, default=None)
            if hit is not None:
                return Found(hit, wrapped)
            searched += block.end - block.offset
            if not watch(min(1.0, searched / max(1, size))):
                return Found(None, stopped=True)
        return Found(None)
    finally:
        os.close(descriptor)


class EveryLine:
    """Matches every line."""

    def offsets_in(self, block: LineBlock) -> Iterator[int]:
        """Offsets of the lines of a block."""
        return accumulate((len(raw) + 1 for raw in block.lines[:-1]), initial=block.offset)


@dataclass(frozen=True)
class MatchingLine:
    """One line that was looked for."""

    number: int
    """1-based number in the file."""
    offset: int
    """Of its first byte."""
    text: str


def matching_lines(path: Path, matcher: Matcher, start: int = 0, number: int = 1) -> Iterator[MatchingLine]:
    """Every line of a log that matches, in order, from the line at offset `start` on, which has this number.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for block in blocks_forward(descriptor, start, os.fstat(descriptor).st_size):
            counted = 0
            for offset in matcher.offsets_in(block):
                at = offset - block.offset
                number += block.data.count(b"\n", counted, at)
                counted = at
                raw = block.data[at:].split(b"\n", 1)[0]
                text = decode_log_line(raw, block.dropped) if block.dropped else shown_line(raw)
                yield MatchingLine(number, offset, text)
            number += block.data.count(b"\n", counted) + 1
    finally:
        os.close(descriptor)


def _walk(descriptor: int, start: int, size: int, *, forward: bool) -> Iterator[tuple[bool, LineBlock]]:
    if forward:
        yield from ((False, block) for block in blocks_forward(descriptor, start, size))
        yield from ((True, block) for block in blocks_forward(descriptor, 0, start))
        return
    yield from ((False, block) for block in blocks_backward(descriptor, start))
    for block in blocks_backward(descriptor, size):
        if block.end <= start:
            return
        yield True, block
