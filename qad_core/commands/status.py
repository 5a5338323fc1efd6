"""`qad_core status`: what every run is doing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from qad_core.commands.output import console, make_table, print_json
from qad_core.commands.runs import find_run, run_as_json, run_roots
from qad_core.run.show import show_duration, show_fraction, show_number
from qad_core.run.store import RunSummary, find_runs

STATE_STYLES = {"running": "green", "done": "bold green", "stopped": "yellow", "failed": "red", "killed": "red"}


def show_status(names: Sequence[str], roots: Sequence[Path], *, as_json: bool) -> None:
    """Print the named runs, or all below the roots."""
    runs = [find_run(name, roots) for name in names] if names else find_runs(run_roots(roots))
    if as_json:
        print_json([run_as_json(run) for run in runs])
    elif runs:
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
