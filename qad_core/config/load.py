"""An experiment and its overrides turned into one `RunConfig`, and resolved configs written and read back.

Owns what the rest of the product calls. Files and precedence are `compose.py`; whether the fields
fit each other, the disk and the machines is `checks.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic_core import to_jsonable_python

from qad_core.config.absolute_paths import with_absolute_paths
from qad_core.config.architecture import architecture_file, with_architecture
from qad_core.config.compose import DEFAULT, Layer, compose, read_file_layer
from qad_core.config.fields import FIELDS
from qad_core.config.library import ConfigLibrary, find_library
from qad_core.config.problems import InvalidConfigError, Problem
from qad_core.config.schema import RunConfig, Section
from qad_core.config.secret_values import Secrets, refuse_secrets
from qad_core.config.validate import build_config
from qad_core.config.yaml_file import read_yaml, write_yaml
from qad_core.errors import ConfigError


@dataclass(frozen=True)
class ResolvedConfig:
    """A config and where each of its values came from."""

    config: RunConfig
    origins: dict[str, str]
    """Dotted key -> `file configs/models/tiny.yaml`, `environment LR`, `command line`, or `default`."""
    notes: tuple[Problem, ...] = ()
    """What is not carried over from a `.conf`, or was added to it; none of it keeps the run from starting."""


@dataclass(frozen=True)
class LoadedConfig:
    """What could be loaded, and what is wrong with it."""

    resolved: ResolvedConfig | None
    """None when no config can be built; one to check further, not to run, when there are problems."""
    problems: tuple[Problem, ...]
    refused: frozenset[str] = frozenset()
    """Keys whose written value was refused and left out."""
    notes: tuple[Problem, ...] = ()
    """As in `ResolvedConfig`, also where there is none."""


def load_experiment(
    experiment: str, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> ResolvedConfig:
    """The config of an experiment: `key=value` overrides over the environment over the file over its parts.

    `experiment` is a path or a name in configs/experiments; `environ` is os.environ unless given.
    Raises InvalidConfigError, a ConfigError, with every problem of the files, variables and overrides.
    """
    loaded = try_load_experiment(experiment, overrides, environ)
    if loaded.problems or loaded.resolved is None:
        raise InvalidConfigError(loaded.problems)
    return loaded.resolved


def try_load_experiment(
    experiment: str, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> LoadedConfig:
    """As `load_experiment`, but with the problems returned beside what is left, for further checks."""
    environ = os.environ if environ is None else environ
    try:
        library = find_library(environ)
        path = library.find_experiment(experiment)
    except ConfigError as error:
        return LoadedConfig(None, (Problem(error.message, "experiment", error.hint),))
    layer = compose(path, overrides, environ, library)
    secret = refuse_secrets(layer, environ)
    return _finish(layer, secret, environ)


def dump_resolved(resolved: ResolvedConfig) -> str:
    """YAML that `read_resolved` turns into the same config; a comment says where each value came from."""
    found = dict(config_values(resolved.config))

    def comment_of(key: str) -> str:
        if key not in FIELDS or FIELDS[key].section is not None:
            return ""  # a section, or what is inside a field that is a mapping
        origin = resolved.origins.get(key, DEFAULT)
        # A default path that has been made absolute reads back as a default by its comment.
        return "" if origin == DEFAULT and found.get(key) == FIELDS[key].default else origin

    values = cast("dict[str, object]", resolved.config.model_dump(mode="json"))
    return write_yaml(values, comment_of, "Resolved config of one run; a value without a comment is the default.")


def read_resolved(path: Path) -> ResolvedConfig:
    """A config that `dump_resolved` wrote; raises InvalidConfigError where it is none (any more)."""
    library = ConfigLibrary(())
    layer = read_file_layer(path, library, {})
    for section, part in layer.parts.items():
        layer.blame(section, f"{section} names a part", part.place, "Here must be the section's own fields.")
    config, problems, _ = build_config(layer)
    if problems or config is None:
        raise InvalidConfigError(problems)
    comments = read_yaml(path).comments

    def origin_of(key: str, value: object) -> str:
        return comments.get(key) or (DEFAULT if value == FIELDS[key].default else f"file {path}")

    return ResolvedConfig(config, {key: origin_of(key, value) for key, value in config_values(config)})


def config_values(section: Section, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of every field of a config; a section that is null is one value, a mapping a plain one."""
    for name in type(section).model_fields:
        value: object = getattr(section, name)
        if isinstance(value, Section):
            yield from config_values(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", to_jsonable_python(value) if isinstance(value, dict) else value


def _finish(layer: Layer, secret: frozenset[str], environ: Mapping[str, str]) -> LoadedConfig:
    """The config of a layer from which the keys in `secret` were taken out."""
    config, problems, refused = build_config(layer)
    problems, refused = Secrets.of(environ).hide_in(problems), refused | secret
    notes = tuple(layer.notes)
    if config is None:
        return LoadedConfig(None, tuple(problems), refused, notes)
    origins = {
        key: layer.settings[key].origin if key in layer.settings else DEFAULT for key, _ in config_values(config)
    }
    try:
        config = with_absolute_paths(config)
    except ConfigError as error:
        problems.append(Problem(error.message, "paths, dataset.blend, dataset.source.paths", error.hint))
    try:
        path = architecture_file(config)
        config = with_architecture(config)
    except ConfigError as error:
        problems.append(Problem(error.message, "model.weights", error.hint))
        path = None
    if path is not None:
        origins = {key: origins.get(key, f"file {path}") for key, _ in config_values(config)}
    return LoadedConfig(ResolvedConfig(config, origins, notes), tuple(problems), refused, notes)
