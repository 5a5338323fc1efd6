"""`qad_core compare`: runs side by side, what differs in their configs and what came of it, also as CSV and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.commands.output import console, error_console, make_table, print_json
from qad_core.commands.runs import find_run, run_as_json
from qad_core.errors import RunError
from qad_core.run.comparison import Differences, find_differences, result_rows
from qad_core.run.csv_export import write_csv
from qad_core.run.metrics import MetricsLine, is_evaluation, read_metrics
from qad_core.run.store import RunSummary
from qad_core.run.svg_chart import SvgLine, write_svg

EVALUATION_OF = {"loss/kd": "eval/kl", "loss/ce": "eval/ce"}
"""Training losses and their held-out twins, which are marked on the same chart."""


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


def compare_runs(names: Sequence[str], roots: Sequence[Path], exports: Exports, *, as_json: bool) -> None:
    """Print the config keys in which the runs differ, and their first and last evaluations; write the exports."""
    if len(names) < 2 and exports == Exports():
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
    _print_differences(runs, differences)
    for path in written:
        console().print(f"Wrote {path}.", markup=False)


def export(runs: Sequence[RunSummary], exports: Exports) -> list[Path]:
    """Write the files that were asked for and return them.

    Raises RunError when no run has a value of the chart's metric, OSError when a file cannot be written.
    """
    if exports.csv is None and exports.svg is None:
        return []
    metrics = [(run.name, read_metrics(run.folder.metrics)) for run in runs]
    if exports.csv is not None:
        write_csv(exports.csv, metrics)
    if exports.svg is not None:
        lines = [_svg_line(name, found, exports.key) for name, found in metrics]
        try:
            write_svg(exports.svg, lines, title=exports.key, x_title="step", log_scale=exports.log_scale)
        except ValueError as error:
            keys = sorted({key for _, found in metrics for line in found for key in line} - {"step", "time"})
            known = f"They have: {', '.join(keys)}." if keys else "They have no metrics yet."
            raise RunError(f"No run has a value of {exports.key!r} that can be drawn.", known) from error
    return [path for path in (exports.csv, exports.svg) if path is not None]


def _svg_line(name: str, lines: Sequence[MetricsLine], key: str) -> SvgLine:
    held_out = EVALUATION_OF.get(key)
    return SvgLine(
        name,
        _points([line for line in lines if not is_evaluation(line) or key.startswith("eval/")], key),
        _points([line for line in lines if is_evaluation(line)], held_out) if held_out else (),
    )


def _points(lines: Sequence[MetricsLine], key: str) -> tuple[tuple[float, float], ...]:
    found: dict[float, float] = {}
    for line in lines:
        step, value = line.get("step"), line.get(key)
        if step is not None and value is not None:
            found[float(step)] = float(value)  # a resumed run may repeat a step: the later counts
    return tuple(sorted(found.items()))


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
