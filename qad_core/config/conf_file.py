"""A bash `.conf` of the scripts as settings of an experiment, and a note of everything that is not carried over.

Owns reading the file, which is never run, and what it may take from the environment. What its variables mean is
`conf_settings.py`. Only HOME, USER and the variables of `ENVIRONMENT_KEYS` are looked up in the
environment. A variable's own default (`LR=${LR:-1e-6}`) is the file's value, since a setting in the environment
counts more than the file anyway; for the same reason, another value that refers to LR takes the environment's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qad_core.config.bash_assignments import read_assignments
from qad_core.config.bash_expansion import Surroundings
from qad_core.config.bash_words import BashSyntaxError
from qad_core.config.conf_notes import left_out
from qad_core.config.conf_settings import ConfEntry, ConfSettings, place_of
from qad_core.config.conf_variables import READABLE, is_secret
from qad_core.config.environment import ENVIRONMENT_KEYS
from qad_core.config.library import ConfigLibrary
from qad_core.config.problems import Problem
from qad_core.errors import ConfigError


@dataclass(frozen=True)
class ConfFile:
    """What a `.conf` says."""

    name: str
    """Its path, as origins show it."""
    entries: tuple[ConfEntry, ...] = ()
    notes: tuple[Problem, ...] = ()
    """What is not carried over, and what was added."""
    problems: tuple[Problem, ...] = ()
    """Why the file cannot be read."""


def read_conf(
    path: Path, library: ConfigLibrary, environ: Mapping[str, str], *, environment_first: bool = True
) -> ConfFile:
    """Read a `.conf`; what makes it unreadable is among the problems.

    Without `environment_first` a value that refers to a setting takes the file's, so that what is read does not
    depend on the environment more than the file itself does.
    """
    name = library.display(path)
    readable = {item: text for item in READABLE if (text := environ.get(item, ""))}
    around = Surroundings(readable, frozenset(ENVIRONMENT_KEYS), environment_first, is_secret)
    try:
        found = read_assignments(_read_text(path), around)
    except BashSyntaxError as error:
        place = place_of(name, error.line)
        return ConfFile(name, problems=(Problem(error.message, place, error.hint),))
    except ConfigError as error:
        return ConfFile(name, problems=(Problem(error.message, name, error.hint),))
    settings = ConfSettings(name, found, library, readable if environment_first else {})
    return ConfFile(name, settings.entries, (*left_out(found, environ, name), *settings.notes))


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", "Check its name and permissions.") from error
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise BashSyntaxError("there is a NUL byte, so this is no text file", line, "Name a .conf of the scripts.")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BashSyntaxError("this is not UTF-8 text", line, "Save the file as UTF-8.") from error
