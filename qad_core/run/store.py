"""Finds run folders and says what each run is doing, from its files and the processes of this machine.

Owns the state in plain words. It only reads; a `RunStore` that is kept reads each metrics file, or the event files
of other scripts, on from where it stopped, so that a refresh costs what has been written since.
"""

from __future__ import annotations

import difflib
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from qad_core.errors import RunError
from qad_core.run.folder import RunFolder
from qad_core.run.health import Finding, find_stall
from qad_core.run.health_rules import loss_of
from qad_core.run.metrics import MetricsLine
from qad_core.run.metrics_digest import Digest, EventDigest, MetricsDigest
from qad_core.run.progress import eta_seconds, recovered_fraction
from qad_core.run.redact import shorten
from qad_core.run.status import Status, read_status

State = Literal["running", "done", "stopped", "failed", "killed", "never started", "foreign"]
"""`stopped` can be resumed; `killed` wrote no end and its process is gone; `foreign` is a folder of older scripts."""

SILENCE_SECONDS = 300.0
"""A run on another machine counts as alive for so long after its last update."""
CLOCK_SLACK_SECONDS = 2.0
LONGEST_ERROR = 600
"""Characters of an error beside a state."""
RANK_SUFFIX = re.compile(r"_rank(\d+)$")


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
        return describe(self.state, self.status)


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
        if stamps == (_NO_FILE, _NO_FILE) and not _is_ours(RunFolder(path)):
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
    return RunSummary(
        path=path,
        state=run_state(RunFolder(path), status, alive=alive),
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
    )


def find_runs(roots: Sequence[Path]) -> list[RunSummary]:
    """Summaries of all runs below the roots (or that are roots), the latest changed first."""
    return RunStore(roots).refresh()


def summarize_run(path: Path) -> RunSummary:
    """The run in one folder."""
    return RunStore([]).summarize(path)


def resolve_run(name_or_path: str, roots: Sequence[Path]) -> Path:
    """Folder of the run of this path, or else of this name below a root.

    Raises RunError with the nearest names when there is none.
    """
    path = Path(name_or_path)
    if is_run_folder(path):
        return path
    known = {found.name: found for found in reversed(list(find_run_paths(roots)))}
    if name_or_path in known:
        return known[name_or_path]
    places = ", ".join(str(root) for root in roots) or "no folder"
    near = difflib.get_close_matches(name_or_path, known, n=3, cutoff=0.4)
    hint = f"Nearest: {', '.join(near)}." if near else f"Runs here: {', '.join(sorted(known)) or 'none'}."
    raise RunError(f"There is no run {name_or_path!r} in {places}.", hint)


def find_run_paths(roots: Sequence[Path]) -> Iterator[Path]:
    """Run folders among the roots and their direct children, each once.

    Raises RunError for a root that may not be read; a root that is not there has no runs.
    """
    found: set[Path] = set()
    for root in roots:
        for path in (root, *_children(root)):
            if path.absolute() not in found and is_run_folder(path):
                found.add(path.absolute())
                yield path


def is_run_folder(path: Path) -> bool:
    """Whether a folder holds a run of ours, or one of the scripts that this product replaces."""
    folder = RunFolder(path)
    return _is_ours(folder) or _is_foreign(folder)


def run_state(folder: RunFolder, status: Status | None, *, alive: bool) -> State:
    """The state of a run from its last status and whether its writer lives."""
    if status is None:
        return "never started" if _is_ours(folder) else "foreign"
    if status.phase in ("done", "stopped", "failed"):
        return status.phase
    return "running" if alive else "killed"


def describe(state: State, status: Status | None) -> str:
    """The state and its circumstance in a few words."""
    if status is None:
        return "made by other scripts" if state == "foreign" else state
    at = f"at step {status.step} of {status.train_iterations}"
    if state == "running":
        return status.phase if status.phase == "training" else f"{status.phase}, {at}"
    if state == "stopped":
        return f"stopped {at}{f' by {status.reason}' if status.reason else ''}, can be resumed"
    if state == "failed":
        return f"failed {at}: {shorten(status.error, LONGEST_ERROR)}" if status.error else f"failed {at}"
    if state == "killed":
        return f"killed while {status.phase} {at}, can be resumed"
    return state


def writer_lives(status: Status, *, now: float | None = None) -> bool:
    """Whether the process that wrote a status still lives, or wrote a short while ago on another machine."""
    if status.host != socket.gethostname():
        return (now if now is not None else time.time()) - status.updated < SILENCE_SECONDS
    return process_lives(status.pid, before=status.updated)


def process_lives(pid: int, *, before: float) -> bool:
    """Whether process `pid`, started before a Unix time, runs here; a later process of that number is another."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < before + CLOCK_SLACK_SECONDS
    except (psutil.NoSuchProcess, ValueError):
        return False


def log_files(folder: RunFolder, *, rank: int | None = None) -> list[Path]:
    """Logs for people, oldest first; of one rank when given. The record of the environment is none."""
    logs = [path for path in folder.logs.glob("*.log") if not path.name.endswith(".env.log")]
    chosen = [path for path in logs if rank is None or rank_of_log(path) == rank]
    return sorted(chosen, key=lambda path: (_modified(path), path.name))


def rank_of_log(path: Path) -> int:
    """Rank of a log: `..._rank3.log` is 3, a name without it 0."""
    match = RANK_SUFFIX.search(path.stem)
    return int(match.group(1)) if match else 0


def _is_ours(folder: RunFolder) -> bool:
    return any(path.is_file() for path in (folder.config, folder.status, folder.metrics, folder.identity))


def _is_foreign(folder: RunFolder) -> bool:
    return (folder.path / "checkpoints").is_dir() and folder.event_files.is_dir()


def _children(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise RunError(f"The folder {root} may not be read.", "Ask its owner, or name another root.") from error


def _stamp_of(path: Path) -> Stamp:
    try:
        stat = os.stat(path)
    except (FileNotFoundError, PermissionError):
        return _NO_FILE
    return Stamp(stat.st_mtime, stat.st_size, stat.st_ino, stat.st_mtime_ns)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except (FileNotFoundError, PermissionError):
        return 0.0
