"""The runs under the roots, and what changed since the last look.

Owns the known set of runs. It polls run folders through `qad_core.run.store` and returns differences;
it runs in a worker thread and knows nothing of Textual. SLURM jobs will be merged in here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.run.store import RunStore, RunSummary, find_run_paths


@dataclass(frozen=True)
class RunsDifference:
    """What one poll found, against the poll before."""

    added: tuple[RunSummary, ...] = ()
    changed: tuple[RunSummary, ...] = ()
    removed: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()
    """One sentence for each root or run that could not be read; what was known of it stays."""
    polled_at: float = 0.0
    """Unix time at the end of the poll."""


class RunsModel:
    """Every run under the roots, as of the last poll; one thread at a time calls it."""

    def __init__(self, roots: Sequence[Path], *, clock: Callable[[], float] = time.time) -> None:
        self.roots = tuple(roots)
        self._clock = clock
        self._store = RunStore([])
        self._known: dict[Path, RunSummary] = {}

    def poll(self) -> RunsDifference:
        """Look at all roots and return the difference to the last poll."""
        found: dict[Path, RunSummary] = {}
        problems: list[str] = []
        for root in self.roots:
            if (problem := _problem_of(root)) is not None:
                problems.append(problem)
                found |= {path: run for path, run in self._known.items() if path.is_relative_to(root)}
                continue
            for path in find_run_paths([root]):
                self._summarize(path, found, problems)
        return self._replace_known(found, problems)

    def _summarize(self, path: Path, found: dict[Path, RunSummary], problems: list[str]) -> None:
        try:
            found[path] = self._store.summarize(path)
        except OSError as error:
            problems.append(f"{path.name}: {error.strerror}")
            if path in self._known:
                found[path] = self._known[path]

    def _replace_known(self, found: dict[Path, RunSummary], problems: Sequence[str]) -> RunsDifference:
        known, self._known = self._known, found
        return RunsDifference(
            added=tuple(run for path, run in found.items() if path not in known),
            changed=tuple(run for path, run in found.items() if path in known and run != known[path]),
            removed=tuple(path for path in known if path not in found),
            problems=tuple(problems),
            polled_at=self._clock(),
        )


def _problem_of(root: Path) -> str | None:
    """Why the runs below a root cannot be listed, or None; a root that is not there has no runs and no problem."""
    try:
        with os.scandir(root):
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{root}: {error.strerror}"
