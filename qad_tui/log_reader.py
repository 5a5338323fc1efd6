"""The logs of one run, one of them open at a time: which there are, which is shown, and what is read of it.

Worker threads call it; it knows nothing of Textual. The window itself is `log_tail.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job
from qad_core.run.log_search import Found, Matcher, search_log
from qad_core.run.log_sources import Kind, LogSource, list_logs, newest_log
from qad_tui.log_tail import LogTail
from qad_tui.log_window import LogWindow

LIST_SECONDS = 5.0
"""The folder of logs is listed again after so long, or as soon as a file has come or gone."""


@dataclass(frozen=True)
class LogChoice:
    """Which log a person wants to see."""

    kind: Kind = "rank"
    rank: int = 0
    path: Path | None = None
    """This very file; None for the newest start's, now and later."""


@dataclass(frozen=True)
class LogState:
    """What is known of a run's logs at one moment."""

    window: LogWindow | None = None
    """None when the run has no log."""
    source: LogSource | None = None
    """Whose log it is."""
    sources: tuple[LogSource, ...] = ()
    """All logs of the run, as of the last listing."""


class LogReader:
    """Reads the chosen log of a run; `last` is what the newest read found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = LogState()
        self.choice = LogChoice()
        self._tail: LogTail | None = None
        self._sources: tuple[LogSource, ...] = ()
        self._listed: tuple[float, int, int] = (-LIST_SECONDS, 0, 0)
        self._lock = Lock()

    def poll(self, jobs: Sequence[Job], *, following: bool) -> LogState | None:
        """What is there after reading what is new; None while another thread reads."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._read(jobs, lambda tail: tail.poll(following=following))
        finally:
            self._lock.release()

    def open_chosen(self, jobs: Sequence[Job]) -> LogState:
        """What is there after another choice; this and all below wait for other threads."""
        with self._lock:
            return self._read(jobs, LogTail.poll)

    def read_older(self) -> LogState:
        """What is there after reading towards the beginning."""
        return self._move(LogTail.read_older)

    def read_newer(self) -> LogState:
        """What is there after reading towards the end."""
        return self._move(LogTail.read_newer)

    def go_to(self, offset: int) -> LogState:
        """What is there around the line that holds the byte at an offset; nothing is read when it is in memory."""
        lines = self.last.window.lines if self.last.window else ()
        if lines and lines[0].offset <= offset <= lines[-1].offset:
            return self.last
        return self._move(lambda tail: tail.go_to(offset))

    def go_to_share(self, share: float) -> LogState:
        """What is there at a share of the file: 0 its beginning, 1 its end."""
        if share == 1:
            return self._move(LogTail.go_to_end)
        return self.go_to(round(share * (self.last.window.size if self.last.window else 0)))

    def list_again(self, jobs: Sequence[Job]) -> LogState:
        """List the logs anew, with their sizes and ages as of now."""
        with self._lock:
            self._listed = (-LIST_SECONDS, 0, 0)
            return self._read(jobs, lambda tail: tail.window)

    def search(self, matcher: Matcher, start: int, *, forward: bool, watch: Callable[[float], bool]) -> Found | str:
        """The nearest line that matches in the open log (`search_log`), or why it cannot be read."""
        tail = self._tail
        if tail is None:
            return Found(None)
        try:
            return search_log(tail.path, matcher, start, forward=forward, watch=watch)
        except OSError as error:
            return _reason(error)

    def _move(self, step: Callable[[LogTail], LogWindow]) -> LogState:
        with self._lock:
            if self._tail is not None:
                self.last = replace(self.last, window=_window_after(self._tail, step))
            return self.last

    def _read(self, jobs: Sequence[Job], step: Callable[[LogTail], LogWindow]) -> LogState:
        try:
            self._list(jobs)
        except OSError as error:
            window = replace(self.last.window or LogWindow(RunFolder(self.path).logs), problem=_reason(error))
            self.last = replace(self.last, window=window)
            return self.last
        source = self._chosen()
        if source is None:
            self.last = LogState(replace(self.last.window, exists=False) if self.last.window else None)
            return self.last
        if self._tail is None or self._tail.path != source.path:
            self._tail = LogTail(source.path)
            step = LogTail.poll
        self.last = LogState(_window_after(self._tail, step), source, self._sources)
        return self.last

    def _list(self, jobs: Sequence[Job]) -> None:
        now = time.monotonic()
        stamp = _folder_stamp(RunFolder(self.path).logs)
        if now - self._listed[0] >= LIST_SECONDS or (stamp, len(jobs)) != self._listed[1:]:
            self._sources = tuple(list_logs(RunFolder(self.path), jobs))
            self._listed = (now, stamp, len(jobs))

    def _chosen(self) -> LogSource | None:
        wanted = self.choice.path
        if wanted is None:
            return newest_log(self._sources, self.choice.kind, self.choice.rank)
        found = next((source for source in self._sources if source.path == wanted), None)
        return found or LogSource(wanted, self.choice.kind, self.choice.rank)


def choice_of(source: LogSource, sources: Sequence[LogSource]) -> LogChoice:
    """The choice of one log among all: of the newest start's it goes along to later starts."""
    is_newest = newest_log(sources, source.kind, source.rank) == source
    return LogChoice(source.kind, source.rank, None if is_newest else source.path)


def neighbour(state: LogState, distance: int) -> LogSource | None:
    """The log so many places further among those of the same start, around the end."""
    source = state.source
    if source is None:
        return None
    there = [one for one in state.sources if one.start == source.start and one.size is not None]
    paths = [one.path for one in there]
    if source.path not in paths or len(there) < 2:
        return None
    return there[(paths.index(source.path) + distance) % len(there)]


def _window_after(tail: LogTail, step: Callable[[LogTail], LogWindow]) -> LogWindow:
    try:
        return step(tail)
    except OSError as error:
        return replace(tail.window, exists=True, problem=_reason(error))


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _folder_stamp(folder: Path) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return 0
