"""Preflight: everything that would make a run fail, or be another run than meant, found before it starts.

Owns the list of checks. It changes no value, starts nothing, and beyond looking at the disk, and at the GPUs and
memory that ranks of this machine would have, depends on the config alone. Each group of checks has its module:
`checks_layout`, `checks_recipe`, `checks_intermediate`, `checks_slurm`, `checks_options`, `checks_text`,
`checks_files`, `forecast`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from qad_core.config.architecture import student_architecture, teacher_architecture
from qad_core.config.checks_files import check_files, check_shapes
from qad_core.config.checks_intermediate import check_intermediate_layers
from qad_core.config.checks_layout import check_layout
from qad_core.config.checks_recipe import check_recipe
from qad_core.config.checks_slurm import check_slurm
from qad_core.config.checks_text import check_texts
from qad_core.config.compose import DEFAULT
from qad_core.config.devices import named_device
from qad_core.config.forecast import forecast_run, memory_problems
from qad_core.config.load import LoadedConfig, ResolvedConfig, try_load_experiment
from qad_core.config.problems import Problem
from qad_core.config.schema import ArchitectureConfig, RunConfig
from qad_core.errors import ConfigError, QadError
from qad_core.run.folder import RunFolder
from qad_core.run.identity import differing_keys
from qad_core.seen import is_there

__all__ = ["Problem", "check_config", "check_experiment", "check_values"]


def check_config(config: RunConfig, *, run_folder: RunFolder | None = None) -> list[Problem]:
    """Every problem of a config at once; `where` names the dotted keys that do not fit.

    With `run_folder`, also whether that folder belongs to another run.
    """
    return [
        *check_values(config),
        *check_files(config),
        *([] if named_device(config.cluster) else memory_problems(forecast_run(config))),
        *(_check_run_folder(run_folder, config) if run_folder is not None else ()),
    ]


def check_values(config: RunConfig) -> list[Problem]:
    """The problems of a config on any machine, whatever else its disk has: of memory where it names the GPU."""
    architecture = _known(student_architecture, config)
    teacher = _known(teacher_architecture, config)
    return [
        *check_texts(config),
        *check_layout(config, architecture, teacher),
        *check_recipe(config, architecture),
        *check_intermediate_layers(config, architecture, teacher),
        *check_slurm(config),
        *check_shapes(config),
        *(memory_problems(forecast_run(config)) if named_device(config.cluster) else []),
    ]


def check_experiment(
    experiment: str,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    *,
    fresh: bool = False,
) -> tuple[ResolvedConfig | None, list[Problem]]:
    """Load an experiment and check it: every problem of its writing and of its values in one list.

    The run folder is the one that the config names; with `fresh` an older run in it does not matter. The
    config is good to run only when the list is empty; it is None when none can be built. `where` names
    the origin beside each key.
    """
    loaded = try_load_experiment(experiment, overrides, environ)
    if loaded.resolved is None:
        # What a `.conf` could not carry over may be what is missing.
        return None, [*loaded.problems, *loaded.notes]
    config = loaded.resolved.config
    folder = None if fresh else RunFolder(config.paths.checkpoint_root / config.run_name)
    found = check_config(config, run_folder=folder)
    return loaded.resolved, _merge(loaded, found)


def _merge(loaded: LoadedConfig, found: Sequence[Problem]) -> list[Problem]:
    """All problems, without those that only follow from a value that was refused."""
    assert loaded.resolved is not None
    known = {problem.what for problem in loaded.problems}
    origins = loaded.resolved.origins
    news = [item for item in found if item.what not in known and not loaded.refused & set(_keys(item))]
    return [*loaded.problems, *(_with_origins(item, origins) for item in news)]


def _keys(problem: Problem) -> list[str]:
    return problem.where.split(", ")


def _with_origins(problem: Problem, origins: Mapping[str, str]) -> Problem:
    named = [(key, origins.get(key, DEFAULT)) for key in _keys(problem)]
    where = ", ".join(key if origin == DEFAULT else f"{key} ({origin})" for key, origin in named)
    return Problem(problem.what, where, problem.hint)


def _known(
    architecture_of: Callable[[RunConfig], ArchitectureConfig | None], config: RunConfig
) -> ArchitectureConfig | None:
    """A shape where it can be known; why it cannot is for `check_files` to say."""
    try:
        return architecture_of(config)
    except ConfigError:
        return None


def _check_run_folder(folder: RunFolder, config: RunConfig) -> Iterator[Problem]:
    way_on = "Take another tag (tag=NAME), or start over in this folder with --fresh."
    try:
        differences = differing_keys(folder, config)
    except QadError as error:
        yield Problem(error.message, "run folder", error.hint)
        return
    for key, theirs, ours in differences:
        yield Problem(f"{folder.path} belongs to another run: {key} is {theirs!r} there, {ours!r} here", key, way_on)
    if not is_there(folder.identity) and any(folder.path.glob("checkpoints/*/iter_*")):
        yield Problem(f"{folder.path} holds checkpoints but no {folder.identity.name}", "run folder", way_on)
