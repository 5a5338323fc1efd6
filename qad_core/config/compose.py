"""Layers of settings laid over each other: parts, the experiment, the environment, the command line.

Owns precedence and the origin of each value. It reads the files that an experiment names; checking
values against the schema is `validate.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from qad_core.config.conf_file import read_conf
from qad_core.config.conf_settings import place_of
from qad_core.config.environment import environment_values
from qad_core.config.fields import FIELDS
from qad_core.config.kd_config import KD_CONFIG, read_kd_config
from qad_core.config.library import CONF_SUFFIX, PART_FOLDERS, ConfigLibrary
from qad_core.config.paths import expand_user
from qad_core.config.problems import Problem
from qad_core.config.values import parse_override, parse_value, unknown_key_hint
from qad_core.config.yaml_file import YamlFile, read_yaml
from qad_core.errors import ConfigError

COMMAND_LINE = "command line"
DEFAULT = "default"


@dataclass(frozen=True)
class Setting:
    """One value that somebody wrote."""

    value: object
    origin: str
    """`file configs/models/tiny.yaml`, `environment LR`, or `command line`."""
    place: str
    """The origin as an error shows it: with the line, or the override."""


Settings = dict[str, Setting]
"""Dotted key -> setting."""


@dataclass(frozen=True)
class PartRequest:
    """`model: tiny`, wherever it was written."""

    name: str
    place: str
    relative_to: Path
    """Folder that a part's path starts from."""


@dataclass
class Layer:
    """What one file, the environment, or the command line says."""

    settings: Settings = field(default_factory=dict[str, Setting])
    parts: dict[str, PartRequest] = field(default_factory=dict[str, PartRequest])
    problems: list[Problem] = field(default_factory=list[Problem])
    notes: list[Problem] = field(default_factory=list[Problem])
    """What the reader should know, without anything being wrong."""
    broken: set[str] = field(default_factory=set[str])
    """Sections in which something is written wrong, so that what they lack is no news."""

    def blame(self, key: str, what: str, place: str, hint: str) -> None:
        """Add a problem with what was written for a dotted key."""
        self.problems.append(Problem(what, place, hint))
        self.broken.add(key.split(".")[0])

    def take(self, other: Layer) -> None:
        """Lay a stronger layer over this one; its parts stay where they are."""
        lay_over(self.settings, other.settings)
        self.problems += other.problems
        self.notes += other.notes
        self.broken |= other.broken


@dataclass(frozen=True)
class _Source:
    """Where the values that are being added come from."""

    origin: str
    place_of: Callable[[str], str]
    folder: Path


def compose(experiment: Path, overrides: Sequence[str], environ: Mapping[str, str], library: ConfigLibrary) -> Layer:
    """All settings of an experiment, the strongest of each key, and what is wrong with their writing.

    Command line over environment over experiment file over part file; a KD config counts as what names it. A part
    named on the command line or in the environment, other than the experiment's own, drops the fields that the
    experiment file lays over its part; the environment's and the command line's fields hold for any part.
    """
    file = read_file_layer(experiment, library, environ)
    environment = read_environment_layer(environ)
    command_line = read_override_layer(overrides)
    result = Layer()
    for section in PART_FOLDERS:
        own = file.parts.get(section)
        asked = command_line.parts.get(section) or environment.parts.get(section)
        if asked is not None and (own is None or not is_same_part(section, own, asked, library)):
            drop_section(file.settings, section)
        chosen = asked or own
        if chosen is not None:
            result.take(read_part_layer(section, chosen, library))
    for layer in (file, environment, command_line):
        result.take(_over_kd_config(layer, library))
    return result


def drop_section(settings: Settings, section: str) -> None:
    """Remove every field of a section."""
    for key in [key for key in settings if key.startswith(f"{section}.")]:
        del settings[key]


def lay_over(lower: Settings, upper: Settings) -> None:
    """Put the settings of `upper` into `lower`; a section set to null removes its fields, and a field the null."""
    for key, setting in upper.items():
        for other in [other for other in lower if other.startswith(f"{key}.") or key.startswith(f"{other}.")]:
            del lower[other]
        lower[key] = setting


def read_file_layer(path: Path, library: ConfigLibrary, environ: Mapping[str, str]) -> Layer:
    """The layer of an experiment file, YAML or `.conf` (or of a resolved config, which names no parts).

    `environ` has the variables that a `.conf` may refer to.
    """
    if path.suffix == CONF_SUFFIX:
        return _read_conf_layer(path, library, environ)
    layer = Layer()
    try:
        file = read_yaml(path)
    except ConfigError as error:
        layer.blame("", error.message, library.display(path), error.hint)
        layer.broken.update(FIELDS)
        return layer
    source = _file_source(file, library, "")
    for key, value in file.values.items():
        _add(layer, key, value, source)
    return layer


def read_part_layer(section: str, request: PartRequest, library: ConfigLibrary) -> Layer:
    """The layer of one part file; its keys are the section's fields."""
    layer = Layer()
    try:
        path = library.find_part(section, request.name, request.relative_to)
        file = read_yaml(path)
    except ConfigError as error:
        layer.blame(section, error.message, request.place, error.hint)
        return layer
    _add(layer, section, file.values, _file_source(file, library, f"{section}."))
    for asked in layer.parts.values():
        layer.blame(section, "a part cannot use another part", asked.place, "Write its fields out here.")
    return layer


def read_environment_layer(environ: Mapping[str, str]) -> Layer:
    """The layer of the environment variables of `environment.py`."""
    layer = Layer()
    for name, key, text in environment_values(environ):
        source = _Source(f"environment {name}", lambda _, name=name: f"environment {name}", Path())
        _add_text(layer, key, text, source)
    return layer


def read_override_layer(overrides: Sequence[str]) -> Layer:
    """The layer of the command line's `key=value`s; the last one of a key counts."""
    layer = Layer()
    for text in overrides:
        source = _Source(COMMAND_LINE, lambda _, text=text: f"{COMMAND_LINE}: {text}", Path())
        try:
            key, value = parse_override(text)
        except ConfigError as error:
            layer.blame(text.partition("=")[0], error.message, source.place_of(""), error.hint)
        else:
            _add(layer, key, value, source)
    return layer


def _over_kd_config(layer: Layer, library: ConfigLibrary) -> Layer:
    """The layer with the values of the KD YAML that it names under its own; the layer itself where it names none."""
    named = layer.settings.get(KD_CONFIG)
    if named is None or not isinstance(named.value, str):
        return layer
    path = expand_user(named.value)
    found = read_kd_config(path)
    origin = f"file {library.display(path)}"
    result = Layer({key: Setting(value, origin, place) for key, (value, place) in found.values.items()})
    for problem in found.problems:
        result.blame(KD_CONFIG, problem.what, problem.where or named.place, problem.hint)
    result.notes += found.notes
    result.parts.update(layer.parts)
    result.take(layer)
    return result


def _read_conf_layer(path: Path, library: ConfigLibrary, environ: Mapping[str, str]) -> Layer:
    conf = read_conf(path, library, environ)
    layer = Layer(problems=list(conf.problems), notes=list(conf.notes), broken=set(FIELDS if conf.problems else ()))
    for entry in conf.entries:
        place = place_of(conf.name, entry.line)
        _add_text(layer, entry.key, entry.text, _Source(f"file {conf.name}", lambda _, place=place: place, path.parent))
    return layer


def _file_source(file: YamlFile, library: ConfigLibrary, prefix: str) -> _Source:
    name = library.display(file.path)

    def place_of(key: str) -> str:
        line = file.lines.get(key.removeprefix(prefix))
        return name if line is None else f"{name} line {line}"

    return _Source(f"file {name}", place_of, file.path.parent)


def _add_text(layer: Layer, key: str, text: str, source: _Source) -> None:
    try:
        value = parse_value(text, FIELDS[key])
    except ConfigError as error:
        layer.blame(key, error.message, source.place_of(key), error.hint)
    else:
        _add(layer, key, value, source)


def _add(layer: Layer, key: str, value: object, source: _Source) -> None:
    spec = FIELDS.get(key)
    place = source.place_of(key)
    if spec is None:
        layer.blame(key, f"{key!r} is not a key of the config", place, unknown_key_hint(key))
    elif spec.section is None or (value is None and spec.optional):
        lay_over(layer.settings, {key: Setting(value, source.origin, place)})
    elif isinstance(value, str) and key in PART_FOLDERS:
        layer.parts[key] = PartRequest(value, place, source.folder)
    elif isinstance(value, dict):
        _add_section(layer, key, cast("dict[str, object]", value), source)
    elif value is not None:
        names = ", ".join(spec.section.model_fields)
        layer.blame(key, f"{key} = {value!r} is not a section", place, f"Its fields are: {names}.")


def _add_section(layer: Layer, key: str, values: Mapping[str, object], source: _Source) -> None:
    for name, value in values.items():
        inner = f"{key}.{name}"
        if name != "use" or key not in PART_FOLDERS:
            _add(layer, inner, value, source)
        elif isinstance(value, str):
            layer.parts[key] = PartRequest(value, source.place_of(inner), source.folder)
        else:
            hint = f"Name a file of configs/{PART_FOLDERS[key]}."
            layer.blame(key, f"{inner} = {value!r} is not a part's name", source.place_of(inner), hint)


def is_same_part(section: str, own: PartRequest, asked: PartRequest, library: ConfigLibrary) -> bool:
    """Whether two requests find the same file."""
    try:
        return library.find_part(section, own.name, own.relative_to) == library.find_part(
            section, asked.name, asked.relative_to
        )
    except ConfigError:
        return False  # the one that is not there is reported where it is read
