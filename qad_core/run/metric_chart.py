"""One metric of several runs over steps, tokens or time, with held-out marks: from metrics lines to an SVG chart."""

from __future__ import annotations

from collections.abc import Sequence

from qad_core.errors import RunError
from qad_core.run.chart_axes import Places, XAxis, find_places
from qad_core.run.metrics import MetricsLine, is_evaluation
from qad_core.run.svg_chart import SvgLine, draw_svg

EVALUATION_OF = {"loss/kd": "eval/kl", "loss/ce": "eval/ce"}
"""Training losses and their held-out twins, which are marked on the same chart."""
_TIME_UNITS = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
_FEWEST_OF_A_UNIT = 3.0

Points = tuple[tuple[float, float], ...]


def draw_metric(
    runs: Sequence[tuple[str, Sequence[MetricsLine]]], key: str, axis: XAxis = "step", *, log_scale: bool = False
) -> str:
    """The chart of (name, lines) runs as SVG text; raises RunError where no value or no axis is there."""
    lines = [_line(name, found, key, _places(name, found, axis)) for name, found in runs]
    x_title: str = axis
    if axis == "time":
        x_title, lines = _in_fitting_units(lines)
    try:
        return draw_svg(lines, title=key, x_title=x_title, log_scale=log_scale)
    except ValueError as error:
        keys = sorted({key for _, found in runs for line in found for key in line} - {"step", "time"})
        known = f"They have: {', '.join(keys)}." if keys else "They have no metrics yet."
        raise RunError(f"No run has a value of {key!r} that can be drawn.", known) from error


def _places(name: str, lines: Sequence[MetricsLine], axis: XAxis) -> Places:
    places = find_places(lines, axis)
    if places is None and lines:
        raise RunError(f"The metrics of {name} have no count of {axis}.", "Draw them over steps: --x step.")
    return places or float


def _line(name: str, lines: Sequence[MetricsLine], key: str, places: Places) -> SvgLine:
    held_out = EVALUATION_OF.get(key)
    return SvgLine(
        name,
        _points([line for line in lines if not is_evaluation(line) or key.startswith("eval/")], key, places),
        _points([line for line in lines if is_evaluation(line)], held_out, places) if held_out else (),
    )


def _points(lines: Sequence[MetricsLine], key: str, places: Places) -> Points:
    found: dict[float, float] = {}
    for line in lines:
        step, value = line.get("step"), line.get(key)
        if step is not None and value is not None:
            found[float(step)] = float(value)  # a resumed run may repeat a step: the later counts
    return tuple((places(step), found[step]) for step in sorted(found))


def _in_fitting_units(lines: Sequence[SvgLine]) -> tuple[str, list[SvgLine]]:
    """What the axis of time is called, and the lines from seconds to days, hours or minutes where they last as long."""
    last = max((x for line in lines for x, _ in (*line.points, *line.marks)), default=0.0)
    fitting = (unit for unit in _TIME_UNITS if last >= _FEWEST_OF_A_UNIT * unit[1])
    name, seconds = next(fitting, _TIME_UNITS[-1])
    return f"{name} from the first line on", [
        SvgLine(line.name, _divided(line.points, seconds), _divided(line.marks, seconds)) for line in lines
    ]


def _divided(points: Points, seconds: float) -> Points:
    return tuple((x / seconds, value) for x, value in points)
