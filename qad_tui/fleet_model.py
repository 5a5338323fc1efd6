"""The known set of runs under the roots, as of the last look.

It reads run folders through `qad_core.run.store` in a worker thread, lays SLURM's last answers beside them, and knows
nothing of Textual. A row that has not changed is the same object as before, so that a table needs to look at the
others only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qad_core.run.jobs import Job
from qad_core.run.run_paths import is_run_folder
from qad_core.run.store import RunStore, RunSummary
from qad_core.slurm.answers import NOT_ASKED_YET, NOTHING_ASKED, SlurmAnswers
from qad_core.slurm.views import jobs_of, view_run
from qad_tui.fleet import Fleet, RunRow

MOST_MISSES = 3
"""A folder that is missing in so many looks in a row is gone: on a network disk one miss can be an error."""


@dataclass
class _Starts:
    """A jobs.jsonl as it was read last."""

    path: Path
    stamp: tuple[int, int] = (-1, -1)
    jobs: tuple[Job, ...] = ()


class FleetModel:
    """Every run under the roots, as of the last `look`; one thread at a time calls it."""

    def __init__(self, roots: Sequence[Path], *, clock: Callable[[], float] = time.time) -> None:
        self.roots = tuple(roots)
        self._clock = clock
        self._store = RunStore([])
        self._starts: dict[Path, _Starts] = {}
        self._rows: dict[Path, RunRow] = {}
        self._misses: dict[Path, int] = {}
        self._listed: set[Path] = set()

    def look(self, answers: SlurmAnswers = NOTHING_ASKED) -> Fleet:
        """Read on in every run folder and lay `answers` beside them."""
        found: dict[Path, RunRow] = {}
        problems: list[str] = []
        unread: dict[Path, str] = {}
        for root in self.roots:
            for path in self._list(root, found, problems):
                if path not in found:
                    self._look_at(path, answers, found, unread)
        self._keep_missing(found)
        self._starts = {path: starts for path, starts in self._starts.items() if path in found}
        self._store.forget(path for path in self._rows if path not in found)
        self._rows = found
        problems += [f"{path.name}: {why}" for path, why in unread.items()]
        return Fleet(found, tuple(problems), self._clock(), unread)

    def slurm_jobs(self) -> list[Job]:
        """SLURM links of all runs, as of the last look."""
        starts = list(self._starts.values())
        return [job for start in starts for job in start.jobs if job.kind == "slurm"]

    def _list(self, root: Path, found: dict[Path, RunRow], problems: list[str]) -> list[Path]:
        """Folders that may be runs; where they cannot be listed, what was known of them counts as found."""
        try:
            folders = [root, *_folders_in(root)]
        except FileNotFoundError:
            if root in self._listed:
                problems.append(f"{root} is not there any more")
            return []  # a root that is not there has no runs
        except OSError as error:
            problems.append(f"{root}: {error.strerror}; what was known of its runs stays")
            found |= {path: row for path, row in self._rows.items() if path.is_relative_to(root)}
            return []
        self._listed.add(root)
        return folders

    def _look_at(self, path: Path, answers: SlurmAnswers, found: dict[Path, RunRow], unread: dict[Path, str]) -> None:
        known = self._rows.get(path)
        try:
            if known is None and not is_run_folder(path):
                return
            run = self._store.summarize(path)
            if not run.updated and not is_run_folder(path):  # it had been one
                return
            jobs = self._jobs_of(run)
            if known is not None and _is_final(known, run, jobs):
                found[path] = known
                return
            row = self._make_row(run, jobs, answers)
        except OSError as error:
            unread[path] = error.strerror or str(error)
            if known is not None:
                found[path] = known
            return
        self._misses.pop(path, None)
        found[path] = known if known is not None and known == row else row

    def _make_row(self, run: RunSummary, jobs: Sequence[Job], answers: SlurmAnswers) -> RunRow:
        now = self._clock()
        return RunRow(view_run(run, jobs, answers, now), run.health(now), asking=answers is NOT_ASKED_YET)

    def _keep_missing(self, found: dict[Path, RunRow]) -> None:
        """Rows whose folders are not there stay for some looks, called gone."""
        for path, row in self._rows.items():
            if path in found:
                continue
            misses = self._misses[path] = self._misses.get(path, 0) + 1
            if misses < MOST_MISSES:
                found[path] = row if row.gone else replace(row, gone=True)
            else:
                del self._misses[path]

    def _jobs_of(self, run: RunSummary) -> tuple[Job, ...]:
        starts = self._starts.get(run.path) or self._starts.setdefault(run.path, _Starts(run.folder.jobs))
        stamp = _stamp_of(starts.path)
        if stamp != starts.stamp:
            starts.jobs = jobs_of(run)
            starts.stamp = stamp
        return starts.jobs


def _is_final(known: RunRow, run: RunSummary, jobs: tuple[Job, ...]) -> bool:
    """Whether a row says the same whatever the time and SLURM say: nothing lives, and no link asks for an answer."""
    unchanged = known.run is run and known.view.jobs is jobs and not known.gone
    return unchanged and run.state != "running" and not known.view.links


def _folders_in(root: Path) -> Iterator[Path]:
    """Folders below a root by name; raises OSError where it cannot be listed."""
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    return (root / name for name in names)


def _stamp_of(path: Path) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)
