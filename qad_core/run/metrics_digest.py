"""What is kept of a run's metrics.jsonl: newest lines, evaluations, a small picture of the loss, the health.

Owns what is kept and that it is bounded: each read costs what has been written since, whatever came before.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from qad_core.run.health import Finding, HealthWatch
from qad_core.run.health_rules import loss_of
from qad_core.run.history import ThinnedHistory
from qad_core.run.metrics import MetricsLine, MetricsReader, is_evaluation
from qad_core.run.progress import merge_evaluations

RECENT_STEPS = 50
"""Steps whose times make the ETA."""
LOSS_SPANS = 24
"""Means that the loss of a run is kept in, for a small picture of it; up to twice as many."""


class MetricsDigest:
    """One metrics file as far as it has been read."""

    def __init__(self, path: Path) -> None:
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
        self._reader = MetricsReader(path)
        self._losses = ThinnedHistory(LOSS_SPANS)
        self._health = HealthWatch()

    @property
    def bad_lines(self) -> int:
        """Lines that could not be read."""
        return self._reader.bad_lines

    @property
    def longest_pause(self) -> float:
        """Seconds: the longest time from one step to the next so far."""
        return self._health.longest_pause

    def read_on(self) -> None:
        """Take what is new in the file; raises OSError where it cannot be read."""
        lines, restarted = self._reader.read_new()
        if restarted:
            self._forget()
        if not lines and not restarted:
            return
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
        """The file was cut or replaced, and is read anew."""
        self.last_training, self.evaluations, self._health = None, [], HealthWatch()
        self.step_ms.clear()
        self._losses.clear()
