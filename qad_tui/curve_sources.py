"""Where a run's numbers come from: its metrics.jsonl, or the event files of a run that other scripts have trained.

They go on from where the last call stopped, and pour what they read into a CurveData.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from qad_core.run.events import EventReader, find_event_files
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsReader, sample_lines
from qad_core.seen import is_folder, is_there
from qad_tui.charts import NO_METRICS_YET
from qad_tui.curve_data import CurveData

SKETCHED_BYTES = 2**22
"""A larger file is sketched from samples before it is read whole."""


class CurveSource(Protocol):
    """Reads on."""

    name: str
    """What is read, for a sentence about why it cannot be."""

    def read_on(self, data: CurveData, most_bytes: int) -> bool:
        """Add about so many bytes' worth; false when nothing was new. Raises OSError."""
        ...

    def sketch(self) -> CurveData | None:
        """What all of it looks like, from samples; None when that cannot be had. Raises OSError."""
        ...

    def share_read(self) -> float:
        """Part of the bytes that has been read. Raises OSError."""
        ...

    def notes(self) -> tuple[str, ...]:
        """What could not be read, in a few words each."""
        ...

    def starts(self) -> tuple[float, ...]:
        """Steps at which a later start has gone on, where only this source knows."""
        ...


class MetricsSource:
    """metrics.jsonl."""

    name = "metrics.jsonl"

    def __init__(self, path: Path) -> None:
        self._reader = MetricsReader(path)

    def read_on(self, data: CurveData, most_bytes: int) -> bool:
        """Add new lines; a file that was cut or replaced is read anew."""
        before = self._reader.offset
        lines, restarted = self._reader.read_new(most_bytes)
        if restarted:
            data.clear()
        data.extend(lines)
        return restarted or self._reader.offset != before

    def sketch(self) -> CurveData | None:
        """Of a large file."""
        path = self._reader.path
        if not path.exists() or path.stat().st_size - self._reader.offset < SKETCHED_BYTES:
            return None
        data = CurveData()
        data.extend(sample_lines(path))
        return data

    def share_read(self) -> float:
        """Part of the file's bytes."""
        return self._reader.offset / max(1, self._reader.path.stat().st_size)

    def notes(self) -> tuple[str, ...]:
        """How many lines were left out."""
        count = self._reader.bad_lines
        return (f"⚠ {count} unreadable {'line' if count == 1 else 'lines'} left out",) if count else ()

    def starts(self) -> tuple[float, ...]:
        """The run's jobs say more."""
        return ()


class EventSource:
    """TensorBoard event files."""

    name = "The TensorBoard files"

    def __init__(self, folder: Path) -> None:
        self._reader = EventReader(folder)
        self._starts: tuple[float, ...] = ()

    def read_on(self, data: CurveData, most_bytes: int) -> bool:
        """Add new records; a later start replaces what it did again."""
        before = self._reader.offset
        batches, restarted = self._reader.read_new(most_bytes)
        if restarted:
            data.clear()
            self._starts = ()
        for batch in batches:
            if batch.drop_from is not None:
                first = batch.drop_from
                data.drop_from(first)
                self._starts = (*(start for start in self._starts if start < first), first)
            data.extend(batch.lines)
        return restarted or self._reader.offset != before

    def sketch(self) -> CurveData | None:
        """Not made: what has come so far is shown while the rest is read."""
        return None

    def share_read(self) -> float:
        """Part of all files' bytes."""
        sizes = sum(path.stat().st_size for path in find_event_files(self._reader.folder))
        return self._reader.offset / max(1, sizes)

    def notes(self) -> tuple[str, ...]:
        """How many files end in bytes that are no record."""
        count = self._reader.bad_files
        return (f"⚠ {count} event {'file' if count == 1 else 'files'} broken, read up to there",) if count else ()

    def starts(self) -> tuple[float, ...]:
        """Steps at which a newer file has taken over."""
        return self._starts


def find_source(path: Path) -> CurveSource | None:
    """What there is to read of the run in a folder; None when there is nothing yet. Raises OSError."""
    folder = RunFolder(path)
    if folder.metrics.exists():
        return MetricsSource(folder.metrics)
    tensorboard = path / "tensorboard"
    return EventSource(tensorboard) if tensorboard.is_dir() and find_event_files(tensorboard) else None


def words_of_no_metrics(path: Path) -> str:
    """Why a run has no curve."""
    if is_folder(path / "tensorboard") and not is_there(path / "config.yaml"):
        return "No metrics yet: there is no metrics.jsonl, and no event file below tensorboard/."
    return NO_METRICS_YET
