"""Reads the parts of a log in which a failure is found: its beginning and its end, never the whole.

Owns bytes to lines: decoding, colours, the labels that srun and torch put before a line, times, and secrets that
must not be shown. It knows no failure: which words matter is told to it.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qad_core.run.redact import redact, shorten

HEAD_BYTES = 256 * 1024
TAIL_BYTES = 2 * 1024 * 1024
LINE_BYTES = 4000
"""Longer lines are cut in the middle."""
NEAR_LINES = 400
"""A line without a time has that of a line at most so far away."""
NEAR_SECONDS = 60.0
"""Between two times that are closer, the earlier is near enough."""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_TASK_LABEL = re.compile(r" {0,5}(\d{1,6}): ?")
_RANK_LABEL = re.compile(r"\[(?:rank|default)(\d+)\]: ?")
_NODE_IN_NAME = re.compile(r"^output_.*_node(\d+)_rank\d+$")
_RANK_IN_NAME = re.compile(r"_rank(\d+)$")
_OWN_NAME = re.compile(r"^(?:output_|prepare_)|_qad_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(?:_rank\d+)?$")
_DATE = re.compile(
    r"(?:^\W{0,3}|CANCELLED AT )(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?"
    r"(?:\W*(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\b)?"
)
_SHORT_DATE = re.compile(r"^\[?(?P<level>[DIWECF])(\d{1,2})(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?")
_QUIET_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "D", "I", "W"})
_LOUD_LEVELS = frozenset({"ERROR", "CRITICAL", "E", "C", "F"})
_PYTHON_WARNING = re.compile(r"^\S*: \w*Warning: |^\w*Warning: ")


@dataclass(frozen=True)
class LogLine:
    """One line as a person would read it."""

    text: str
    """Without colours and labels, cut when very long."""
    task: int | None
    """srun's label of the task that printed it: in our jobs a task is a node."""
    rank: int | None
    """torch's label of the rank that printed it."""

    @cached_property
    def level(self) -> str:
        """Level of a log record, as it is written there; empty for other lines."""
        match = _DATE.search(self.text) or _SHORT_DATE.search(self.text)
        return (match["level"] or "") if match else ""

    @property
    def is_quiet(self) -> bool:
        """Whether its writer calls it less than an error."""
        return self.level in _QUIET_LEVELS or _PYTHON_WARNING.match(self.text) is not None

    @property
    def is_stamped(self) -> bool:
        """Whether it begins with a time, and so begins a record."""
        return _DATE.match(self.text) is not None or _SHORT_DATE.match(self.text) is not None


@dataclass
class LogText:
    """The first 256 KiB and the last 2 MiB of a log."""

    path: Path
    modified: float
    """Unix time of its last change."""
    data: bytes
    """The two parts, joined by an end of line."""
    numbered: int
    """So many of the lines have a known number; the others follow the gap."""

    @cached_property
    def raw(self) -> list[bytes]:
        """Its lines, without those between the two parts."""
        return self.data.split(b"\n")

    @cached_property
    def is_own(self) -> bool:
        """Whether our launcher or one of our ranks writes it, rather than SLURM."""
        return _OWN_NAME.search(self.path.stem) is not None

    @cached_property
    def node(self) -> int | None:
        """Number of the node of a rank's output; None for a log that many nodes or nobody in particular write."""
        match = _NODE_IN_NAME.match(self.path.stem)
        if match:
            return int(match.group(1))
        return 0 if self.path.stem.startswith("output_") else None

    @cached_property
    def named_rank(self) -> int | None:
        """Rank in its name: of an output among those of its node, of a log among all; None for other files."""
        match = _RANK_IN_NAME.search(self.path.stem)
        if match:
            return int(match.group(1))
        return 0 if self.is_own and "_qad_" in self.path.stem else None

    def line(self, index: int) -> LogLine:
        """The line at an index of `raw`."""
        return _clean(self.raw[index], may_have_label=not self.is_own)

    def number(self, index: int) -> int | None:
        """1-based number of a line in the file; None behind the part that was not read."""
        return index + 1 if index < self.numbered else None

    def lines_with(self, words: Iterable[bytes], *, first: int) -> list[int]:
        """Indexes of the lines from `first` that hold one of the words, given in lower case, in any case."""
        data = b"\n".join(self.raw[first:]).lower()
        return sorted({first + line for word in words for line in _lines_of(data, word)})

    def last_line_with(self, word: bytes, another: bytes = b"") -> int | None:
        """Index of the last line that holds a word, and another one, as they are written."""
        at = self.data.rfind(word)
        while at >= 0:
            start, end = self.data.rfind(b"\n", 0, at) + 1, self.data.find(b"\n", at)
            if another in self.data[start : end if end >= 0 else None]:
                return self.data.count(b"\n", 0, start)
            at = self.data.rfind(word, 0, start)
        return None

    def time_of(self, index: int) -> float:
        """Unix time of a line: its own, else one nearby, else that of the file's last change.

        A line between two times that lie far apart has the later one: most often it is the last word of a
        process that had been silent.
        """
        own = self.stamp(index)
        if own is not None:
            return own
        above, is_error = self._stamp_above(index)
        if above is not None and is_error:
            return above
        below = next((stamp for stamp in map(self.stamp, self._after(index)) if stamp is not None), self.modified)
        return above if above is not None and below - above <= NEAR_SECONDS else below

    def stamp(self, index: int) -> float | None:
        """Unix time that is written in a line, in this machine's time zone; never later than the file's last change."""
        raw = self.raw[index]
        if raw.count(b":", 0, LINE_BYTES) < 2:
            return None
        text = self.line(index).text
        date = _DATE.search(text)
        written = _unix(date.groups()[:7]) if date else _unix_of_short(text, self.modified)
        return None if written is None else min(written, self.modified)

    def excerpt(self, index: int, *, before: int, after: int) -> tuple[str, ...]:
        """So many lines before and after one, of the same writer, without empty ones and without secrets."""
        above = self._shown(range(index - 1, max(-1, index - NEAR_LINES), -1), index)
        below = self._shown(range(index, min(len(self.raw), index + NEAR_LINES)), index)
        return (*reversed(tuple(itertools.islice(above, before))), *itertools.islice(below, after + 1))

    def _shown(self, indexes: Iterable[int], centre: int) -> Iterator[str]:
        task = self.line(centre).task
        lines = (self.line(at) for at in indexes)
        return (shorten(redact(line.text), 200) for line in lines if line.text.strip() and line.task == task)

    def _stamp_above(self, index: int) -> tuple[float | None, bool]:
        """The nearest time above, and whether it is that of an error's record, which this line then continues."""
        for at in range(index - 1, max(-1, index - NEAR_LINES), -1):
            stamp = self.stamp(at)
            if stamp is not None:
                return stamp, self.line(at).level in _LOUD_LEVELS
        return None, False

    def _after(self, index: int) -> Iterator[int]:
        return iter(range(index + 1, min(len(self.raw), index + NEAR_LINES)))


def read_log(path: Path) -> LogText | None:
    """The ends of a log; None when there is no such file or it may not be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            modified = path.stat().st_mtime
            file.seek(0)
            if size <= HEAD_BYTES + TAIL_BYTES:
                head, tail = file.read(HEAD_BYTES + TAIL_BYTES), b""
            else:
                head = file.read(HEAD_BYTES)
                file.seek(size - TAIL_BYTES)
                tail = file.read(TAIL_BYTES)
    except OSError:
        return None
    head, tail = head.replace(b"\0", b""), tail.replace(b"\0", b"")
    data = head + b"\n" + tail if tail else head
    return LogText(path, modified, data, numbered=head.count(b"\n") + 1)


def _clean(raw: bytes, *, may_have_label: bool) -> LogLine:
    if len(raw) > LINE_BYTES:
        raw = raw[: LINE_BYTES * 3 // 4] + b" ... " + raw[-LINE_BYTES // 4 :]
    text = raw.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", errors="replace")
    text = _ANSI.sub("", text).rstrip()
    task = _TASK_LABEL.match(text) if may_have_label else None
    text = text[task.end() :] if task else text
    rank = _RANK_LABEL.match(text)
    # Of torch's own records the label is part of the text: `[rank3]:[E1125 12:00:00 ...`.
    text = text[rank.end() :] if rank else text
    return LogLine(text, int(task.group(1)) if task else None, int(rank.group(1)) if rank else None)


def _lines_of(data: bytes, word: bytes) -> Iterator[int]:
    line, counted = 0, 0
    at = data.find(word)
    while at >= 0:
        line += data.count(b"\n", counted, at)
        yield line
        counted = data.find(b"\n", at)
        if counted < 0:
            return
        at = data.find(word, counted)


def _unix(parts: Sequence[str | None]) -> float | None:
    year, month, day, hour, minute, second = (int(part or 0) for part in parts[:6])
    try:
        whole = time.mktime((year, month, day, hour, minute, second, 0, 0, -1))
    except (OverflowError, ValueError):
        return None
    return whole + float(f"0.{parts[6] or 0}")


def _unix_of_short(text: str, modified: float) -> float | None:
    """Unix time of a record that names no year: the latest such day before the file's last change."""
    match = _SHORT_DATE.search(text)
    if match is None:
        return None
    year = time.localtime(modified).tm_year
    parts = match.groups()[1:]
    found = _unix([str(year), *parts])
    if found is not None and found > modified + 86400:
        return _unix([str(year - 1), *parts])
    return found
