"""`qad_core config save` and `config clone`: an experiment with changes, or a run, as an experiment's file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.commands.output import console, print_json
from qad_core.commands.runs import find_run
from qad_core.config.clone import clone_overrides
from qad_core.config.experiment_file import experiment_path, experiment_text, write_experiment
from qad_core.config.library import find_library
from qad_core.config.load import load_experiment
from qad_core.errors import RunError
from qad_core.seen import is_file, is_there


@dataclass(frozen=True)
class SaveOptions:
    """Where and how the file is written."""

    out: str
    """A path, or a bare name for the first configs folder of yours."""
    description: str = ""
    """First line of the file; what was changed unless given."""
    overwrite: bool = False
    as_json: bool = False


def save(experiment: str, overrides: Sequence[str], options: SaveOptions) -> None:
    """Write the experiment with these overrides.

    Raises InvalidConfigError for what cannot be read, and RunError where the file is there already or cannot be
    written. Whether the config is good to run is `check`'s to say.
    """
    path = experiment_path(options.out, find_library(os.environ))
    write_experiment(
        experiment_text(experiment, overrides, description=options.description), path, overwrite=options.overwrite
    )
    _tell(path, {"path": path, "overrides": list(overrides)}, f"written: {path}", options)


def clone(run: str, changes: Sequence[str], roots: Sequence[Path], options: SaveOptions) -> None:
    """Write a run's config with changes, and a tag where it would meet another run's folder; raises as `save`."""
    folder = find_run(run, roots).folder
    if not is_file(folder.config):
        raise RunError(f"The run {folder.name} has no config.yaml.", "Only runs that this program has made can be.")
    overrides = clone_overrides(folder.config, changes)
    config = load_experiment(str(folder.config), overrides).config
    path = experiment_path(options.out, find_library(os.environ))
    text = experiment_text(str(folder.config), overrides, description=options.description)
    write_experiment(text, path, overwrite=options.overwrite)
    planned = config.paths.checkpoint_root / config.run_name
    goes_on = is_there(planned)
    words = f"written: {path}\nrun folder: {planned}" + (" (is there: the run goes on in it)" if goes_on else " (new)")
    data = {"path": path, "overrides": overrides, "run_folder": planned, "goes_on": goes_on}
    _tell(path, data, words, options)


def _tell(path: Path, data: Mapping[str, object], words: str, options: SaveOptions) -> None:
    if options.as_json:
        print_json(data)
    else:
        console().print(words, markup=False, soft_wrap=True)
        console().print(f"next: qad_core check {path}", markup=False, soft_wrap=True)
