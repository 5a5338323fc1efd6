"""`qad_core status`: what every run is doing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from qad_core.commands.output import console, error_console, make_table, print_json
from qad_core.commands.runs import find_run, run_as_json, run_roots
from qad_core.config.problems import Problem
from qad_core.errors import ExitCode, explain_os_error
from qad_core.run.show import show_duration, show_fraction, show_number
from qad_core.run.store import RunSummary, find_run_paths, summarize_run

STATE_STYLES = {"running": "green", "done": "bold green", "stopped": "yellow", "failed": "red", "killed": "red"}


def show_status(names: Sequence[str], roots: Sequence[Path], *, as_json: bool) -> ExitCode:
    """Print the named runs, or all below the roots; exit 2 when some of those cannot be read."""
    runs, problems = ([find_run(name, roots) for name in names], []) if names else _read_all(run_roots(roots))
    if as_json:
        print_json([run_as_json(run) for run in runs], problems)
    else:
        _print_runs(runs, roots)
        for problem in problems:
            error_console().print(str(problem), markup=False)
    return ExitCode.USER_ERROR if problems else ExitCode.DONE


def _read_all(roots: Sequence[Path]) -> tuple[list[RunSummary], list[Problem]]:
    """Every run that can be read, the latest changed first, and what is wrong with the others."""
    runs: list[RunSummary] = []
    problems: list[Problem] = []
    for path in find_run_paths(roots):
        try:
            runs.append(summarize_run(path))
        except OSError as error:
            explained = explain_os_error(error)
            problems.append(Problem(explained.message, path.name, explained.hint))
    return sorted(runs, key=lambda run: (-run.updated, run.name)), problems


def _print_runs(runs: Sequence[RunSummary], roots: Sequence[Path]) -> None:
    if runs:
        _print_table(runs)
    else:
        places = ", ".join(str(root) for root in run_roots(roots))
        console().print(f"No runs in {places}. `qad_core train tiny` makes one in under a minute.")


def _print_table(runs: Sequence[RunSummary]) -> None:
    table = make_table("run", "state", ">step", ">loss", ">KL at 0", ">KL now", ">won back", ">left", ">changed")
    for run in runs:
        age = show_duration(max(time.time() - run.updated, 0)) + " ago" if run.updated else "-"
        style = STATE_STYLES.get(run.state, "")
        table.add_row(
            run.name,
            f"[{style}]{run.state}[/]" if style else run.state,
            f"{run.step}/{run.train_iterations or '?'}",
            show_number(run.loss),
            show_number(run.first_kl),
            show_number(run.last_kl),
            show_fraction(run.recovered),
            show_duration(run.eta_seconds),
            age,
        )
    out = console()
    out.print(table)
    for run in runs:
        if run.state in ("failed", "killed", "stopped"):
            out.print(f"{run.name}: {run.words}", markup=False)
            if run.status and run.status.hint:
                out.print(f"  {run.status.hint}", markup=False)
