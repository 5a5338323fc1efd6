"""Settings turned into a `RunConfig`, with every value that the schema refuses named at once.

Owns the wording of the schema's refusals. Comparing fields with each other is `checks.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from qad_core.config.compose import Layer, Setting, Settings
from qad_core.config.fields import FIELDS, nearest
from qad_core.config.library import PART_FOLDERS
from qad_core.config.problems import Problem
from qad_core.config.schema import RunConfig

_ARCHITECTURE = "model.architecture"


def build_config(layer: Layer) -> tuple[RunConfig | None, list[Problem], frozenset[str]]:
    """(config, problems of the layer and of its values, keys of refused values).

    Where some values are refused, the config is built without them, so that the rest can still be
    checked; it is None when it cannot be built at all. It is good for a run only when there are no
    problems. A value that is missing from a section that has other problems is not named.
    """
    settings = layer.settings
    refused = [_refuse_bool(key, item) for key, item in settings.items() if _is_misplaced_bool(key, item)]
    bad = {key for key, item in settings.items() if _is_misplaced_bool(key, item)}
    good = {key: item for key, item in settings.items() if key not in bad}
    try:
        return RunConfig.model_validate(_nest(good)), [*layer.problems, *refused], frozenset(bad)
    except ValidationError as error:
        details = error.errors()
    broken = layer.broken | {key.split(".")[0] for key in bad}
    news = [item for item in details if item["type"] != "missing" or str(item["loc"][0]) not in broken]
    absent = [_key_of(item) for item in news if item["type"] == "missing"]
    problems = [_explain(item, good) for item in news if item["type"] != "missing"] + _explain_missing(absent)
    bad |= {key for item in details if (key := _key_of(item)) in good}
    try:
        config = RunConfig.model_validate(_nest({key: item for key, item in good.items() if key not in bad}))
    except ValidationError:  # what is left wrong is missing, and is among the problems
        config = None
    return config, [*layer.problems, *refused, *problems], frozenset(bad)


def _nest(settings: Settings) -> dict[str, object]:
    nested: dict[str, object] = {}
    for key, item in settings.items():
        *sections, last = key.split(".")
        inner = nested
        for section in sections:
            inner = cast("dict[str, object]", inner.setdefault(section, {}))
        inner[last] = item.value
    return nested


def _is_misplaced_bool(key: str, setting: Setting) -> bool:
    return isinstance(setting.value, bool) and bool not in FIELDS[key].types


def _refuse_bool(key: str, setting: Setting) -> Problem:
    # pydantic would take true for the number 1.
    return Problem(f"{key} = {str(setting.value).lower()}: a number or text is wanted", setting.place, _doc(key))


def _key_of(detail: ErrorDetails) -> str:
    """The longest leading part of an error's location that is a field's key."""
    key = ""
    for item in detail["loc"]:
        longer = f"{key}.{item}" if key else str(item)
        if longer not in FIELDS:
            break
        key = longer
    return key


def _explain_missing(keys: Sequence[str]) -> list[Problem]:
    """One problem a section: whoever sets one field of a section that has no more lacks all the others."""
    sections: dict[str, list[str]] = {}
    for key in keys:
        sections.setdefault(key.rpartition(".")[0], []).append(key)
    problems: list[Problem] = []
    for section, absent in sections.items():
        if section and len(absent) > 1:
            what = f"{section} is given in part: {len(absent)} of its fields are missing"
            problems.append(Problem(what, ", ".join(absent), _whole_section(section)))
        else:
            problems += [Problem(f"{key} is missing", key, f"{_doc(key)}{_name_part(key)}") for key in absent]
    return problems


def _whole_section(section: str) -> str:
    """How to get all the fields of a section of which some are missing."""
    if section == _ARCHITECTURE:
        return f"Write them all, or none of {section}: it is read beside the weights.{_name_part('model')}"
    return f"Write them all.{_name_part(section)}"


def _name_part(key: str) -> str:
    return f" Name one of configs/{PART_FOLDERS[key]}: {key}=NAME." if key in PART_FOLDERS else ""


def _explain(detail: ErrorDetails, settings: Mapping[str, Setting]) -> Problem:
    key = _key_of(detail)
    place = settings[key].place if key in settings else key
    reason = detail["msg"][:1].lower() + detail["msg"][1:]
    hint = _doc(key)
    if detail["type"] == "string_type":
        hint = f"Put it in quotes. {hint}"
    if detail["type"] == "literal_error":
        near = nearest(str(detail["input"]), FIELDS[key].choices)
        hint = f"Did you mean {near}? {hint}" if near else hint
    return Problem(f"{key} = {detail['input']!r}: {reason}", place, hint)


def _doc(key: str) -> str:
    return FIELDS[key].description if key in FIELDS else ""
