"""The paths of a config counted from the working directory once, when it is loaded.

A run folder's config is read again by processes started elsewhere, and a run is resumed from
elsewhere: a path must not mean another file then. Weights and tokenizers count from `models_root`.
"""

from __future__ import annotations

from pathlib import Path

from qad_core.config.paths import expand_user
from qad_core.config.schema import DatasetConfig, PathsConfig, RunConfig


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The config with absolute `paths`, `dataset.blend` and `dataset.source.paths`, and `~` replaced by its folder.

    Raises ConfigError for the `~name` of somebody who has no home here.
    """
    paths = PathsConfig(**{name: _absolute(getattr(config.paths, name)) for name in PathsConfig.model_fields})
    return config.model_copy(update={"paths": paths, "dataset": _with_absolute_files(config.dataset)})


def _with_absolute_files(dataset: DatasetConfig) -> DatasetConfig:
    blend = None if dataset.blend is None else str(_absolute(dataset.blend))
    if dataset.source is None:
        return dataset.model_copy(update={"blend": blend})
    files = tuple(str(_absolute(path)) for path in dataset.source.paths)
    return dataset.model_copy(update={"blend": blend, "source": dataset.source.model_copy(update={"paths": files})})


def _absolute(path: str | Path) -> Path:
    return expand_user(path).absolute()
