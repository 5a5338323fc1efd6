"""What each run is doing, from its files and the processes of this machine.

Which folders are runs is `run_paths.py`'s, what their state is called `state.py`'s. It only reads; a `RunStore` that
is kept reads each metrics file, or the event files of other scripts, on from where it stopped, so that a refresh
costs what has been written since.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qad_core.run.folder import RunFolder
from qad_core.run.health import Finding, find_stall
from qad_core.run.health_rules import loss_of
from qad_core.run.jobs import read_jobs, was_cancelled
from qad_core.run.metrics import MetricsLine
from qad_core.run.metrics_digest import Digest, EventDigest, MetricsDigest
from qad_core.run.progress import eta_seconds, recovered_fraction
from qad_core.run.run_paths import find_run_paths, is_ours
from qad_core.run.state import State, describe, run_state, writer_lives
from qad_core.run.status import Status, read_status


@dataclass(frozen=True)
class RunSummary:
    """One run folder at one moment."""

    path: Path
    state: State
    status: Status | None
    """Null when the run has written none."""
    alive: bool
    """Whether the writer of the status lives: its process here, or a recent update elsewhere."""
    last_training: MetricsLine | None
    """Newest training line of metrics.jsonl or of the event files."""
    evaluations: tuple[MetricsLine, ...]
    """Evaluation lines by step; the one at step 0 is plain post-training quantization."""
    recent_step_ms: tuple[float, ...]
    """Times of the latest steps in milliseconds."""
    bad_lines: int
    """Lines of metrics.jsonl that could not be read."""
    updated: float
    """Unix time of the newest change of status, metrics or event files; 0 when there are none."""
    loss_history: tuple[float, ...] = ()
    """The training loss so far, as means of equal spans of steps."""
    findings: tuple[Finding, ...] = ()
    """What the health rules find in the metrics alone; `health` has the stall as well."""
    longest_pause: float = 0.0
    """Seconds: the longest time from one step to the next so far."""
    cancelled: bool = False
    """Whether it stands still because the user has cancelled it."""

    @property
    def name(self) -> str:
        """The run's name, which is its folder's."""
        return self.path.name

    @property
    def folder(self) -> RunFolder:
        """File names of the run."""
        return RunFolder(self.path)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        from_metrics = self.last_training.get("step") if self.last_training else None
        return int(from_metrics or 0) if self.status is None else self.status.step

    @property
    def train_iterations(self) -> int:
        """Optimizer steps in all; 0 when unknown."""
        return self.status.train_iterations if self.status else 0

    @property
    def loss(self) -> float | None:
        """Newest training loss: KL to the teacher, or cross-entropy of a QAT run."""
        return None if self.last_training is None else loss_of(self.last_training)

    @property
    def tokens_per_s(self) -> float | None:
        """Newest training speed."""
        return self.last_training.get("tokens_per_s") if self.last_training else None

    @property
    def first_kl(self) -> float | None:
        """KL to the teacher of plain post-training quantization (step 0)."""
        first = self.evaluations[0] if self.evaluations else None
        return first.get("eval/kl") if first and first.get("step") == 0 else None

    @property
    def last_kl(self) -> float | None:
        """Newest KL to the teacher."""
        return self.evaluations[-1].get("eval/kl") if self.evaluations else None

    @property
    def recovered(self) -> float | None:
        """Share of the KL gap won back so far."""
        return recovered_fraction(self.evaluations)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds left while it runs, else None."""
        return eta_seconds(self.step, self.train_iterations, self.recent_step_ms) if self.state == "running" else None

    def health(self, now: float) -> tuple[Finding, ...]:
        """What the health rules find as of Unix time `now`, the worst first."""
        if self.state != "running" or self.status is None or self.last_training is None:
            return self.findings
        last_step_time = self.last_training.get("time")
        stall = find_stall(self.status, last_step_time, self.recent_step_ms, self.longest_pause, now)
        return self.findings if stall is None else (stall, *self.findings)

    @property
    def words(self) -> str:
        """The state and its circumstance, as a person would say it."""
        return describe(self.state, self.status, cancelled=self.cancelled)


class Stamp(NamedTuple):
    """What tells one content of a file from the next."""

    modified: float = 0.0
    """Unix time; 0 for a file that is not there."""
    size: int = 0
    inode: int = 0
    modified_ns: int = 0


_NO_FILE = Stamp()


@dataclass
class _Seen:
    """A run as it was seen last."""

    digest: MetricsDigest
    files: tuple[Path, Path]
    """Its status.json and its metrics.jsonl."""
    stamps: tuple[Stamp, Stamp] | None = None
    """Those of the files when they were read last."""
    summary: RunSummary | None = None
    events: EventDigest | None = None
    """Of a run of other scripts."""


class RunStore:
    """The runs below some roots, summarized anew at each `refresh`."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._seen: dict[Path, _Seen] = {}

    def refresh(self) -> list[RunSummary]:
        """Summaries of all runs, the latest changed first; a root that is not there has none."""
        paths = list(find_run_paths(self.roots))
        self._seen = {path: seen for path, seen in self._seen.items() if path in paths}
        summaries = [self.summarize(path) for path in paths]
        return sorted(summaries, key=lambda run: (-run.updated, run.name))

    def forget(self, paths: Iterable[Path]) -> None:
        """Let go of what was read of these runs."""
        for path in paths:
            self._seen.pop(path, None)

    def summarize(self, path: Path) -> RunSummary:
        """The run in one folder, reading its metrics on from the last time; the same object while nothing changes.

        Raises OSError where its metrics cannot be read.
        """
        seen = self._seen.get(path) or self._see(path)
        stamps = (_stamp_of(seen.files[0]), _stamp_of(seen.files[1]))
        if stamps == (_NO_FILE, _NO_FILE) and not is_ours(RunFolder(path)):
            return _summarize_foreign(path, seen)
        known = seen.summary if stamps == seen.stamps else None
        if known is not None and known.status is not None:
            # Without a new status, one that lived may have ended since, and one that had ended lives no more.
            if not known.alive or writer_lives(known.status):
                return known
        status = known.status if known is not None else read_status(seen.files[0])
        if known is None:
            seen.digest.read_on()
        updated = max(stamp.modified for stamp in stamps)
        seen.summary, seen.stamps = _summary(path, status, seen.digest, updated), stamps
        return seen.summary

    def _see(self, path: Path) -> _Seen:
        folder = RunFolder(path)
        return self._seen.setdefault(path, _Seen(MetricsDigest(folder.metrics), (folder.status, folder.metrics)))


def _summarize_foreign(path: Path, seen: _Seen) -> RunSummary:
    """A run of other scripts by its event files; the same object while nothing changes."""
    seen.events = seen.events or EventDigest(RunFolder(path).event_files)
    seen.events.read_on()
    summary = _summary(path, None, seen.events, seen.events.changed_at)
    if summary != seen.summary:
        seen.summary, seen.stamps = summary, None
    return seen.summary or summary


def _summary(path: Path, status: Status | None, digest: Digest, updated: float) -> RunSummary:
    alive = status is not None and writer_lives(status)
    state = run_state(RunFolder(path), status, alive=alive)
    return RunSummary(
        path=path,
        state=state,
        status=status,
        alive=alive,
        last_training=digest.last_training,
        evaluations=tuple(digest.evaluations),
        recent_step_ms=tuple(digest.step_ms),
        bad_lines=digest.bad_lines,
        updated=updated,
        loss_history=digest.loss_history,
        findings=digest.findings,
        longest_pause=digest.longest_pause,
        cancelled=state in ("stopped", "killed") and was_cancelled(read_jobs(RunFolder(path).jobs)),
    )


def find_runs(roots: Sequence[Path]) -> list[RunSummary]:
    """Summaries of all runs below the roots (or that are roots), the latest changed first."""
    return RunStore(roots).refresh()


def summarize_run(path: Path) -> RunSummary:
    """The run in one folder."""
    return RunStore([]).summarize(path)


def _stamp_of(path: Path) -> Stamp:
    try:
        stat = os.stat(path)
    except (FileNotFoundError, PermissionError):
        return _NO_FILE
    return Stamp(stat.st_mtime, stat.st_size, stat.st_ino, stat.st_mtime_ns)
