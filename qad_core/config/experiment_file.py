"""An experiment written as a file: its parts by name, and only the values that are laid over them.

Owns the text and the writing of it. What the values mean is `load.py`'s; nothing is checked here but that no
secret is written down.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from qad_core.config.compose import (
    Layer,
    PartRequest,
    Settings,
    drop_section,
    is_same_part,
    lay_over,
    read_file_layer,
    read_override_layer,
)
from qad_core.config.fields import FIELDS
from qad_core.config.library import EXPERIMENTS, PART_FOLDERS, SHIPPED, SUFFIXES, ConfigLibrary, find_library
from qad_core.config.paths import expand_user
from qad_core.config.problems import InvalidConfigError
from qad_core.config.secret_values import refuse_secrets
from qad_core.config.yaml_file import read_yaml, write_yaml
from qad_core.errors import ConfigError, RunError, explain_os_error
from qad_core.seen import is_there


def experiment_text(
    experiment: str, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None, description: str = ""
) -> str:
    """YAML that loads to what the experiment with these overrides loads to, in the same environment.

    `experiment` is a name or a path, of a run's config.yaml too: of that, the values that are not the schema's
    defaults are written. Variables of the environment are not: they hold over the file that is written as they
    hold over the experiment. Comments beside values that stay are kept. `description` is the first line; what
    was changed of which experiment, where it is empty.
    Raises InvalidConfigError for what cannot be read, and for values that hold a secret.
    """
    environ = os.environ if environ is None else environ
    library = find_library(environ)
    path = library.find_experiment(experiment)
    layer = read_file_layer(path, library, environ)
    asked = read_override_layer(overrides)
    _take_overrides(layer, asked, library)
    refuse_secrets(layer, environ)
    if layer.problems:
        raise InvalidConfigError(layer.problems)
    settings = layer.settings if layer.parts else _without_defaults(layer.settings)
    kept = read_yaml(path).comments if path.suffix in SUFFIXES and layer.parts else dict[str, str]()
    comments = {key: comment for key, comment in kept.items() if key not in asked.settings and key in settings}
    values = _nest(_written_parts(layer, library), settings)
    return write_yaml(values, lambda key: comments.get(key, ""), description or _default_description(path, overrides))


def experiment_path(name: str, library: ConfigLibrary) -> Path:
    """Where an experiment is to be written: a path as it stands, a bare name in the first configs folder of yours.

    Raises ConfigError for a name that is no file's.
    """
    path = expand_user(name.strip())
    if not path.name or path.name.startswith("."):
        raise ConfigError(f"{name!r} is no name for a file", "Name it with letters, digits and dashes.")
    if len(path.parts) > 1 or path.suffix in SUFFIXES:
        return path if path.suffix in SUFFIXES else path.with_name(f"{path.name}.yaml")
    roots = [root for root in library.roots if root != SHIPPED]
    return (roots[0] if roots else Path("configs")) / EXPERIMENTS / f"{path.name}.yaml"


def write_experiment(text: str, path: Path, *, overwrite: bool = False) -> None:
    """Write the file, with its folder; raises RunError where it is there already or cannot be written."""
    if is_there(path) and not overwrite:
        raise RunError(f"{path} is there already.", "Give another name, or say that it may be overwritten.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise explain_os_error(error) from error


def _take_overrides(layer: Layer, asked: Layer, library: ConfigLibrary) -> None:
    """Lay overrides over a file's layer; a part that is another than the file's own drops the fields over it."""
    for section, request in asked.parts.items():
        own = layer.parts.get(section)
        if own is None or not is_same_part(section, own, request, library):
            drop_section(layer.settings, section)
        layer.parts[section] = request
    lay_over(layer.settings, asked.settings)
    layer.problems += asked.problems


def _without_defaults(settings: Settings) -> Settings:
    """Of a file that names no parts, a run's resolved config for one: the values that it would not have without."""
    return {key: item for key, item in settings.items() if item.value != _plain_default(key)}


def _plain_default(key: str) -> object:
    default = FIELDS[key].default
    if isinstance(default, tuple):
        return list(cast("tuple[object, ...]", default))
    return str(default) if isinstance(default, Path) else default


def _written_parts(layer: Layer, library: ConfigLibrary) -> dict[str, str]:
    return {section: _written_name(section, layer.parts[section], library) for section in layer.parts}


def _written_name(section: str, request: PartRequest, library: ConfigLibrary) -> str:
    """A part's name as it stands; a path as an absolute one, for the file may be written elsewhere."""
    if not request.name.endswith(SUFFIXES):
        return request.name
    return str(library.find_part(section, request.name, request.relative_to).absolute())


def _nest(parts: Mapping[str, str], settings: Settings) -> dict[str, object]:
    """Sections in the schema's order; `model: NAME`, or `use: NAME` first where fields are laid over it."""
    values: dict[str, object] = {}
    for key in FIELDS:
        if key in PART_FOLDERS and key in parts:
            laid_over = any(other.startswith(f"{key}.") for other in settings)
            values[key] = {"use": parts[key]} if laid_over else parts[key]
        elif key in settings:
            *sections, last = key.split(".")
            inner = values
            for section in sections:
                inner = cast("dict[str, object]", inner.setdefault(section, {}))
            inner[last] = settings[key].value
    return values


def _default_description(path: Path, overrides: Sequence[str]) -> str:
    name = path.parent.name if path.stem == "config" else path.stem
    changed = f" with {' '.join(' '.join(overrides).split())}" if overrides else ""
    return f"Saved from {name}{changed}."
