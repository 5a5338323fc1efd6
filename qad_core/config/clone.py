"""A run taken as the start of another: its resolved config, and a tag that keeps the two apart where they need one.

Owns that choice. A run whose changes leave it what it is, a smaller micro batch for one, goes on in its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qad_core.config.load import load_experiment
from qad_core.config.schema import RunConfig
from qad_core.errors import ConfigError
from qad_core.run.folder import RunFolder
from qad_core.run.identity import differing_keys
from qad_core.seen import is_there

COPY_TAG = "copy"
_MOST_COPIES = 1000


def clone_overrides(config_file: Path, changes: Sequence[str], environ: Mapping[str, str] | None = None) -> list[str]:
    """The changes of a clone, and a free tag where it would meet another run's folder.

    Without changes it always gets one: a second run of the same config. Raises ConfigError, as `load_experiment`
    does, where the config or a change cannot be used, and RunError for a run.json that cannot be read.
    """
    config = load_experiment(str(config_file), changes, environ).config
    folder = RunFolder(config.paths.checkpoint_root / config.run_name)
    names_a_tag = any(change.partition("=")[0].strip() == "tag" for change in changes)
    if names_a_tag or not is_there(folder.path) or (changes and not differing_keys(folder, config)):
        return list(changes)
    return [*changes, f"tag={free_tag(config)}"]


def free_tag(config: RunConfig) -> str:
    """A tag whose run folder is not there yet: `copy`, `copy-2`, or so after the tag that the config has."""
    base = config.tag or COPY_TAG
    start = 2 if config.tag else 1
    for number in range(start, _MOST_COPIES):
        tag = base if number == 1 else f"{base}-{number}"
        if not is_there(config.paths.checkpoint_root / config.model_copy(update={"tag": tag}).run_name):
            return tag
    raise ConfigError(f"there are {_MOST_COPIES} copies of {config.run_name}", "Name a tag yourself: tag=NAME.")
