"""Texts of overrides and environment variables turned into values, as YAML 1.2 and the field's type say.

Owns `key=value` and its value's syntax. Whether a value is allowed is the schema's to say.
"""

from __future__ import annotations

import json
import re
from typing import cast

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from qad_core.config.environment import ALIASES
from qad_core.config.fields import FIELDS, ConfigField, keys_ending, nearest_key
from qad_core.errors import ConfigError

_NO_VIRTUAL_PIPELINE = (
    "There is no virtual pipeline here: between interleaved stages, modelopt's distillation model"
    " cannot pass the teacher's activations beside the student's. Leave it out."
)
_REFUSED_KEYS = {
    "virtual_pipeline_model_parallel_size": _NO_VIRTUAL_PIPELINE,
    "num_layers_per_virtual_pipeline_stage": _NO_VIRTUAL_PIPELINE,
    "expert_tensor_parallel_size": "Experts are sharded by parallelism.tensor_model_parallel_size. Leave it out.",
}
"""Last name of a key of Megatron's that is none here -> why."""
_NULLS = ("", "~", "null", "Null", "NULL")
_LONGEST_RANGE = 1_000_000


def parse_override(text: str) -> tuple[str, object]:
    """`key=value` -> (dotted key, value); a last name that only one field has stands for the whole key.

    Raises ConfigError when there is no `=`, the key is not a field's, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{text!r} is not an override", "Write key=value, such as train.learning_rate=1e-5.")
    field = find_field(key.strip())
    return field.key, parse_value(value.strip(), field)


def find_field(key: str) -> ConfigField:
    """The field of a dotted key or of an unambiguous last name; raises ConfigError naming the nearest."""
    if key in FIELDS:
        return FIELDS[key]
    candidates = keys_ending(key)
    if len(candidates) == 1:
        return FIELDS[candidates[0]]
    if candidates:
        raise ConfigError(f"{key!r} may mean {', '.join(candidates)}", "Write the whole key.")
    raise ConfigError(f"{key!r} is not a key of the config", unknown_key_hint(key))


def unknown_key_hint(key: str) -> str:
    """What to do about a key that is not a field's."""
    refused = _REFUSED_KEYS.get(key.rpartition(".")[2])
    if refused:
        return refused
    near = nearest_key(key, ALIASES)
    if near:
        return f"Did you mean {near}?"
    return f"The sections are {', '.join(name for name in FIELDS if '.' not in name)}."


def parse_value(text: str, field: ConfigField) -> object:
    """The value of a text for a field; raises ConfigError when it is not YAML.

    A field of text takes the text as it stands (`tag=1e-6` is a tag), quotes excepted. A list may be
    written without brackets, `3,7`, and consecutive integers as `3-7`.
    """
    if field.optional and text in _NULLS:
        return None
    if field.is_list:
        return _parse_list(text, field)
    if field.takes_text and text[:1] not in ("'", '"'):
        return text
    if field.section is not None and text[:1] != "{":
        if text in _NULLS:
            raise ConfigError(f"{field.key}={text} names nothing", "Name a part or leave it out.")
        return text  # the name or path of a part
    return parse_yaml(text)


def parse_yaml(text: str) -> object:
    """One YAML 1.2 value in plain Python types; raises ConfigError when it is not YAML."""
    try:
        value = cast("object", YAML(typ="safe", pure=True).load(text))  # pyright: ignore[reportUnknownMemberType]
        json.dumps(value, default=str, skipkeys=True)  # refuses what holds itself (`&x [*x]`)
        return value
    except RecursionError as error:
        raise ConfigError(f"{text[:40]!r}... is nested too deeply", "Write one value, or a list of them.") from error
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"{text!r} is not a YAML value", str(error).splitlines()[0]) from error


def _parse_list(text: str, field: ConfigField) -> object:
    if text[:1] == "[":
        return parse_yaml(text)
    items = [item.strip() for item in text.split(",") if item.strip()]
    if field.takes_text:
        return items
    return [number for item in items for number in _parse_item(item)]


def _parse_item(item: str) -> list[object]:
    ends = re.fullmatch(r"(\d+)-(\d+)", item)
    if ends is None:
        return [parse_yaml(item)]
    first, last = int(ends[1]), int(ends[2])
    if last < first or last - first >= _LONGEST_RANGE:
        raise ConfigError(f"{item!r} is not a range", "Write first-last, such as 3-7.")
    return list(range(first, last + 1))
