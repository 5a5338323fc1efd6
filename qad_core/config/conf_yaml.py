"""The settings of a `.conf` as the YAML of an experiment, each with the variable and the line that it comes from.

Owns the text; it writes no file.
"""

from __future__ import annotations

from typing import cast

from qad_core.config.conf_file import ConfFile
from qad_core.config.conf_settings import ConfEntry, place_of
from qad_core.config.fields import FIELDS
from qad_core.config.library import PART_FOLDERS
from qad_core.config.problems import InvalidConfigError, Problem
from qad_core.config.secret_values import Secrets, refusal
from qad_core.config.values import parse_value
from qad_core.config.yaml_file import write_yaml
from qad_core.errors import ConfigError

FIXED_BY_SCRIPTS = "as the scripts did"


def experiment_yaml(conf: ConfFile, secrets: Secrets) -> str:
    """YAML that loads to what the `.conf` loads to.

    Raises InvalidConfigError where the file could not be read, or holds a value that YAML cannot or a secret.
    """
    problems = secrets.hide_in(conf.problems)
    values: dict[str, object] = {}
    comments: dict[str, str] = {}
    for entry in conf.entries:
        key = _written_key(entry, conf)
        if words := secrets.find(entry.text):
            hint = f"Take it out of {entry.variable}, and export it in your shell."
            problems.append(Problem(refusal(key, words), place_of(conf.name, entry.line), hint))
            continue
        try:
            _put(values, key, parse_value(entry.text, FIELDS[entry.key]))
        except ConfigError as error:
            problems.append(Problem(error.message, place_of(conf.name, entry.line), error.hint))
        comments[key] = _comment(entry)
    if problems:
        raise InvalidConfigError(problems)
    return write_yaml(values, lambda key: comments.get(key, ""), f"Made by qad_core convert-conf from {conf.name}.")


def _written_key(entry: ConfEntry, conf: ConfFile) -> str:
    """`model`, or `model.use` where other fields of the section are laid over its part."""
    is_part = entry.key in PART_FOLDERS
    has_fields = any(other.key.startswith(f"{entry.key}.") for other in conf.entries)
    return f"{entry.key}.use" if is_part and has_fields else entry.key


def _put(values: dict[str, object], key: str, value: object) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = cast("dict[str, object]", values.setdefault(section, {}))
    values[last] = value


def _comment(entry: ConfEntry) -> str:
    if entry.line is not None:
        return f"{entry.variable}, line {entry.line}"
    return f"{entry.variable or 'fixed'}, {FIXED_BY_SCRIPTS}"
