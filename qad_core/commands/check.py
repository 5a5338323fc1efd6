"""`qad_core check`: every problem of an experiment at once, and what the config comes to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from qad_core.commands.experiment import describe_config, run_folder_of, with_tag
from qad_core.commands.output import console, error_console, make_table, print_json, print_notes, print_problems
from qad_core.commands.rehearse import rehearse as run_rehearsal
from qad_core.commands.runs import find_run_folder
from qad_core.config.checks import check_config, check_experiment, check_values
from qad_core.config.forecast import Forecast, forecast_run, memory_notes
from qad_core.config.forecast_words import cost_words, forecast_data, memory_rows, memory_words
from qad_core.config.load import dump_resolved, load_experiment, read_resolved
from qad_core.config.problems import Problem
from qad_core.config.schema import RunConfig
from qad_core.errors import ExitCode, RunError
from qad_core.launch.trial import find_refusal
from qad_core.seen import is_file
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import SlurmMissing, SlurmUnavailable


def check(
    experiment: str, overrides: Sequence[str], *, tag: str | None, rehearse: bool = False, as_json: bool = False
) -> int:
    """Print the numbers of a config, as far as they are known, and its problems; with `rehearse`, run it shrunken.

    A rehearsal needs neither the weights, the data nor the GPUs of the run: what this machine lacks of them is
    told, and stops it not.
    """
    resolved, problems = check_experiment(experiment, with_tag(overrides, tag))
    missing = _missing_here(resolved.config, problems) if rehearse and resolved is not None else []
    problems = [problem for problem in problems if problem not in missing]
    if resolved is not None and not problems:
        problems = _ask_slurm(resolved.config)
        if rehearse and not problems:
            return run_rehearsal(resolved.config, missing, as_json=as_json)
    data = describe_config(resolved.config) if resolved else None
    forecast = forecast_run(resolved.config) if resolved else None
    notes = [*(resolved.notes if resolved else ()), *memory_notes(forecast)]
    if as_json:
        listed = [dataclasses.asdict(note) for note in notes]
        predicted = forecast_data(forecast) if forecast else {}
        print_json({**data, **predicted, "notes": listed} if data else None, problems)
        return ExitCode.USER_ERROR if problems else ExitCode.DONE
    print_notes(notes)
    if data:
        table = make_table("", "")
        for key, value in data.items():
            table.add_row(key.replace("_", " "), str(value))
        console().print(table)
    if forecast:
        _print_forecast(forecast)
    if problems:
        print_problems(problems)
    else:
        console().print("No problem found.")
    return ExitCode.USER_ERROR if problems else ExitCode.DONE


def _missing_here(config: RunConfig, problems: Sequence[Problem]) -> list[Problem]:
    """Those of a config's problems that are this machine's: files, folders, and the memory of its own devices."""
    found = {problem.what for problem in check_config(config, run_folder=run_folder_of(config))}
    found -= {problem.what for problem in check_values(config)}
    return [problem for problem in problems if problem.what in found]


def _print_forecast(forecast: Forecast) -> None:
    """The memory of a rank by its parts, against the device's, and what the run takes."""
    table = make_table("memory a rank", ">GiB")
    for part, size in memory_rows(forecast.memory):
        table.add_row(part, size)
    out = console()
    out.print(table)
    out.print(f"memory {memory_words(forecast)}", markup=False)
    out.print(f"time {cost_words(forecast.cost)}", markup=False)


def _ask_slurm(config: RunConfig) -> list[Problem]:
    """What SLURM itself says against a job on its cluster: only it knows its partitions and accounts."""
    if config.cluster.kind != "slurm":
        return []
    try:
        refusal = find_refusal(SlurmClient(), config, Path.cwd())
    except (SlurmMissing, SlurmUnavailable) as error:
        error_console().print(f"note: partition, account and GPUs are not checked: {error.message}", markup=False)
        return []
    return [] if refusal is None else [refusal]


def show_config(experiment: str, overrides: Sequence[str], roots: Sequence[Path]) -> None:
    """Print the resolved config of an experiment or a run with where each value came from.

    Raises InvalidConfigError, or RunError, when there is none.
    """
    run = find_run_folder(experiment, roots)
    if run is None:
        resolved = load_experiment(experiment, overrides)
    elif not is_file(run.config):
        raise RunError(f"The run {run.name} has no config.yaml.", "Only runs that this program has made have one.")
    else:
        resolved = load_experiment(str(run.config), overrides) if overrides else read_resolved(run.config)
    print(dump_resolved(resolved), end="")
