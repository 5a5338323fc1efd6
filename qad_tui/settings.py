"""What a person has set: `settings.toml`, which is theirs alone, and `state.json`, which the screen writes.

Owns both files and where they are. A home that cannot be written to, or a file that cannot be read, is a
sentence on the screen and never the end of it. The first frame waits for this module: pydantic, which says what is
wrong with a settings.toml, is imported where there is one.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from platformdirs import user_config_path

SETTINGS_NAME, STATE_NAME = "settings.toml", "state.json"
HOME_VARIABLE = "QAD_TUI_HOME"
"""Folder of both files, where the usual one is no good place for them."""


@dataclass(frozen=True)
class Settings:
    """settings.toml; every field has a default."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    theme: str = ""
    """Name of a theme; empty takes the one chosen last on the screen."""
    notify: Literal["off", "terminal", "desktop"] = "off"
    """How the end of a run is told: by the terminal's bell and title, or by the desktop's notifications too."""
    poll_seconds: float = 1.0
    """Seconds between looks at the run folders, 0.2 to 60."""
    squeue_seconds: float = 15.0
    """Least seconds between two calls of squeue, 5 or more; the site may ask for more by QAD_SQUEUE_SECONDS."""
    keys: dict[str, str] = field(default_factory=dict[str, str])
    """Binding's id -> keys, separated by commas; `qad-tui --keys` lists the ids, and `i` in the help shows them."""

    def __post_init__(self) -> None:
        """Raises ValueError where a number is out of its range."""
        if not 0.2 <= self.poll_seconds <= 60:
            raise ValueError(f"poll_seconds is {self.poll_seconds:g}, and goes from 0.2 to 60")
        if not self.squeue_seconds >= 5:
            raise ValueError(f"squeue_seconds is {self.squeue_seconds:g}, and is at least 5")


@dataclass(frozen=True)
class State:
    """state.json: what was chosen on the screen last."""

    theme: str = ""
    """Chosen theme."""
    columns: tuple[str, ...] = ()
    """Columns of the runs' table; empty takes those that fit."""
    list_percent: int = 64
    """Width of the runs' table beside the run under the cursor; 100 leaves that out."""
    sort_by: str = ""
    """Column that the runs are sorted by; empty is the usual order."""
    sort_descending: bool = False
    """Whether that order is turned round."""


@dataclass
class SettingsStore:
    """Both files of one folder."""

    home: Path
    settings: Settings = field(default_factory=lambda: Settings())
    state: State = field(default_factory=lambda: State())
    problems: list[str] = field(default_factory=list[str])
    """One sentence for each thing in them that cannot be taken."""

    def change_state(self, **changes: Any) -> None:
        """Take what was chosen, for this time; `write_state` is for the next."""
        self.state = replace(self.state, **changes)

    def write_state(self, state: State) -> str:
        """Write down what was chosen; why it could not be, and holds for this time only. For a thread."""
        path = self.home / STATE_NAME
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(asdict(state), indent=1) + "\n", encoding="utf-8")
            os.replace(draft, path)
        except OSError as error:
            return f"{path} cannot be written: {error.strerror}; this holds until you quit"
        return ""


def load_settings(environ: Mapping[str, str] | None = None) -> SettingsStore:
    """What both files say; defaults where they are not there or cannot be read."""
    environ = os.environ if environ is None else environ
    home = Path(environ.get(HOME_VARIABLE) or user_config_path("qad-tui"))
    store = SettingsStore(home)
    try:
        store.settings = _settings_of(tomllib.loads((home / SETTINGS_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        pass  # nobody has set anything
    except _WrongSetting as error:
        store.problems.append(f"{home / SETTINGS_NAME}: {error}; the defaults hold")
    except (OSError, ValueError, RecursionError) as error:
        store.problems.append(f"{home / SETTINGS_NAME} cannot be read: {_reason(error)}; the defaults hold")
    try:
        store.state = _state_of(json.loads((home / STATE_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        pass  # the first time
    except (OSError, ValueError, RecursionError) as error:
        why = _reason(error) if isinstance(error, OSError) else "it is not what this screen writes"
        store.problems.append(f"{home / STATE_NAME} cannot be read: {why}; it will be made anew")
    return store


class _WrongSetting(Exception):
    """What is wrong with the first setting that cannot be taken."""


def _settings_of(values: Mapping[str, object]) -> Settings:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Settings).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}." for part in first["loc"]).removesuffix(".")
        raise _WrongSetting(f"{where}: {first['msg']}" if where else first["msg"]) from error


def _state_of(values: object) -> State:
    """Raises ValueError for what the screen has not written."""
    if not isinstance(values, dict):
        raise ValueError("it is no object")
    given = cast(dict[str, Any], values)
    known = {each.name: given[each.name] for each in fields(State) if each.name in given}
    if isinstance(columns := known.get("columns"), list) and all(
        type(name) is str for name in cast(list[Any], columns)
    ):
        known["columns"] = tuple(cast(list[str], columns))
    if wrong := [name for name, value in known.items() if type(value) is not type(getattr(State(), name))]:
        raise ValueError(f"wrong: {', '.join(wrong)}")
    return State(**known)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
