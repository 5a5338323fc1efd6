"""Axes of a chart: from numbers to dots, ticks at round numbers, and how these are written.

Pure functions; no Textual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from qad_core.run.svg_chart import round_ticks
from qad_tui.charts import Chart, XAxis
from qad_tui.formats import format_loss

_TIME_UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))
_COUNT_UNITS = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
_FEWEST_OF_A_UNIT = 3.0
MOST_DECIMALS = 5
ROUNDING = 1e-9
"""Values whose difference is a smaller share of them are the same but for rounding."""
_COLUMNS_AN_X_TICK, _LEAST_COLUMNS_AN_X_TICK, _ROWS_A_Y_TICK = 12, 6, 3


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in the axis's own numbers, and its words."""

    at: float
    label: str


@dataclass(frozen=True)
class Scale:
    """One axis laid over a number of dots; under a logarithm `first` and `last` are powers of ten."""

    first: float
    last: float
    dots: int
    log_scale: bool = False

    def dot(self, value: float) -> float:
        """Where a value lies, 0 for `first` to dots - 1 for `last`; outside of them for values out of sight."""
        place = math.log10(value) if self.log_scale else value
        return (place - self.first) / (self.last - self.first) * (self.dots - 1)

    def value(self, dot: float) -> float:
        """The value at a dot."""
        place = self.first + dot / max(1, self.dots - 1) * (self.last - self.first)
        return 10.0**place if self.log_scale else place


def x_scale(chart: Chart, dots: int) -> Scale | None:
    """The x axis of what is in view; None when there is nothing."""
    shown = chart.view or chart.whole
    if shown is None:
        return None
    least = max(1.0, ROUNDING * abs(shown.first))
    return Scale(shown.first, shown.last if shown.width > 0 else shown.first + least, dots)


def y_scale(chart: Chart, dots: int) -> Scale | None:
    """A y axis with a margin about all values in view; None when none can be drawn."""
    values = list(chart.values())
    if not values:
        return None
    places = (
        [math.log10(value) for value in (min(values), max(values))] if chart.log_scale else [min(values), max(values)]
    )
    span, size = places[1] - places[0], max(map(abs, places))
    margin = 0.05 * span if span > ROUNDING * size else size * 0.1 or 1.0
    return Scale(places[0] - margin, places[1] + margin, dots, chart.log_scale)


def x_ticks(axis: XAxis, scale: Scale, columns: int) -> list[Tick]:
    """Ticks of the x axis, few enough for their labels."""
    most, at_most = max(1, columns // _COLUMNS_AN_X_TICK), max(1, columns // _LEAST_COLUMNS_AN_X_TICK)
    if axis == "time":
        unit, size = next(
            each for each in _TIME_UNITS if scale.last >= _FEWEST_OF_A_UNIT * each[1] or each[1] == _TIME_UNITS[-1][1]
        )
        ticks = _at_least_two(scale.first / size, scale.last / size, most, at_most)
        return [Tick(at * size, f"{at:.10g} {unit}") for at in ticks]
    ticks = _at_least_two(scale.first, scale.last, most, at_most)
    whole = [at for at in ticks if at == round(at)] if axis == "step" else ticks
    return [Tick(at, label) for at, label in zip(whole, count_labels(whole), strict=True)]


def y_ticks(scale: Scale, rows: int) -> list[Tick]:
    """Ticks of the y axis, few enough for its rows."""
    most = max(1, rows // _ROWS_A_Y_TICK)
    if scale.log_scale:
        ticks = _log_ticks(scale, most)
        if len(ticks) > 1:
            return [Tick(value, short_number(value)) for value in ticks]
        ticks = _at_least_two(10.0**scale.first, 10.0**scale.last, most, rows)
    else:
        ticks = _at_least_two(scale.first, scale.last, most, rows)
    return [Tick(at, label) for at, label in zip(ticks, value_labels(ticks), strict=True)]


def _at_least_two(first: float, last: float, most: int, at_most: int) -> list[float]:
    """About `most` round ticks, or a few more where those are fewer than two."""
    ticks: list[float] = []
    for wanted in range(most, max(most, at_most) + 1):
        ticks = round_ticks(first, last, wanted)
        if len(ticks) > 1:
            break
    return ticks


def _log_ticks(scale: Scale, most: int) -> list[float]:
    """Some of the digits of each decade, or of some decades; none where the axis is too short for them."""
    decades = range(math.floor(scale.first), math.ceil(scale.last) + 1)
    inside: list[float] = []
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3), (1,)):
        values = [digit * 10.0**decade for decade in decades for digit in digits]
        inside = [value for value in values if scale.first <= math.log10(value) <= scale.last]
        if len(inside) <= most + 1:
            break
    return inside[:: max(1, math.ceil(len(inside) / (most + 1)))]


def value_labels(ticks: Sequence[float]) -> list[str]:
    """All of them with as many decimals as tell neighbours apart, or with one unit or exponent."""
    largest = max(map(abs, ticks), default=0.0)
    if largest >= 1e4 or 0 < largest < 1e-3:
        return [short_number(tick) for tick in ticks]
    apart = min((after - before for before, after in pairwise(ticks)), default=largest)
    enough = (
        decimals
        for decimals in range(MOST_DECIMALS)
        if all(abs(round(tick, decimals) - tick) < 1e-3 * apart for tick in ticks)
    )
    decimals = next(enough, MOST_DECIMALS)
    return [f"{tick:.{decimals}f}" for tick in ticks]


def count_labels(ticks: Sequence[float]) -> list[str]:
    """Counts as they are, or in the unit of the largest: `0`, `50k`, `100k`."""
    largest = max(map(abs, ticks), default=0.0)
    unit, size = next(
        (each for each in _COUNT_UNITS if largest >= 10 * each[1] or largest >= each[1] >= 1e6), ("", 1.0)
    )
    return [f"{tick / size:.10g}{unit if tick else ''}" for tick in ticks]


def short_number(value: float) -> str:
    """Three digits, with a unit from 10,000 on and a short exponent below 0.001."""
    size = abs(value)
    if size >= 1e4:
        unit, unit_size = next(each for each in _COUNT_UNITS if size >= each[1])
        return f"{value / unit_size:.3g}{unit}" if size < 1e15 else f"{value:.2g}"
    if 0 < size < 1e-3:
        digits, _, exponent = f"{value:.2e}".partition("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:.4g}"


def value_words(value: float | None) -> str:
    """A value with four digits, large ones in units; `nan` and `inf` as they are; a dash for None."""
    if value is None or not math.isfinite(value) or 0 < abs(value) < 1000:
        return format_loss(value)
    return short_number(value)


def x_words(axis: XAxis, x: float) -> str:
    """A place on the x axis in words: `step 1,200`, `1.25M tokens`, `2.5 h`."""
    if axis == "step":
        return f"step {x:,.0f}"
    if axis == "tokens":
        return f"{short_number(x)} tokens"
    unit, size = next((each for each in _TIME_UNITS if abs(x) >= each[1]), _TIME_UNITS[-1])
    return f"{x / size:.3g} {unit}"


def nearest(xs: Sequence[float], x: float) -> int:
    """Place of the number in rising, not empty `xs` that is nearest to x."""
    return min(range(len(xs)), key=lambda place: abs(xs[place] - x))
