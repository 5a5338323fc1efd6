"""What a chart shows, as values: lines that are decimated already, marks, borders, axes.

Owns no numbers of a run and draws nothing: `curve_data` makes these, `chart_drawing` puts them into cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qad_core.run.chart_axes import XAxis
from qad_core.run.metrics import LARGEST

NO_METRICS_YET = "No metrics yet: the first point comes with the first evaluation or step."
SMALLEST_SHARE = 1e-5
"""Part of the whole axis that a view is never narrower than."""


@dataclass(frozen=True)
class CurveOptions:
    """How curves are shown, wherever they are shown."""

    log_scale: bool = False
    x_axis: XAxis = "step"
    smoothing: float = 0.0
    """Weight of an exponential moving average; 0 is none."""

    def words(self) -> str:
        """What is not as usual."""
        parts = ["log scale"] if self.log_scale else []
        parts += [f"smoothed {self.smoothing:g}"] if self.smoothing else []
        parts += [f"over {self.x_axis}"] if self.x_axis != "step" else []
        return " · ".join(parts)


SMOOTHINGS = (0.0, 0.6, 0.9)


@dataclass(frozen=True)
class Points:
    """Finite points in the order of their xs; both tuples have the same length."""

    xs: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.xs)

    def pairs(self) -> Iterator[tuple[float, float]]:
        """(x, value) one by one."""
        return zip(self.xs, self.values, strict=True)


@dataclass(frozen=True)
class Band:
    """Least and greatest value at each x, for the dim area behind a line."""

    xs: tuple[float, ...] = ()
    lowest: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()


@dataclass(frozen=True)
class XRange:
    """Part of the x axis."""

    first: float
    last: float

    @property
    def width(self) -> float:
        """From one end to the other."""
        return self.last - self.first

    def zoomed(self, factor: float, at: float, whole: XRange) -> XRange | None:
        """A range `factor` times as wide that keeps x = `at` in its place; None when it is the whole again."""
        width = max(self.width * factor, whole.width * SMALLEST_SHARE)
        if width >= whole.width:
            return None
        share = (at - self.first) / self.width if self.width else 0.5
        return XRange(at - share * width, at - share * width + width).moved(0.0, whole)

    def moved(self, share: float, whole: XRange) -> XRange:
        """The range moved by a share of its width, and no further than the whole."""
        first = min(max(self.first + share * self.width, whole.first), whole.last - self.width)
        return XRange(first, first + self.width)


@dataclass(frozen=True)
class Border:
    """A place on the x axis where a start of the run begins."""

    x: float
    label: str


@dataclass(frozen=True)
class Line:
    """One metric of one run."""

    name: str
    points: Points = Points()
    """The bold line."""
    style_index: int = 0
    """Place in the palette; lines of the same run keep theirs."""
    evaluations: Points = Points()
    """Marked with a diamond."""
    band: Band = Band()
    """Drawn dim behind the line."""
    raw: Points = Points()
    """Drawn dim beneath a smoothed line."""
    non_finite: tuple[float, ...] = ()
    """xs at which the value was NaN or infinite."""
    non_finite_count: int = 0
    """How often that was, on the whole axis; of neighbours on one dot only one is in `non_finite`."""
    newest: float | None = None
    """Newest value, finite or not."""
    newest_evaluation: float | None = None
    """Newest value of the evaluations."""
    evaluation_name: str = "held-out"
    """What the diamonds are called; nothing where they are the line's own points."""
    extent: XRange | None = None
    """From the first to the last x of all of it, also of what is not in view; None when there is none."""

    @property
    def number(self) -> int:
        """What it is called among the lines of several runs: that of its run, also where another has no such line."""
        return self.style_index + 1


@dataclass(frozen=True)
class Chart:
    """One chart; equal charts look the same."""

    lines: tuple[Line, ...] = ()
    x_axis: XAxis = "step"
    log_scale: bool = False
    title: str = ""
    view: XRange | None = None
    """Part of the x axis in view; None is all of it."""
    borders: tuple[Border, ...] = ()
    notes: tuple[str, ...] = ()
    """What else there is to say, such as lines that could not be read; at most a few words each."""
    empty_words: str = NO_METRICS_YET
    """What is said when no line has a point."""

    @property
    def whole(self) -> XRange | None:
        """From the first to the last x of all lines; None when there is none."""
        extents = [line.extent or _extent_of(line) for line in self.lines]
        known = [extent for extent in extents if extent is not None]
        if not known:
            return None
        return XRange(min(extent.first for extent in known), max(extent.last for extent in known))

    def values(self) -> Iterator[float]:
        """Every value in view, for the y axis; of those that can be drawn."""
        for x, value in self._all_pairs():
            is_in_view = self.view is None or self.view.first <= x <= self.view.last
            if is_in_view and is_drawable(value, log_scale=self.log_scale):
                yield value

    def _all_pairs(self) -> Iterator[tuple[float, float]]:
        for line in self.lines:
            yield from line.points.pairs()
            yield from line.raw.pairs()
            yield from line.evaluations.pairs()
            yield from zip(line.band.xs, line.band.lowest, strict=True)
            yield from zip(line.band.xs, line.band.highest, strict=True)


def _extent_of(line: Line) -> XRange | None:
    xs = [x for each in (line.points.xs, line.evaluations.xs, line.non_finite) if each for x in (each[0], each[-1])]
    return XRange(min(xs), max(xs)) if xs else None


def is_drawable(value: float, *, log_scale: bool) -> bool:
    """Whether a value has a place on the y axis."""
    return abs(value) < LARGEST and (value > 1 / LARGEST or not log_scale)
