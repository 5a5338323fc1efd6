"""Curves of several runs as one chart, and what tells the runs apart: a number, a colour and the part of the name
in which they differ. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qad_tui.charts import Band, Border, Chart, CurveOptions, Line, XRange
from qad_tui.curve_data import CE_LOSS, KD_LOSS, name_of_metric
from qad_tui.formats import short_run_name
from qad_tui.run_follower import LOSS_ONLY, Curves

SIGNS = "12345678"
"""What runs are called on the chart and above the tables; as many as the palette has colours."""
_OWN_PARTS = re.compile(r"(.+?-Teacher)-(.+?-Data)-(.+?)-(lr\d[\d.]*(?:e[+-]?\d+)?)(?:-(.+))?")
_DASH = re.compile(r"-(?!(?<=\de-)\d)")
"""A dash that is not in a number such as 1e-06."""


def overlay(
    curves: Mapping[Path, Curves], runs: Sequence[Path], key: str, options: CurveOptions, view: XRange | None
) -> Chart:
    """One chart with a line a run, in the runs' order; a run without the metric is named in the notes."""
    names = distinct_names([path.name for path in runs])
    lines: list[Line] = []
    borders: list[Border] = []
    missing: list[str] = []
    for number, path in enumerate(runs):
        found = curves.get(path)
        chart = _chart_of(found, key) if found else None
        if chart is not None and chart.lines and chart.lines[0].extent is not None:
            lines.append(replace(chart.lines[0], name=names[number], style_index=number, band=Band()))
            borders += [replace(border, label=f"{SIGNS[number]}: {border.label}") for border in chart.borders]
        elif found is not None:
            missing.append(SIGNS[number])
    notes = (f"{', '.join(missing)}: no such metric",) if missing and lines else ()
    return Chart(
        lines=tuple(lines),
        x_axis=options.x_axis,
        log_scale=options.log_scale,
        title=title_of(key),
        view=view,
        borders=tuple(borders),
        notes=notes,
        empty_words=words_of_no_lines(curves),
    )


def _chart_of(curves: Curves, key: str) -> Chart | None:
    """A run's chart of a metric, where that is known; LOSS_ONLY is its own loss."""
    keys = (KD_LOSS.key, CE_LOSS.key) if key == LOSS_ONLY else (key,)
    return next((curves.charts[each] for each in keys if each in curves.charts), None)


def words_of_no_lines(curves: Mapping[Path, Curves]) -> str:
    """Why there is no line: of this metric, or of any."""
    if any(found.keys for found in curves.values()):
        return "None of these runs has a value of it yet: n shows the next metric."
    return "None of these runs has written a metric yet: the first come with its first training step."


def title_of(key: str) -> str:
    """What a metric is called; LOSS_ONLY is each run's own loss."""
    return "Training loss and held-out twin" if key == LOSS_ONLY else name_of_metric(key)


def metric_keys(curves: Mapping[Path, Curves]) -> list[str]:
    """Metrics of any of the runs: each run's own loss first, then in the order of the runs' grids."""
    known = dict.fromkeys(key for found in curves.values() for key in found.keys)
    return [LOSS_ONLY, *(key for key in known if key not in (KD_LOSS.key, CE_LOSS.key))]


def distinct_names(names: Sequence[str]) -> list[str]:
    """The part of each name behind what all share, in whole parts: `lr1e-06-qat` against `lr1e-06-long`."""
    if len(names) < 2:
        return list(names)
    pieces = [_parts_of(name) for name in names]
    most = min(len(parts) for parts in pieces) - 1
    common = next((place for place in range(most) if len({parts[place] for parts in pieces}) > 1), most)
    if common == 0:
        return [short_run_name(name) for name in names]
    return ["-".join(parts[common:]) for parts in pieces]


def _parts_of(name: str) -> list[str]:
    """Student, teacher, data, learning rate and tag; of a name in another layout what stands between its dashes."""
    own = _OWN_PARTS.fullmatch(name)
    return [part for part in own.groups() if part] if own else _DASH.split(name)
