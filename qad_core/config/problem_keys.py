"""Which fields of the config a problem is about, so that it can be shown beside them.

Owns the reading of `Problem.where` and of the values that `what` begins with.
"""

from __future__ import annotations

import re

from qad_core.config.compose import COMMAND_LINE
from qad_core.config.environment import ENVIRONMENT_KEYS
from qad_core.config.fields import FIELDS
from qad_core.config.problems import Problem
from qad_core.config.values import find_field
from qad_core.errors import ConfigError

_OVERRIDE = re.compile(rf"{COMMAND_LINE}: ([\w.]+)\s*=")
_SAID = re.compile(r"([\w.]+)(?: = |=|: | is missing| holds | names | \()")


def keys_of_problem(problem: Problem) -> tuple[str, ...]:
    """Dotted keys, the most telling first; empty where a problem is about no field.

    A check names its keys in `where`, with their origins in brackets. What was written wrong has its place in
    `where` (`command line: train.seed=x`, `configs/a.yaml line 3`), and then its key stands there or in `what`.
    """
    listed = [word.split(" (")[0].strip() for word in problem.where.split(", ")]
    keys = [key for key in listed if key in FIELDS]
    return tuple(dict.fromkeys(keys)) or tuple(_written(problem))


def _written(problem: Problem) -> list[str]:
    override = _OVERRIDE.match(problem.where)
    if override is not None and (key := _known(override[1])):
        return [key]
    said = _SAID.match(problem.what)
    if said is not None and said[1] in FIELDS:
        return [said[1]]
    variable = problem.where.removeprefix("environment ")
    return [ENVIRONMENT_KEYS[variable]] if variable in ENVIRONMENT_KEYS else []


def _known(key: str) -> str | None:
    try:
        return find_field(key).key
    except ConfigError:
        return None
