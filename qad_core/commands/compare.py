"""`qad_core compare`: runs side by side, what differs in their configs and what came of it, also as CSV and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.commands.output import console, error_console, make_table, print_json
from qad_core.commands.runs import find_run, nothing_measured, run_as_json
from qad_core.errors import RunError
from qad_core.run.chart_axes import XAxis
from qad_core.run.comparison import Differences, find_differences, result_rows
from qad_core.run.csv_export import write_csv
from qad_core.run.events import read_run_lines
from qad_core.run.metric_chart import draw_metric
from qad_core.run.store import RunSummary


@dataclass(frozen=True)
class Exports:
    """Files to write beside the answer."""

    csv: Path | None = None
    """Every metrics line of the runs."""
    svg: Path | None = None
    """A chart of one metric."""
    key: str = "loss/kd"
    """The metric of the chart."""
    log_scale: bool = False
    """Whether the chart's values are logarithmic."""
    x_axis: XAxis = "step"
    """What lies below the chart."""


def compare_runs(names: Sequence[str], roots: Sequence[Path], exports: Exports, *, as_json: bool) -> None:
    """Print the config keys in which the runs differ, and their first and last evaluations; write the exports."""
    if len(names) < 2 and exports.csv is None and exports.svg is None:
        raise RunError(f"Only one run is named: {names[0]}.", "Name two or more to compare.")
    runs = [find_run(name, roots) for name in names]
    differences = find_differences(runs)
    written = export(runs, exports)
    if as_json:
        print_json(
            {
                "runs": [{**run_as_json(run), "evaluation": list(run.evaluations)} for run in runs],
                "config": {key: list(values) for key, values in differences.values.items()},
                "config_unknown": differences.unknown,
                "written": written,
            }
        )
        return
    _print_results(runs)
    for run in runs:
        if run.last_training is None and not run.evaluations:
            console().print(str(nothing_measured(run)), markup=False, soft_wrap=True)
    _print_differences(runs, differences)
    for path in written:
        console().print(f"Wrote {path}.", markup=False)


def export(runs: Sequence[RunSummary], exports: Exports) -> list[Path]:
    """Write the files that were asked for and return them.

    Raises RunError when the chart cannot be drawn, before anything is written; OSError when a file cannot be written.
    """
    if exports.csv is None and exports.svg is None:
        return []
    metrics = [(run.name, read_run_lines(run.folder)) for run in runs]
    drawn = ""
    if exports.svg is not None:
        drawn = draw_metric(metrics, exports.key, exports.x_axis, log_scale=exports.log_scale)
    if exports.csv is not None:
        write_csv(exports.csv, metrics)
    if exports.svg is not None:
        exports.svg.write_text(drawn, encoding="utf-8")
    return [path for path in (exports.csv, exports.svg) if path is not None]


def _print_results(runs: Sequence[RunSummary]) -> None:
    table = make_table("", *(f">{run.name}" for run in runs))
    for label, words in result_rows(runs):
        table.add_row(label, *words)
    console().print(table)


def _print_differences(runs: Sequence[RunSummary], differences: Differences) -> None:
    for name, why in differences.unknown.items():
        error_console().print(f"{name}: its config is not compared: {why}", markup=False)
    if not differences.values:
        if not differences.unknown:
            console().print("Their configs are the same.")
        return
    table = make_table("differs", *(f">{run.name}" for run in runs))
    for key, values in differences.values.items():
        table.add_row(key, *(str(value) for value in values))
    console().print(table)
