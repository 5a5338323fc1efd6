"""What a person has set: `settings.toml`, which is theirs alone, and `state.json`, which the screen writes.

Owns both files and where they are. A home that cannot be written to, or a file that cannot be read, is a
sentence on the screen and never the end of it.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError

SETTINGS_NAME, STATE_NAME = "settings.toml", "state.json"
HOME_VARIABLE = "QAD_TUI_HOME"
"""Folder of both files, where the usual one is no good place for them."""


class Settings(BaseModel):
    """settings.toml; every field has a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    theme: str = ""
    """Name of a theme; empty takes the one chosen last on the screen."""
    notify: Literal["off", "terminal", "desktop"] = "off"
    """How the end of a run is told: by the terminal's bell and title, or by the desktop's notifications too."""
    poll_seconds: Annotated[float, Field(ge=0.2, le=60)] = 1.0
    """Seconds between looks at the run folders."""
    squeue_seconds: Annotated[float, Field(ge=5)] = 15.0
    """Least seconds between two calls of squeue; the site may ask for more by QAD_SQUEUE_SECONDS."""
    keys: dict[str, str] = {}
    """Binding's id -> keys, separated by commas; `qad-tui --keys` lists the ids, and `i` in the help shows them."""


class State(BaseModel):
    """state.json: what was chosen on the screen last."""

    model_config = ConfigDict(extra="ignore", frozen=True)

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

    def change_state(self, **changes: object) -> None:
        """Take what was chosen, for this time; `write_state` is for the next."""
        self.state = State.model_validate({**self.state.model_dump(), **changes})

    def write_state(self, state: State) -> str:
        """Write down what was chosen; why it could not be, and holds for this time only. For a thread."""
        path = self.home / STATE_NAME
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            draft.write_text(state.model_dump_json(indent=1) + "\n", encoding="utf-8")
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
        store.settings = Settings.model_validate(tomllib.loads((home / SETTINGS_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        pass  # nobody has set anything
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        store.problems.append(f"{home / SETTINGS_NAME}: {where}: {first['msg']}; the defaults hold")
    except (OSError, ValueError, RecursionError) as error:
        store.problems.append(f"{home / SETTINGS_NAME} cannot be read: {_reason(error)}; the defaults hold")
    try:
        store.state = State.model_validate(json.loads((home / STATE_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        pass  # the first time
    except (OSError, ValueError, RecursionError) as error:
        why = _reason(error) if isinstance(error, OSError) else "it is not what this screen writes"
        store.problems.append(f"{home / STATE_NAME} cannot be read: {why}; it will be made anew")
    return store


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
