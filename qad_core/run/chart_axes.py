"""The x axes of a run's charts, and where on them its steps lie; plain numbers, nothing is drawn."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from qad_core.run.metrics import MetricsLine

XAxis = Literal["step", "tokens", "time"]
X_AXES: tuple[XAxis, ...] = ("step", "tokens", "time")
"""`time` is in seconds since the first line of the run."""
Places = Callable[[float], float]
"""From a step to its place on the axis."""
_KEYS: dict[XAxis, str] = {"tokens": "consumed_tokens", "time": "time"}


def find_places(lines: Sequence[MetricsLine], axis: XAxis) -> Places | None:
    """Where steps lie on the axis, those between two known ones in proportion; None where no line says."""
    if axis == "step":
        return float
    counted = {float(line.get("step") or 0): line.get(_KEYS[axis]) for line in lines if _KEYS[axis] in line}
    known = sorted((step, float(count)) for step, count in counted.items() if count is not None)
    known = [(step, count) for step, count in known if math.isfinite(count)]
    if not known:
        return None
    if axis == "tokens" and known[0][0] > 0:  # no token before the first step
        known.insert(0, (0.0, 0.0))
    steps = [step for step, _ in known]
    counts = list(accumulate((count for _, count in known), max))
    first = counts[0] if axis == "time" else 0.0
    return lambda step: _between(steps, counts, step) - first


def _between(steps: Sequence[float], counts: Sequence[float], step: float) -> float:
    after = bisect_left(steps, step)
    if after == len(steps):
        return counts[-1]
    if after == 0 or steps[after] == step:
        return counts[after]
    share = (step - steps[after - 1]) / (steps[after] - steps[after - 1])
    return counts[after - 1] + share * (counts[after] - counts[after - 1])
