"""`qad_core check`: every problem of an experiment at once, and what the config comes to."""

from __future__ import annotations

from collections.abc import Sequence

from qad_core.commands.experiment import describe_config, with_tag
from qad_core.commands.output import console, make_table, print_json, print_problems
from qad_core.config.checks import check_experiment
from qad_core.config.load import dump_resolved, load_experiment
from qad_core.errors import ExitCode


def check(experiment: str, overrides: Sequence[str], *, tag: str | None, as_json: bool) -> ExitCode:
    """Print the problems, or the numbers of a config without any."""
    resolved, problems = check_experiment(experiment, with_tag(overrides, tag))
    data = describe_config(resolved.config) if resolved else None
    if as_json:
        print_json(data, problems)
    elif problems:
        print_problems(problems)
    elif data:
        table = make_table("", "")
        for key, value in data.items():
            table.add_row(key.replace("_", " "), str(value))
        console().print(table)
        console().print("No problem found.")
    return ExitCode.USER_ERROR if problems else ExitCode.DONE


def show_config(experiment: str, overrides: Sequence[str]) -> None:
    """Print the resolved config with where each value came from; raises InvalidConfigError when there is none."""
    print(dump_resolved(load_experiment(experiment, overrides)), end="")
