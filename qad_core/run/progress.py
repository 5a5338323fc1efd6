"""What the numbers of a run say: steps left, time left, share of the gap won back. Pure functions.

Reads no file and knows no process (`store.py` does both).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from qad_core.run.metrics import MetricsLine


def eta_seconds(step: int, train_iterations: int, step_milliseconds: Sequence[float]) -> float | None:
    """Seconds left at the median of the latest steps; None before the first step or without an end."""
    times = [time for time in step_milliseconds if math.isfinite(time) and time > 0]
    if not times or train_iterations <= 0:
        return None
    seconds = max(train_iterations - step, 0) * median(times) / 1000
    return seconds if math.isfinite(seconds) else None


def recovered_fraction(evaluations: Sequence[MetricsLine]) -> float | None:
    """Share of the KL gap between plain quantization (step 0) and the teacher won back: 1 - KL_last / KL_0.

    None when there is no evaluation at step 0 or none after it, when the two were not of the same number of
    tokens, or when a KL is not finite or the gap is 0.
    """
    if len(evaluations) < 2 or evaluations[0].get("step") != 0:
        return None
    if evaluations[0].get("eval/tokens") != evaluations[-1].get("eval/tokens"):
        return None
    first, last = evaluations[0].get("eval/kl"), evaluations[-1].get("eval/kl")
    if first is None or last is None or not math.isfinite(first) or not math.isfinite(last) or first <= 0:
        return None
    return 1 - last / first


def merge_evaluations(known: Sequence[MetricsLine], new: Sequence[MetricsLine]) -> list[MetricsLine]:
    """Evaluations by step; of two at one step the later written counts (a resumed run may repeat one)."""
    by_step = {line.get("step") or 0: line for line in (*known, *new)}
    return [by_step[step] for step in sorted(by_step)]
