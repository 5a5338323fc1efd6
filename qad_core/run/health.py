"""The health of a run: what is wrong with its live metrics, each finding in one sentence.

Owns which rules there are and the one that needs a clock. A `HealthWatch` is told of each new line of
metrics.jsonl and keeps a bounded number of values; it reads no file. `qad_core status RUN` and the screen show
what it finds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING

from qad_core.run.health_rules import (
    EvaluationRule,
    Finding,
    LossRule,
    NonFiniteRule,
    Severity,
    SkippedRule,
    SpeedRule,
    SpikeRule,
)
from qad_core.run.metrics import MetricsLine, is_evaluation
from qad_core.run.show import count_of, show_duration

if TYPE_CHECKING:
    from qad_core.run.status import Status

__all__ = ["Finding", "HealthWatch", "Severity", "find_stall", "worst_of"]

STALL_STEPS = 5
"""A run that does no step for so many times its median step stands still."""
STALL_SECONDS = 5.0
"""Least seconds for that; a busy disk holds shorter steps up for as long."""
PAUSE_STEPS = 3
"""A pause between two steps that held an evaluation or a save takes at least so many steps' time."""
FEWEST_STEPS = 10
"""A run of fewer steps is not judged: nothing found says nothing yet."""
_ORDER: dict[Severity, int] = {"problem": 0, "warning": 1, "note": 2}


class HealthWatch:
    """The rules over the metrics of one run."""

    def __init__(self) -> None:
        self.longest_pause = 0.0
        """Seconds: the longest time from one step to the next, evaluations and saves among them."""
        self._training = (NonFiniteRule(), SkippedRule(), SpikeRule(), LossRule(), SpeedRule())
        self._evaluation = EvaluationRule()
        self._last_time: float | None = None
        self._step = 0

    def extend(self, lines: Iterable[MetricsLine]) -> None:
        """Take the new lines of metrics.jsonl."""
        for line in lines:
            step = int(line.get("step") or 0)
            if is_evaluation(line):
                self._evaluation.add(step, line)
                continue
            self._step = step
            self._keep_time(line.get("time"))
            for rule in self._training:
                rule.add(step, line)

    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, the worst first; where nothing is, that it is too early to say so."""
        found = [one for rule in (*self._training, self._evaluation) if (one := rule.finding()) is not None]
        if not found and 0 < self._step < FEWEST_STEPS:
            return (_too_early(self._step),)
        return tuple(sorted(found, key=lambda one: _ORDER[one.severity]))

    def _keep_time(self, time: float | None) -> None:
        if time is not None and self._last_time is not None and math.isfinite(time - self._last_time):
            self.longest_pause = max(self.longest_pause, time - self._last_time)
        self._last_time = time if time is not None else self._last_time


def find_stall(
    status: Status, last_step_time: float | None, step_milliseconds: Sequence[float], longest_pause: float, now: float
) -> Finding | None:
    """No new step of a running run for STALL_STEPS times its median step, as of Unix time `now`.

    While it evaluates or saves, the longest pause so far (seconds) counts in place of a step; before the first
    such pause nobody knows how long it takes. None before its first step, and while it starts.
    """
    times = [time for time in step_milliseconds if math.isfinite(time) and time > 0]
    if not times or last_step_time is None or status.phase not in ("training", "evaluating", "saving"):
        return None
    usual = median(times) / 1000
    if status.phase != "training" and longest_pause < PAUSE_STEPS * usual:
        return None
    expected = usual if status.phase == "training" else longest_pause
    waited = now - max(last_step_time, status.updated)
    if waited <= max(STALL_STEPS * expected, STALL_SECONDS):
        return None
    sentence = (
        f"No new step for {show_duration(waited)} while {status.phase}, at {usual:.3g} s a step; "
        "one rank waits for another, or the disk for its answer: look at the logs."
    )
    return Finding("stalled", "problem", sentence, status.step)


def _too_early(step: int) -> Finding:
    sentence = f"Too early to call it healthy: it has done {count_of(step, 'step')}, and {FEWEST_STEPS} are wanted."
    return Finding("too-early", "note", sentence, step)


def worst_of(findings: Sequence[Finding]) -> Severity | None:
    """The worst severity among them; None for none."""
    return min((one.severity for one in findings), key=lambda severity: _ORDER[severity], default=None)
