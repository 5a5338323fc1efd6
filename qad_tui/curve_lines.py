"""What a chart of a given width needs of a run's series: decimated lines with bands, marks, and borders.

Owns decimation, smoothing and the x axes. It imports numpy, so it is itself imported where numbers are there to draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qad_core.run.metrics import LARGEST
from qad_tui.charts import Band, Border, Line, Points, XAxis, XRange
from qad_tui.curve_data import TIME, TOKENS, CurveData, Series, name_of_metric

Numbers = NDArray[np.float64]
POINTS_A_BUCKET = 8
"""A mean of so many is smooth enough for a line of its own dots."""


@dataclass(frozen=True)
class Cut:
    """What part of a series is wanted, and how finely."""

    columns: int
    """Cells that the line has across, at least 1; each shows two dots."""
    x_axis: XAxis = "step"
    view: XRange | None = None
    """None is all of it."""
    smoothing: float = 0.0
    """Weight of what came before in an exponential moving average over the points drawn; 0 is none."""
    noisy: bool = True
    """Whether neighbours differ much, as those of training steps do and those of evaluations do not."""

    def buckets(self, count: int) -> int:
        """Into how many spans so many points go: one a dot at most, and fewer where those would be a hairy line."""
        fewest = self.columns // 2 if self.noisy else 2 * self.columns
        return max(1, min(2 * self.columns, max(fewest, count // POINTS_A_BUCKET)))


def cut_line(data: CurveData, key: str, cut: Cut, *, name: str = "", style_index: int = 0) -> Line:
    """The line of a metric with its evaluations, decimated for a chart; an empty one for a key that never came."""
    series, evaluation_key = data.series(key), data.evaluation_of(key)
    evaluations = data.series(evaluation_key)
    xs, values = _axis_of(data, series.steps, cut.x_axis), np.array(series.values, np.float64)
    finite = np.abs(values) < LARGEST
    marks = _evaluation_points(data, evaluations, cut)
    if evaluation_key == key:
        cut = replace(cut, noisy=False, smoothing=0.0)
    points, band = decimate(xs[finite], values[finite], cut)
    smoothed = smooth(points, cut.smoothing) if cut.smoothing else points
    return Line(
        name=name or name_of_metric(key),
        points=smoothed,
        raw=points if cut.smoothing and not band.xs else Points(),
        style_index=style_index,
        evaluations=marks,
        band=band,
        non_finite=_one_a_cell(xs[~finite], cut),
        non_finite_count=int(len(values) - finite.sum()),
        newest=_newest(series),
        newest_evaluation=_newest(evaluations),
        evaluation_name=name_of_metric(evaluation_key) if evaluation_key != key else "",
        extent=_extent(xs, _axis_of(data, evaluations.steps, cut.x_axis)),
    )


def decimate(xs: Numbers, values: Numbers, cut: Cut) -> tuple[Points, Band]:
    """Mean, least and greatest of each span: no spike is lost. Few enough points come back whole, with no band.

    Of a view, what is just before it and behind it gives one point each, so that the line goes on to both edges.
    """
    start, end = 0, len(xs)
    if cut.view is not None:
        start, end = int(np.searchsorted(xs, cut.view.first)), int(np.searchsorted(xs, cut.view.last, "right"))
    if end - start <= cut.buckets(end - start):
        near = slice(max(0, start - 1), end + 1)
        return _points(xs[near], values[near]), Band()
    inside, seen = xs[start:end], values[start:end]
    starts = _bucket_starts(inside, cut, cut.buckets(len(inside)))
    counts = np.diff(starts, append=len(inside))
    middles, means = np.add.reduceat(inside, starts) / counts, np.add.reduceat(seen, starts) / counts
    band = Band(_tuple(middles), _tuple(np.minimum.reduceat(seen, starts)), _tuple(np.maximum.reduceat(seen, starts)))
    near = max(1, len(inside) // len(starts))
    before, after = slice(max(0, start - near), start), slice(end, end + near)
    line_xs = np.concatenate((_mean(xs[before]), middles, _mean(xs[after])))
    return _points(line_xs, np.concatenate((_mean(values[before]), means, _mean(values[after])))), band


def _mean(numbers: Numbers) -> Numbers:
    """The mean alone, or nothing of nothing."""
    return numbers.mean(keepdims=True) if len(numbers) else numbers


def smooth(points: Points, weight: float) -> Points:
    """Exponential moving average over the points, without a pull of the first towards 0."""
    smoothed: list[float] = []
    total = weights = 0.0
    for value in points.values:
        total, weights = weight * total + (1 - weight) * value, weight * weights + (1 - weight)
        smoothed.append(total / weights)
    return Points(points.xs, tuple(smoothed))


def starts_of_jobs(data: CurveData, starts: Sequence[tuple[float, str]], axis: XAxis) -> tuple[Border, ...]:
    """Where on the x axis starts (Unix time, label) of a run lie, but for the first and those without a step yet."""
    steps, clock = _rising(data.series(TIME))
    xs = _axis_of(data, steps, axis)
    places = [(int(np.searchsorted(clock, started)), label) for started, label in sorted(starts)]
    return tuple(Border(float(xs[place]), label) for place, label in places if 0 < place < len(xs))


def border_at_step(data: CurveData, step: float, label: str, axis: XAxis) -> Border:
    """A border at a step that is known."""
    return Border(float(_axis_of(data, [step], axis)[0]), label)


def _axis_of(data: CurveData, at: Sequence[float] | Numbers, axis: XAxis) -> Numbers:
    steps = np.array(at, np.float64)
    if axis == "step" or not len(steps):
        return steps
    known, numbers = _rising(data.series(TOKENS if axis == "tokens" else TIME))
    if not len(known):
        return steps
    if axis == "time":
        return np.asarray(np.interp(steps, known, numbers - numbers[0]), np.float64)
    if known[0] > 0:  # no token before the first step
        known, numbers = np.insert(known, 0, 0.0), np.insert(numbers, 0, 0.0)
    return np.asarray(np.interp(steps, known, numbers), np.float64)


def _rising(series: Series) -> tuple[Numbers, Numbers]:
    """Steps and numbers of an axis that never falls; a number that is not finite has no place on it."""
    steps, numbers = np.array(series.steps, np.float64), np.array(series.values, np.float64)
    finite = np.abs(numbers) < LARGEST
    return steps[finite], np.maximum.accumulate(numbers[finite])


def _evaluation_points(data: CurveData, evaluations: Series, cut: Cut) -> Points:
    xs, values = _axis_of(data, evaluations.steps, cut.x_axis), np.array(evaluations.values, np.float64)
    finite = np.abs(values) < LARGEST
    xs, values = xs[finite], values[finite]
    if cut.view is not None:
        inside = (xs >= cut.view.first) & (xs <= cut.view.last)
        xs, values = xs[inside], values[inside]
    if len(xs) > cut.columns:
        last_ones = np.append(_bucket_starts(xs, cut, cut.columns)[1:], len(xs)) - 1
        chosen = np.unique(np.append(last_ones, 0))  # step 0 is what plain post-training quantization gives
        xs, values = xs[chosen], values[chosen]
    return _points(xs, values)


def _bucket_starts(xs: Numbers, cut: Cut, buckets: int) -> NDArray[np.intp]:
    """Places at which a new dot begins; dots without a point have none."""
    first, last = (cut.view.first, cut.view.last) if cut.view is not None else (float(xs[0]), float(xs[-1]))
    places = np.searchsorted(xs, np.linspace(first, last, buckets + 1)[1:-1])
    return np.unique(np.concatenate((np.zeros(1, np.intp), places[places < len(xs)])))


def _one_a_cell(xs: Numbers, cut: Cut) -> tuple[float, ...]:
    if cut.view is not None:
        xs = xs[(xs >= cut.view.first) & (xs <= cut.view.last)]
    return _tuple(xs[_bucket_starts(xs, cut, cut.columns)] if len(xs) > cut.columns else xs)


def _extent(*axes: Numbers) -> XRange | None:
    filled = [axis for axis in axes if len(axis)]
    if not filled:
        return None
    return XRange(min(float(axis[0]) for axis in filled), max(float(axis[-1]) for axis in filled))


def _newest(series: Series) -> float | None:
    return series.values[-1] if series else None


def _points(xs: Numbers, values: Numbers) -> Points:
    return Points(_tuple(xs), _tuple(values))


def _tuple(numbers: Numbers) -> tuple[float, ...]:
    return tuple(numbers.tolist())
