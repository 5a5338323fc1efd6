"""What is kept of a run's numbers: newest lines, evaluations, a small picture of the loss, the health.

Owns what is kept and that it is bounded: each read costs what has been written since, whatever came before. The
numbers come from metrics.jsonl, or from the event files of a run that other scripts have trained.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from qad_core.run.events import EventReader
from qad_core.run.health import Finding, HealthWatch
from qad_core.run.health_rules import loss_of
from qad_core.run.history import ThinnedHistory
from qad_core.run.metrics import MetricsLine, MetricsReader, is_evaluation
from qad_core.run.progress import merge_evaluations

RECENT_STEPS = 50
"""Steps whose times make the ETA."""
LOSS_SPANS = 24
"""Means that the loss of a run is kept in, for a small picture of it; up to twice as many."""
WHOLE_BYTES = 2**22
"""Event files that are larger together are not read from their beginning: a fleet of them would take minutes."""


class Digest:
    """The numbers of one run as far as they have been read."""

    def __init__(self) -> None:
        self.last_training: MetricsLine | None = None
        """Newest training line."""
        self.evaluations: list[MetricsLine] = []
        """By step."""
        self.step_ms: deque[float] = deque(maxlen=RECENT_STEPS)
        """Times of the latest steps in milliseconds."""
        self.loss_history: tuple[float, ...] = ()
        """The training loss so far, as means of equal spans of steps."""
        self.findings: tuple[Finding, ...] = ()
        """What the health rules say."""
        self._losses = ThinnedHistory(LOSS_SPANS)
        self._health = HealthWatch()

    @property
    def bad_lines(self) -> int:
        """Lines that could not be read."""
        return 0

    @property
    def longest_pause(self) -> float:
        """Seconds: the longest time from one step to the next so far."""
        return self._health.longest_pause

    def _keep(self, lines: Sequence[MetricsLine]) -> None:
        self.evaluations = merge_evaluations(self.evaluations, [line for line in lines if is_evaluation(line)])
        for line in lines:
            if not is_evaluation(line):
                self._keep_step(line)
        self._health.extend(lines)
        self.findings, self.loss_history = self._health.findings(), self._losses.means()

    def _keep_step(self, line: MetricsLine) -> None:
        self.last_training = line
        self.step_ms.append(line.get("step_ms") or 0.0)
        if (loss := loss_of(line)) is not None:
            self._losses.append(loss)

    def _forget(self) -> None:
        """What was read was cut or replaced, and is read anew."""
        self.last_training, self.evaluations, self._health = None, [], HealthWatch()
        self.step_ms.clear()
        self._losses.clear()


class MetricsDigest(Digest):
    """Of one metrics.jsonl."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._reader = MetricsReader(path)

    @property
    def bad_lines(self) -> int:
        """Lines that could not be read."""
        return self._reader.bad_lines

    def read_on(self) -> None:
        """Take what is new in the file; raises OSError where it cannot be read."""
        lines, restarted = self._reader.read_new()
        if restarted:
            self._forget()
        if lines or restarted:
            self._keep(lines)


class EventDigest(Digest):
    """Of the event files below a folder; of large ones the newest file, and of its past evenly spaced samples."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._reader = EventReader(folder)
        self._has_begun = False

    @property
    def changed_at(self) -> float:
        """Unix time of the newest change of a file; 0 where there is none."""
        return self._reader.changed_at

    def read_on(self) -> None:
        """Take what is new in the files; raises OSError where they cannot be read."""
        if not self._has_begun:
            self._keep_steps(self._reader.skip_to_end(WHOLE_BYTES))
            self._has_begun = True
        batches, restarted = self._reader.read_new()
        if restarted:
            self._forget()
        for batch in batches:
            if batch.drop_from is not None:
                first = batch.drop_from
                self.evaluations = [line for line in self.evaluations if (line.get("step") or 0) < first]
            self._keep([self._with_first_half(batch.lines[0]), *batch.lines[1:]])

    def _keep_steps(self, samples: Iterable[MetricsLine]) -> None:
        """Evaluations are rare: the newest that a sample holds need not be the newest."""
        self._keep([line for line in samples if not is_evaluation(line)])

    def _keep_step(self, line: MetricsLine) -> None:
        known = self.last_training
        super()._keep_step(line)
        if known is not None and known.get("step") == line.get("step"):
            self.last_training = {**known, **line}  # the rest of a step that was half written

    def _with_first_half(self, line: MetricsLine) -> MetricsLine:
        """An evaluation with what an earlier read had of it."""
        known = self.evaluations[-1] if self.evaluations else {}
        return {**known, **line} if is_evaluation(line) and known.get("step") == line.get("step") else line
