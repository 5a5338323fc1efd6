"""`qad_core metrics`: a run's numbers as a table, a curve, or JSON."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from qad_core.commands.output import console, make_table, print_json
from qad_core.commands.runs import find_run, nothing_measured
from qad_core.errors import RunError
from qad_core.run.events import read_run_lines
from qad_core.run.metrics import MetricsLine, is_evaluation
from qad_core.run.plot import plot_series
from qad_core.run.progress import merge_evaluations
from qad_core.run.show import show_number, show_won_back

NOT_NUMBERS = ("step", "time")
LAST_LINES = 10


def show_metrics(run: str, roots: Sequence[Path], *, key: str | None, as_json: bool) -> None:
    """Print evaluations and the last training lines; with `key`, that series over the steps.

    That there is nothing yet is an answer too; with `key` it is a RunError, as for a key that no line has.
    """
    found = find_run(run, roots)
    lines = read_run_lines(found.folder)
    if not lines and key is not None:
        raise nothing_measured(found)
    if as_json:
        print_json(_as_json(lines, key, found.recovered))
    elif not lines:
        console().print(str(nothing_measured(found)), markup=False, soft_wrap=True)
    elif key is not None:
        steps, values = series(lines, key)
        console().print(f"{key} of {found.name}", markup=False)
        console().print(plot_series(steps, values), markup=False, soft_wrap=True)
    else:
        _print_evaluations(merge_evaluations([], [line for line in lines if is_evaluation(line)]))
        _print_training([line for line in lines if not is_evaluation(line)])
        console().print(f"KL gap won back: {show_won_back(found.recovered)}")


def series(lines: Sequence[MetricsLine], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one key; raises RunError with the nearest key when no line has it."""
    points = [(line.get("step"), line[key]) for line in lines if key in line]
    if not points:
        known = sorted({name for line in lines for name in line if name not in NOT_NUMBERS})
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.3)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise RunError(f"No metric is called {key!r} in this run.", f"{hint}There are: {', '.join(known) or 'none'}.")
    return (
        [float(step or 0) for step, _ in points],
        [float("nan") if value is None else float(value) for _, value in points],
    )


def _as_json(lines: Sequence[MetricsLine], key: str | None, recovered: float | None) -> dict[str, object]:
    if key is not None:
        steps, values = series(lines, key)
        return {"key": key, "step": steps, "value": values}
    return {
        "training": [line for line in lines if not is_evaluation(line)],
        "evaluation": merge_evaluations([], [line for line in lines if is_evaluation(line)]),
        "recovered_fraction": recovered,
    }


def _print_evaluations(evaluations: Sequence[MetricsLine]) -> None:
    table = make_table(">step", ">KL", ">cross-entropy", ">teacher's", ">perplexity", ">top-1 agreement", ">tokens")
    keys = ("eval/kl", "eval/ce", "eval/teacher_ce", "eval/perplexity", "eval/top1_agreement", "eval/tokens")
    for line in evaluations:
        table.add_row(str(int(line.get("step") or 0)), *(show_number(line.get(key)) for key in keys))
    console().print(table)


def _print_training(training: Sequence[MetricsLine]) -> None:
    keys = (
        "loss/kd", "loss/intermediate", "loss/ce", "learning_rate", "grad_norm",
        "step_ms", "tokens_per_s", "memory_gib",
    )  # fmt: skip
    shown = [key for key in keys if any(line.get(key) is not None for line in training)]
    table = make_table(">step", *(f">{key}" for key in shown))
    for line in training[-LAST_LINES:]:
        table.add_row(str(int(line.get("step") or 0)), *(show_number(line.get(key)) for key in shown))
    console().print(table)
