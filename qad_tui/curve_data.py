"""Series of a run's metrics, and what a chart of a given width needs of them.

Owns the numbers from metrics.jsonl lines to decimated points. It reads no file and draws nothing.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qad_core.run.metrics import MetricsLine

COLUMNS_A_MARK = 4
"""Cells that a mark has for itself, so that marks never hide the line."""


@dataclass(frozen=True)
class Loss:
    """What a run minimizes, and its held-out twin: their metric keys and their names."""

    key: str
    evaluation_key: str
    name: str
    evaluation_name: str


KD_LOSS = Loss("loss/kd", "eval/kl", "KD loss", "held-out KL")
CE_LOSS = Loss("loss/ce", "eval/ce", "CE loss", "held-out CE")
"""Cross-entropy, of runs with `loss: qat`; they write no loss/kd."""


def loss_of_line(line: MetricsLine) -> Loss:
    """The loss that a training line is about."""
    return CE_LOSS if line.get(KD_LOSS.key) is None and line.get(CE_LOSS.key) is not None else KD_LOSS


@dataclass(frozen=True)
class Points:
    """Finite points in the order of their steps; both tuples have the same length."""

    steps: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class Curve:
    """One chart: a decimated line, the evaluations that are marked on it, and where no number was."""

    loss: Loss = KD_LOSS
    line: Points = Points()
    evaluations: Points = Points()
    non_finite_steps: tuple[float, ...] = ()
    """Steps whose loss was NaN or infinite."""
    last_step: float | None = None


@dataclass
class Series:
    """Every value of one metric key; steps rise strictly."""

    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def append(self, step: float, value: float) -> None:
        """Add a value; a step that was there before replaces it and all after it (a resumed run repeats steps)."""
        if self.steps and step <= self.steps[-1]:
            keep = bisect_left(self.steps, step)
            del self.steps[keep:], self.values[keep:]
        self.steps.append(step)
        self.values.append(value)


class CurveData:
    """The series of one run, grown line by line."""

    def __init__(self) -> None:
        self._series: dict[str, Series] = {}

    def extend(self, lines: Iterable[MetricsLine]) -> None:
        """Add the values of metrics.jsonl lines; nulls are left out, lines without a step too."""
        for line in lines:
            step = line.get("step")
            if step is None:
                continue
            for key, value in line.items():
                if key != "step" and value is not None:
                    self._series.setdefault(key, Series()).append(float(step), float(value))

    def clear(self) -> None:
        """Forget everything, for a file that is read anew."""
        self._series.clear()

    def series(self, key: str) -> Series:
        """All values of a key; empty when the key never came."""
        return self._series.get(key, Series())

    def curve(self, columns: int) -> Curve:
        """What a chart `columns` cells wide shows of the loss, at two points for each of its half-cell dots."""
        loss = CE_LOSS if self.series(CE_LOSS.key).steps and not self.series(KD_LOSS.key).steps else KD_LOSS
        series, evaluations = self.series(loss.key), self.series(loss.evaluation_key)
        last_steps = [each.steps[-1] for each in (series, evaluations) if each.steps]
        return Curve(
            loss=loss,
            line=decimate(series, 2 * max(1, columns)),
            evaluations=_thinned(_finite_points(evaluations), max(2, columns // COLUMNS_A_MARK)),
            non_finite_steps=_non_finite_steps(series),
            last_step=max(last_steps, default=None),
        )


def decimate(series: Series, buckets: int) -> Points:
    """The least and the greatest finite value of each of `buckets` equal spans, in order: no spike is lost.

    A series of at most 2 x `buckets` finite values comes back whole.
    """
    steps, values = _finite_arrays(series)
    if len(steps) <= 2 * buckets:
        return Points(tuple(steps.tolist()), tuple(values.tolist()))
    edges = np.linspace(0, len(steps), buckets + 1).astype(np.intp)
    chosen: list[int] = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        least, greatest = start + int(values[start:end].argmin()), start + int(values[start:end].argmax())
        chosen += sorted({least, greatest})
    return Points(tuple(steps[chosen].tolist()), tuple(values[chosen].tolist()))


def _finite_arrays(series: Series) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Copies: a numpy view of an array("d") would forbid its growth.
    steps, values = np.array(series.steps, np.float64), np.array(series.values, np.float64)
    finite = np.isfinite(values)
    return steps[finite], values[finite]


def _finite_points(series: Series) -> Points:
    steps, values = _finite_arrays(series)
    return Points(tuple(steps.tolist()), tuple(values.tolist()))


def _thinned(points: Points, most: int) -> Points:
    """At most `most` of the points, evenly chosen, the first and the last among them."""
    if len(points) <= most:
        return points
    chosen = sorted({round(place * (len(points) - 1) / (most - 1)) for place in range(most)})
    return Points(tuple(points.steps[i] for i in chosen), tuple(points.values[i] for i in chosen))


def _non_finite_steps(series: Series) -> tuple[float, ...]:
    return tuple(step for step, value in zip(series.steps, series.values, strict=True) if not math.isfinite(value))
