"""An experiment with changes, looked at before anything is started: its values, its problems, its cost, its script.

Owns what the form of a new run shows; `qad_core check` and `--dry-run` say the same on the command line. It looks
at the disk and starts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.config.checks import check_experiment
from qad_core.config.compose import (
    DEFAULT,
    PartRequest,
    compose,
    read_environment_layer,
    read_file_layer,
    read_override_layer,
)
from qad_core.config.fields import FIELDS
from qad_core.config.forecast import Forecast, forecast_run, memory_notes
from qad_core.config.library import PART_FOLDERS, find_library
from qad_core.config.load import ResolvedConfig
from qad_core.config.problem_keys import keys_of_problem
from qad_core.config.problems import Problem
from qad_core.config.schema import RunConfig
from qad_core.config.secret_values import refuse_secrets
from qad_core.config.value_text import value_text
from qad_core.errors import ConfigError, QadError, explain_os_error
from qad_core.launch.draft_numbers import DraftNumbers, number_draft
from qad_core.launch.plan import make_plan
from qad_core.launch.plan_words import describe_commands
from qad_core.launch.sbatch import BatchJob, make_script
from qad_core.run.folder import RunFolder

CHAIN_WORD, TIME_WORD = "CHAIN", "TIME"
"""What stands in a script that is shown where the submission puts a chain's token and the time."""


@dataclass(frozen=True)
class ShownValue:
    """A value as a field shows it, and where it comes from."""

    text: str
    origin: str
    """`file configs/models/tiny.yaml`, `environment LR` or `default`."""


@dataclass(frozen=True)
class DraftProblem:
    """A problem, and the fields that it is about."""

    problem: Problem
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Draft:
    """What is known of an experiment with changes."""

    parts: Mapping[str, str]
    """Section -> name of the part in it; sections without one are not in it."""
    values: Mapping[str, ShownValue]
    """Dotted key -> value before the changes of single values, for every field that somebody set or that has a
    default; the parts are those of the changes."""
    problems: tuple[DraftProblem, ...]
    notes: tuple[Problem, ...] = ()
    config: RunConfig | None = None
    """None where none can be built; not good to run while there are problems."""
    numbers: DraftNumbers | None = None
    forecast: Forecast | None = None
    """Of memory and time; None where it cannot be made."""
    script: str = ""
    """The batch script, or the commands of the ranks; empty where there is no config."""


def examine_draft(
    experiment: str,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    *,
    fresh: bool = False,
    like: Path | None = None,
) -> Draft:
    """Everything at once; what is wrong is in the draft and never raised.

    `fresh` is whether an older run in the folder is to be moved aside; `like` is the folder of a run whose
    pace is taken where the new one has none.
    """
    environ = os.environ if environ is None else environ
    try:
        resolved, problems = check_experiment(experiment, overrides, environ, fresh=fresh)
        parts, values = _shown(experiment, overrides, environ)
        script = _preview(resolved, environ) if resolved else ""
        numbers = number_draft(resolved.config, fresh=fresh, like=like) if resolved else None
        forecast = forecast_run(resolved.config) if resolved else None
    except QadError as error:
        return Draft({}, {}, (DraftProblem(Problem(error.message, "", error.hint), ()),))
    except OSError as error:
        known = explain_os_error(error)
        return Draft({}, {}, (DraftProblem(Problem(known.message, "", known.hint), ()),))
    return Draft(
        parts,
        values,
        tuple(DraftProblem(problem, keys_of_problem(problem)) for problem in problems),
        (*(resolved.notes if resolved else ()), *memory_notes(forecast)),
        resolved.config if resolved else None,
        numbers,
        forecast,
        script,
    )


def _preview(resolved: ResolvedConfig, environ: Mapping[str, str]) -> str:
    config = resolved.config
    folder = RunFolder(config.paths.checkpoint_root / config.run_name)
    if config.cluster.kind == "slurm":
        return make_script(config, BatchJob(folder, CHAIN_WORD, TIME_WORD, Path.cwd()))
    try:
        return describe_commands(make_plan(config, folder.path, environ))
    except ConfigError as error:
        return f"# {error.message}\n# {error.hint}\n"


def _shown(
    experiment: str, overrides: Sequence[str], environ: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, ShownValue]]:
    """Parts, and values by key; both empty where the experiment is not found, which is a problem by itself."""
    library = find_library(environ)
    try:
        path = library.find_experiment(experiment)
    except ConfigError:
        return {}, {}
    asked = [text for text in overrides if text.partition("=")[0].strip() in PART_FOLDERS]
    layer = compose(path, asked, environ, library)
    refuse_secrets(layer, environ)
    values = {key: ShownValue(value_text(item.value), item.origin) for key, item in layer.settings.items()}
    for key, field in FIELDS.items():
        if field.section is None and key not in values and field.has_default:
            values[key] = ShownValue(value_text(field.default), DEFAULT)
    layers = (read_file_layer(path, library, environ), read_environment_layer(environ), read_override_layer(asked))
    parts: dict[str, PartRequest] = {}
    for one in layers:
        parts.update(one.parts)
    return {section: request.name for section, request in parts.items()}, values
