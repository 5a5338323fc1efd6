"""The paths of a config counted from the working directory once, when it is loaded.

A run folder's config is read again by processes started elsewhere, and a run is resumed from
elsewhere: a path must not mean another file then. Weights and tokenizers count from `models_root`.
"""

from __future__ import annotations

from pathlib import Path

from qad_core.config.paths import expand_user
from qad_core.config.schema import DatasetConfig, PathsConfig, RunConfig, Section, SourceConfig


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The config with absolute `paths` and files of the other sections, and `~` replaced by its folder.

    Those are `model.teacher_config`, `dataset.blend`, the paths of its sources and `distillation.config`.
    Raises ConfigError for the `~name` of somebody who has no home here.
    """
    paths = PathsConfig(**{name: _absolute(getattr(config.paths, name)) for name in PathsConfig.model_fields})
    changed = {
        "paths": paths,
        "dataset": _with_absolute_files(config.dataset),
        "model": _with_absolute_field(config.model, "teacher_config"),
        "distillation": _with_absolute_field(config.distillation, "config"),
    }
    return config.model_copy(update=changed)


def _with_absolute_field(section: Section, name: str) -> Section:
    path: str | None = getattr(section, name)
    return section if path is None else section.model_copy(update={name: str(_absolute(path))})


def _with_absolute_files(dataset: DatasetConfig) -> DatasetConfig:
    return dataset.model_copy(
        update={
            "blend": None if dataset.blend is None else str(_absolute(dataset.blend)),
            "source": None if dataset.source is None else _with_absolute_source(dataset.source),
            "sources": {name: _with_absolute_source(source) for name, source in dataset.sources.items()},
        }
    )


def _with_absolute_source(source: SourceConfig) -> SourceConfig:
    return source.model_copy(update={"paths": tuple(str(_absolute(path)) for path in source.paths)})


def _absolute(path: str | Path) -> Path:
    return expand_user(path).absolute()
