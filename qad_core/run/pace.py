"""How long a run takes: seconds an iteration, evaluations and saves among them, and from a start to its first step.

Measured from the times in metrics.jsonl and jobs.jsonl; what has not run yet is not guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import median

from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, read_jobs
from qad_core.run.metrics import MetricsLine, is_evaluation, read_metrics

RECENT_STEPS = 200
"""Newest steps that the pace is taken from."""


@dataclass(frozen=True)
class Pace:
    """Measured speed of one run."""

    seconds_per_iteration: float
    start_seconds: float | None
    """From a start to its first step; None where no step follows a start."""
    steps: int
    """Steps that it was measured on."""


def measure_pace(folder: RunFolder) -> Pace | None:
    """The pace of a run's newest steps; None before two steps of one start."""
    steps = [line for line in read_metrics(folder.metrics) if not is_evaluation(line)]
    starts = [job for job in read_jobs(folder.jobs) if job.started is not None]
    together = _steps_of_one_start(steps[-RECENT_STEPS:], starts)
    if len(together) < 2:
        return None
    first, last = together[0], together[-1]
    between = int(last["step"] or 0) - int(first["step"] or 0)
    seconds = (last.get("time") or 0.0) - (first.get("time") or 0.0)
    if between <= 0 or seconds <= 0:
        return None
    return Pace(seconds / between, _start_seconds(steps, starts), between)


def _steps_of_one_start(steps: Sequence[MetricsLine], starts: Sequence[Job]) -> list[MetricsLine]:
    """The newest steps that no start lies between: the time from one start to the next was not spent training."""
    newest = max((job.started or 0.0 for job in starts), default=0.0)
    after = [line for line in steps if (line.get("time") or 0.0) >= newest]
    if len(after) >= 2:
        return after
    earlier = [job for job in starts if (job.started or 0.0) < newest]
    before = [line for line in steps if (line.get("time") or 0.0) < newest]
    return _steps_of_one_start(before, earlier) if earlier and before else after


def _start_seconds(steps: Sequence[MetricsLine], starts: Sequence[Job]) -> float | None:
    found: list[float] = []
    for job, following in zip_longest(starts, starts[1:]):
        began = job.started or 0.0
        until = (following.started or 0.0) if following else float("inf")
        times = [line.get("time") or 0.0 for line in steps if began <= (line.get("time") or 0.0) < until]
        if times:
            found.append(times[0] - began)
    return median(found) if found else None
