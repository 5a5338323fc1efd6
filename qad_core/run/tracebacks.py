"""Python tracebacks in a log: what was raised, where, and what was raised before it.

Owns the forms of tracebacks: CPython's, also without frames as its C code chains them, and Rich's in boxes.
Which exception of a chain is the cause is for `failure_search.py` to say.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qad_core.run.log_scan import LogLine, LogText

HEADER = "Traceback (most recent call last)"
TRIGGERS = (HEADER.lower().encode(),)
MOST_FRAME_LINES = 4000
MOST_LINES_APART = 10_000
MOST_MESSAGE_LINES = 40
"""Between an exception and what was raised because of it."""
SHOWN_MESSAGE_LINES = 8

_DIRECT = "The above exception was the direct cause of the following exception:"
_DURING = "During handling of the above exception, another exception occurred:"
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?::(?: |$)|$)")
_LIKELY_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Interrupt|Exit|Warning)(?::|$)")
_FRAME = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?')
_BOX_FRAME = re.compile(r"^[│|] (?P<file>\S+):(?P<line>\d+) in (?P<function>\S+)")
_INSIDE = (" ", "\t", "│", "╭", "╰", "|", "+")


@dataclass(frozen=True)
class Raised:
    """One exception in a log."""

    text: str
    """`Type: message`, with the further lines of its message."""
    index: int
    """Line of the log, as an index of `LogText.raw`."""
    frame: str
    """Innermost frame, `loader.py:12 in read`; empty when it is not known."""
    led_to_next: bool
    """Whether the next of the chain was raised from it, rather than while it was handled."""

    @property
    def name(self) -> str:
        """Name of the exception's class without its module."""
        return self.text.split(":", 1)[0].strip().rpartition(".")[2]


@dataclass(frozen=True)
class Chain:
    """Exceptions of one traceback, the earliest first."""

    raised: tuple[Raised, ...]
    lines: frozenset[int]
    """Every line that it takes, as indexes of `LogText.raw`."""


@dataclass(frozen=True)
class _Part:
    """One exception and where its text ends."""

    raised: Raised
    lines: tuple[int, ...]
    follower: int | None
    """Line that says that another one follows."""


def find_tracebacks(log: LogText, *, first: int = 0) -> list[Chain]:
    """All tracebacks of a log from a line on, in order; those of several writers of one log are kept apart."""
    chains: list[Chain] = []
    taken: set[int] = set()
    for header in log.lines_with(TRIGGERS, first=first):
        chain = None if header in taken else _read_chain(log, header)
        if chain is not None:
            chains.append(chain)
            taken |= chain.lines
    return chains


def _read_chain(log: LogText, header: int) -> Chain | None:
    raised, lines = _without_frames_above(log, header)
    at: int | None = header
    while at is not None:
        part = _read_part(log, at)
        if part is None:
            break
        raised.append(part.raised)
        lines.update(part.lines)
        at = None if part.follower is None else _next_header(log, part.follower)
    return Chain(tuple(raised), frozenset(lines)) if raised else None


def _read_part(log: LogText, header: int) -> _Part | None:
    """The exception of one header; None when the log ends, or goes on with something else, before it."""
    taken, frame = [header], ""
    for index, line in _same_writer(log, header, MOST_FRAME_LINES):
        if line.text.startswith(_INSIDE):
            taken.append(index)
            frame = _frame_of(line.text) or frame
        elif _EXCEPTION.match(line.text) and not line.is_stamped:
            return _with_message(log, index, taken, frame)
        elif line.is_stamped or HEADER in line.text:
            return None
    return None


def _with_message(log: LogText, index: int, taken: Sequence[int], frame: str) -> _Part | None:
    """The exception at a line with the rest of its message and the word on what followed; None for a mere wrapper."""
    text, lines, follower, is_open = [log.line(index).text], [*taken, index], None, True
    for at, line in _same_writer(log, index, MOST_MESSAGE_LINES):
        if line.text in (_DIRECT, _DURING):
            follower = at
            break
        if line.text.startswith("Original " + HEADER):  # a worker's traceback inside the message: that is the cause
            return None
        if line.is_stamped or HEADER in line.text or line.text.startswith("error: "):
            break
        is_open = is_open and bool(line.text) and len(text) < SHOWN_MESSAGE_LINES
        if is_open:
            text.append(line.text)
            lines.append(at)
    led = follower is not None and log.line(follower).text == _DIRECT
    return _Part(Raised("\n".join(text), index, frame, led), tuple(lines), follower)


def _next_header(log: LogText, follower: int) -> int | None:
    """The header after a word that another exception follows."""
    for index, line in _same_writer(log, follower, MOST_MESSAGE_LINES):
        if HEADER in line.text:
            return index
        if line.is_stamped:
            return None
    return None


def _without_frames_above(log: LogText, header: int) -> tuple[list[Raised], set[int]]:
    """Exceptions without frames that led to the traceback of a header, as C code and httpx raise them."""
    raised: list[Raised] = []
    lines: set[int] = set()
    follower, message = "", list[str]()
    for index, line in _same_writer(log, header, MOST_MESSAGE_LINES * 3, step=-1):
        if line.text in (_DIRECT, _DURING):
            follower, message = line.text, []
        elif line.is_stamped or line.text.startswith(_INSIDE) or (line.text and not follower):
            break
        elif _LIKELY_EXCEPTION.match(line.text):
            text = "\n".join([line.text, *message[:SHOWN_MESSAGE_LINES]])
            raised.insert(0, Raised(text, index, "", follower == _DIRECT))
            follower = ""
        elif line.text:
            message.insert(0, line.text)
        lines.add(index)
    return raised, lines if raised else set()


def _same_writer(log: LogText, start: int, most: int, *, step: int = 1) -> Iterator[tuple[int, LogLine]]:
    """Lines after (or before) one that the same task and rank wrote; so many, and none from far away."""
    writer = _writer(log.line(start))
    end = start + step * MOST_LINES_APART
    found = ((at, log.line(at)) for at in range(start + step, max(-1, min(end, len(log.raw))), step))
    return itertools.islice(((at, line) for at, line in found if _writer(line) == writer), most)


def _writer(line: LogLine) -> tuple[int | None, int | None]:
    return line.task, line.rank


def _frame_of(text: str) -> str:
    match = _FRAME.match(text) or _BOX_FRAME.match(text)
    if match is None:
        return ""
    function = f" in {match['function']}" if match["function"] else ""
    return f"{match['file']}:{match['line']}{function}"
