"""What a site asks of everyone who polls its SLURM: the least seconds between two calls of squeue.

Owns where that stands: QAD_SQUEUE_SECONDS, set for all users by a profile or a module, and /etc/qad/site.toml. The
larger of the two counts, so that a user can ask for more patience and not for less.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

FLOOR_VARIABLE = "QAD_SQUEUE_SECONDS"
SITE_FILE = Path("/etc/qad/site.toml")
FLOOR_KEY = "squeue_seconds"


@dataclass(frozen=True)
class SiteFloor:
    """The site's wish."""

    seconds: float = 0.0
    """0 where it has none."""
    problems: tuple[str, ...] = ()
    """A sentence for each wish that cannot be read."""


def read_site_floor(environ: Mapping[str, str], path: Path = SITE_FILE) -> SiteFloor:
    """The larger of what the variable and the site's file say."""
    found: list[float] = []
    problems: list[str] = []
    for where, value in (
        (FLOOR_VARIABLE, environ.get(FLOOR_VARIABLE) or None),
        (f"{FLOOR_KEY} in {path}", _value_in(path, problems)),
    ):
        seconds = _seconds_of(value)
        if seconds is None and value is not None:
            problems.append(f"{where} is {value!r}, which is no number of seconds; it is passed over.")
        found += [] if seconds is None else [seconds]
    return SiteFloor(max(found, default=0.0), tuple(problems))


def _value_in(path: Path, problems: list[str]) -> object:
    try:
        settings: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        problems.append(f"{path} cannot be read: {error}; it is passed over.")
        return None
    return settings.get(FLOOR_KEY)


def _seconds_of(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        seconds = float(cast("str | float", value))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
