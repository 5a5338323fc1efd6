"""What is to be seen of one run: summary, loss curve and log, read on from where the last look stopped.

Owns the readers of one run folder. It runs in a worker thread, returns frozen values, and knows
nothing of Textual.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import TypeVar

from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsReader
from qad_core.run.store import RunStore, RunSummary, is_run_folder, log_files
from qad_tui.curve_data import Curve, CurveData
from qad_tui.log_tail import LogTail, LogWindow

Value = TypeVar("Value")


@dataclass(frozen=True)
class RunDetail:
    """One run at one moment, ready to be drawn."""

    path: Path
    summary: RunSummary | None = None
    """The last known summary; None until the first one could be read."""
    curve: Curve = field(default_factory=Curve)
    log: LogWindow | None = None
    """End of the newest log; None when the run has none yet."""
    gone: bool = False
    """Whether the folder vanished; everything else is as last seen."""
    problems: tuple[str, ...] = ()
    """One sentence for each file that could not be read."""


class RunFollower:
    """Reads one run folder on; `last` is what the newest read found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: RunDetail | None = None
        self._folder = RunFolder(path)
        self._store = RunStore([])
        self._metrics = MetricsReader(self._folder.metrics)
        self._curve_data = CurveData()
        self._log_tail: LogTail | None = None
        self._lock = Lock()

    def read(self, columns: int, *, older_log: bool = False) -> RunDetail | None:
        """Read what is new, for a chart `columns` cells wide; None when another thread is at it."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            self.last = self._read(columns, older_log=older_log)
            return self.last
        finally:
            self._lock.release()

    def _read(self, columns: int, *, older_log: bool) -> RunDetail:
        before = self.last or RunDetail(self.path)
        if not is_run_folder(self.path):
            return replace(before, gone=True, problems=())
        problems: list[str] = []
        summary = _attempt("status", lambda: self._store.summarize(self.path), before.summary, problems)
        _attempt("metrics.jsonl", self._read_metrics, None, problems)
        log = _attempt("log", lambda: self._read_log(older=older_log), before.log, problems)
        curve = self._curve_data.curve(columns)
        return RunDetail(self.path, summary, curve, log, problems=tuple(problems))

    def _read_metrics(self) -> None:
        lines, restarted = self._metrics.read_new()
        if restarted:
            self._curve_data.clear()
        self._curve_data.extend(lines)

    def _read_log(self, *, older: bool) -> LogWindow | None:
        logs = log_files(self._folder, rank=0) or log_files(self._folder)
        if not logs:
            return None
        if self._log_tail is None or self._log_tail.path != logs[-1]:
            self._log_tail = LogTail(logs[-1])
        return self._log_tail.read_older() if older else self._log_tail.poll()


class RunFollowers:
    """The followers of the runs that were looked at lately, so that going back to one shows it at once."""

    def __init__(self, capacity: int = 8) -> None:
        self._capacity = capacity
        self._followers: OrderedDict[Path, RunFollower] = OrderedDict()

    def get(self, path: Path) -> RunFollower:
        """The follower of a run, made when it is not there; the one unused for longest is let go."""
        follower = self._followers.setdefault(path, RunFollower(path))
        self._followers.move_to_end(path)
        while len(self._followers) > self._capacity:
            self._followers.popitem(last=False)
        return follower


def _attempt(what: str, read: Callable[[], Value], otherwise: Value, problems: list[str]) -> Value:
    try:
        return read()
    except OSError as error:
        problems.append(f"{what} cannot be read: {error.strerror}")
        return otherwise
