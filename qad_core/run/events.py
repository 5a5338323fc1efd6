"""TensorBoard event files of a run that other scripts have trained, read as lines like those of metrics.jsonl.

Owns which files belong to a run, how those of several starts are laid over each other, and which tag is which of our
metrics. A reader goes on in each file from where it stopped, and holds a record that is not whole yet back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsLine, read_metrics
from qad_core.run.tfrecord import BrokenRecordError, Scalar, ScalarParser, find_record

TAGS: dict[str, tuple[str, float]] = {
    "logits distillation loss": ("loss/kd", 1),
    "lm loss": ("loss/ce", 1),
    "intermediate distillation loss": ("loss/intermediate", 1),
    "learning-rate": ("learning_rate", 1),
    "grad-norm": ("grad_norm", 1),
    "iteration-time": ("step_ms", 1000),
    "mem-allocated-bytes": ("memory_gib", 2**-30),
    "logits distillation loss validation": ("eval/kl", 1),
    "lm loss validation": ("eval/ce", 1),
    "lm loss validation ppl": ("eval/perplexity", 1),
}
"""Megatron-LM's tag -> our key, and what its value is multiplied by; other tags keep their names."""
OTHER_AXES = (" vs samples", " vs steps")
"""Megatron-LM writes some tags again over another axis; those are left out."""
READ_BYTES = 2**20
SAMPLES, SAMPLE_BYTES = 64, 2**15
_FILES = "events.out.tfevents.*"
_FILE_TIME = re.compile(r"tfevents\.(\d+)")


@dataclass(frozen=True)
class EventBatch:
    """Lines of one file, in their order."""

    lines: Sequence[MetricsLine]
    drop_from: int | None = None
    """A later start goes on here: what is known of this step and all after it is dropped first."""


@dataclass
class _EventFile:
    path: Path
    inode: int
    size: int = 0
    changed_at: float = 0.0
    offset: int = 0
    broken: bool = False
    parser: ScalarParser = field(default_factory=ScalarParser)
    has_replaced: bool = False
    """Whether it has taken a tag over from an older file."""


@dataclass
class EventReader:
    """Reads new whole records of all event files below a folder; of files in one folder, the newest wins."""

    folder: Path
    bad_files: int = 0
    """Files with bytes that are no record; what stands before those is read."""
    _files: list[_EventFile] = field(default_factory=list["_EventFile"])
    _owners: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def offset(self) -> int:
        """Bytes read of all files together."""
        return sum(file.offset for file in self._files)

    @property
    def changed_at(self) -> float:
        """Unix time of the newest change of a file, as of the last look; 0 where there is none."""
        return max((file.changed_at for file in self._files), default=0.0)

    def skip_to_end(self, larger_than: int) -> list[MetricsLine]:
        """Where there is more than so much to read, pass it over: lines of evenly spaced samples of the newest file.

        `read_new` goes on behind them. Nothing is passed over where the newest file's end is no record. Raises OSError.
        """
        self._find_files()
        if sum(file.size for file in self._files) <= larger_than:
            return []
        number = max(place for place, file in enumerate(self._files) if not self._prefix(file))
        newest = self._files[number]
        last = max(0, newest.size - SAMPLE_BYTES)
        end, newest_scalars = _sample(newest, last)
        if end is None:
            return []
        starts = (last * sample // (SAMPLES - 1) for sample in range(SAMPLES - 1))
        scalars = [scalar for start in starts for scalar in _sample(newest, start)[1]] + newest_scalars
        for file in self._files:
            file.offset = file.size
        newest.offset = end
        return [line for batch in self._lay_over(number, newest, scalars) for line in batch.lines]

    def read_new(self, most_bytes: int | None = None) -> tuple[list[EventBatch], bool]:
        """Return (new lines file by file, restarted); `restarted`: a file was cut or replaced, and all comes anew.

        With `most_bytes`, about so much is read: call again until nothing comes. Raises OSError.
        """
        restarted = self._find_files()
        batches: list[EventBatch] = []
        left = most_bytes
        for number, file in enumerate(self._files):
            while file.offset < file.size and not file.broken and (left is None or left > 0):
                scalars, count = self._read_on(file)
                batches += self._lay_over(number, file, scalars)
                left = None if left is None else left - count
                if not count:
                    break
        return batches, restarted

    def _find_files(self) -> bool:
        """Take up new files; true when one of the known was cut or replaced, and all begin anew."""
        found = find_event_files(self.folder)
        if not found:  # the folder is away for a moment, or for good: what was read stays
            for file in self._files:
                file.size = file.offset
            return False
        known = {file.path: file for file in self._files}
        stats = {path: path.stat() for path in found}
        restarted = any(
            path not in stats or stats[path].st_ino != file.inode or stats[path].st_size < file.offset
            for path, file in known.items()
        )
        is_behind = [path for path in found if path not in known] != found[len(known) :]
        if restarted or is_behind:
            known, restarted = {}, bool(known)
            self._owners, self.bad_files = {}, 0
        self._files = [known.get(path) or _EventFile(path, stats[path].st_ino) for path in found]
        for file in self._files:
            file.size, file.changed_at = stats[file.path].st_size, stats[file.path].st_mtime
        return restarted

    def _read_on(self, file: _EventFile) -> tuple[list[Scalar], int]:
        """Scalars of the next whole records, and how many bytes these took; (nothing, 0) at the end."""
        scalars: list[Scalar] = []
        with file.path.open("rb") as opened:
            opened.seek(file.offset)
            data = opened.read(READ_BYTES)
            try:
                count = file.parser.parse(data, scalars)
                while not count and (more := opened.read(READ_BYTES)):  # a record longer than one read
                    data += more
                    count = file.parser.parse(data, scalars)
            except BrokenRecordError as error:
                count, file.broken = error.offset, True
                self.bad_files += 1
        file.offset += count
        return scalars, count

    def _lay_over(self, number: int, file: _EventFile, scalars: Sequence[Scalar]) -> list[EventBatch]:
        prefix = self._prefix(file)
        kept: list[Scalar] = []
        drop_from: int | None = None
        for step, time, tag, value in scalars:
            if tag.endswith(OTHER_AXES):
                continue
            name, factor = TAGS.get(tag, (tag, 1))
            owner = self._owners.setdefault(prefix + name, number)
            if owner > number:
                continue  # a newer file has this tag: the job before still writes
            if owner < number:
                self._owners[prefix + name] = number
                if not file.has_replaced:
                    file.has_replaced, drop_from = True, step
            kept.append((step, time, prefix + name, value * factor))
        return [EventBatch(lines_of_scalars(kept), drop_from)] if kept else []

    def _prefix(self, file: _EventFile) -> str:
        """Nothing for files of the first folder; the folder's name for others, whose tags may be the same."""
        first = self._files[0].path.parent
        return "" if file.path.parent == first else f"{file.path.parent.name}/"


def _sample(file: _EventFile, start: int) -> tuple[int | None, list[Scalar]]:
    """Where the last whole record near `start` ends, and the scalars up to there; None where there is no record."""
    with file.path.open("rb") as opened:
        opened.seek(start)
        data = opened.read(SAMPLE_BYTES)
    scalars: list[Scalar] = []
    first = find_record(data)
    if first is None:
        return None, scalars
    try:
        return start + first + file.parser.parse(data[first:], scalars), scalars
    except BrokenRecordError as error:
        return start + first + error.offset, scalars


def find_event_files(folder: Path) -> list[Path]:
    """Event files below a folder: folder by folder, in each in the order of their starts."""
    return sorted(folder.rglob(_FILES), key=lambda path: (path.parent, _started(path), path.name))


def lines_of_scalars(scalars: Iterable[Scalar]) -> list[MetricsLine]:
    """One line for neighbours of the same step, and one for its evaluation; `time` is the newest of theirs."""
    lines: list[MetricsLine] = []
    line: MetricsLine = {}
    is_evaluation = False
    for step, time, key, value in scalars:
        if line.get("step") != step or key in line or key.startswith("eval/") != is_evaluation:
            line = {"step": step, "time": time}
            is_evaluation = key.startswith("eval/")
            lines.append(line)
        line["time"] = time
        line[key] = value
    return lines


def read_event_lines(folder: Path) -> list[MetricsLine]:
    """All lines of the event files below a folder, those replaced by a later start left out; raises OSError."""
    lines: list[MetricsLine] = []
    for batch in EventReader(folder).read_new()[0]:
        if batch.drop_from is not None:
            first = batch.drop_from
            lines = [line for line in lines if (line.get("step") or 0) < first]
        lines += batch.lines
    return lines


def read_run_lines(folder: RunFolder) -> list[MetricsLine]:
    """All lines of a run's metrics.jsonl, or of its event files where other scripts have trained it; raises OSError."""
    if folder.metrics.exists():
        return read_metrics(folder.metrics)
    return read_event_lines(folder.event_files)


def _started(path: Path) -> int:
    found = _FILE_TIME.search(path.name)
    return int(found[1]) if found else int(os.stat(path).st_mtime)
