"""`qad_core compare`: runs side by side, what differs in their configs and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qad_core.commands.output import console, make_table, print_json
from qad_core.commands.runs import find_run, run_as_json
from qad_core.config.load import config_values, read_resolved
from qad_core.errors import RunError
from qad_core.run.show import show_fraction, show_number
from qad_core.run.store import RunSummary


def compare_runs(names: Sequence[str], roots: Sequence[Path], *, as_json: bool) -> None:
    """Print the config keys in which the runs differ, and their first and last evaluations."""
    if len(names) < 2:
        raise RunError(f"Only one run is named: {names[0]}.", "Name two or more to compare.")
    runs = [find_run(name, roots) for name in names]
    differences = differing_values(runs)
    if as_json:
        print_json(
            {
                "runs": [{**run_as_json(run), "evaluation": list(run.evaluations)} for run in runs],
                "config": {key: list(values) for key, values in differences.items()},
            }
        )
        return
    _print_results(runs)
    _print_differences(runs, differences)


def differing_values(runs: Sequence[RunSummary]) -> dict[str, tuple[object, ...]]:
    """Dotted key -> its value in each run, where they are not all the same; None where a run has no such key."""
    configs = [dict(config_values(read_resolved(run.folder.config).config)) for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    values = {key: tuple(config.get(key) for config in configs) for key in keys}
    return {key: found for key, found in values.items() if any(one != found[0] for one in found)}


def _print_results(runs: Sequence[RunSummary]) -> None:
    table = make_table("", *(f">{run.name}" for run in runs))
    table.add_row("state", *(run.state for run in runs))
    table.add_row("step", *(f"{run.step}/{run.train_iterations or '?'}" for run in runs))
    table.add_row("training loss", *(show_number(run.loss) for run in runs))
    table.add_row("tokens/s", *(show_number(run.tokens_per_s) for run in runs))
    for label, key in (
        ("KL", "eval/kl"),
        ("cross-entropy", "eval/ce"),
        ("perplexity", "eval/perplexity"),
        ("top-1 agreement", "eval/top1_agreement"),
    ):
        table.add_row(f"{label}, first -> last", *(_first_and_last(run, key) for run in runs))
    table.add_row("KL gap won back", *(show_fraction(run.recovered) for run in runs))
    console().print(table)


def _first_and_last(run: RunSummary, key: str) -> str:
    if not run.evaluations:
        return "-"
    return f"{show_number(run.evaluations[0].get(key))} -> {show_number(run.evaluations[-1].get(key))}"


def _print_differences(runs: Sequence[RunSummary], differences: dict[str, tuple[object, ...]]) -> None:
    if not differences:
        console().print("Their configs are the same.")
        return
    table = make_table("differs", *(f">{run.name}" for run in runs))
    for key, values in differences.items():
        table.add_row(key, *(str(value) for value in values))
    console().print(table)
