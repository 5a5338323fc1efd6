"""Every field of `RunConfig` by its dotted key, read off the schema; and the nearest key to a wrong one.

Owns the look-up from names to fields. It reads no file and holds no values.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from qad_core.config.schema import RunConfig, Section


@dataclass(frozen=True)
class ConfigField:
    """One field of the config, or one section of it."""

    key: str
    """Dotted key: `train.learning_rate`."""
    section: type[Section] | None
    """The section's class, where the field is a section."""
    types: frozenset[object]
    """Types and literal strings that a value may have; a list's element types for a list."""
    is_list: bool
    """Whether the value is a list."""
    is_list_of_lists: bool
    """Whether its elements are lists too."""
    optional: bool
    """Whether null is a value."""
    default: object
    """The value where nobody sets one; pydantic's `PydanticUndefined` where somebody must."""
    description: str
    """The field's doc line."""

    @property
    def takes_text(self) -> bool:
        """Whether a text is a value as it stands: strings, paths and literals."""
        return not (self.types & {int, float, bool, dict}) and self.section is None

    @property
    def has_default(self) -> bool:
        """Whether there is a value where nobody sets one."""
        return self.default is not PydanticUndefined

    @property
    def choices(self) -> tuple[str, ...]:
        """The literal strings that are allowed; empty where any are."""
        return tuple(sorted(item for item in self.types if isinstance(item, str)))


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name`, or None when none is alike."""
    folded = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def nearest_key(key: str, aliases: Mapping[str, str]) -> str | None:
    """The field that a wrong dotted key most likely means.

    Tried in turn: the same last name in another section, the scripts' name of a field (`aliases`, lower
    case), its initials (`lr`, `mbs`), then likeness inside the named section, then likeness anywhere.
    """
    section, _, last = key.rpartition(".")
    last = last.lower()
    same = [other for other in FIELDS if _last(other) == last]
    meant = [aliases[last]] if last in aliases else []
    initials = [other for other in FIELDS if _initials(_last(other)) == last]
    for found in (same, meant, initials):
        if found:
            return found[0]
    siblings = {_last(other): other for other in FIELDS if other.rpartition(".")[0] == section}
    sibling = nearest(last, siblings)
    return siblings[sibling] if sibling else nearest(key, FIELDS)


def keys_ending(last: str) -> list[str]:
    """Dotted keys of the fields below a section whose last name is `last`."""
    return [key for key, field in FIELDS.items() if _last(key) == last and "." in key and field.section is None]


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _initials(name: str) -> str:
    words = name.split("_")
    return "".join(word[0] for word in words) if len(words) > 1 else ""


def _walk(section: type[Section], prefix: str) -> Iterator[ConfigField]:
    for name, info in section.model_fields.items():
        field = _describe(f"{prefix}{name}", info)
        yield field
        if field.section is not None:
            yield from _walk(field.section, f"{field.key}.")


def _describe(key: str, info: FieldInfo) -> ConfigField:
    every = list(_types(info.annotation))
    found = frozenset(every)
    sections = [item for item in found if isinstance(item, type) and issubclass(item, Section)]
    return ConfigField(
        key=key,
        section=sections[0] if sections else None,
        types=found - {type(None), tuple},
        is_list=tuple in found,
        is_list_of_lists=every.count(tuple) > 1,
        optional=type(None) in found,
        default=cast("object", info.default),
        description=info.description or "",
    )


def _types(annotation: Any) -> Iterator[object]:
    origin: object = get_origin(annotation)
    arguments: tuple[Any, ...] = get_args(annotation)
    if origin is Annotated:
        yield from _types(arguments[0])
    elif origin is Literal:
        yield from arguments
    elif origin is Union or origin is types.UnionType:
        for argument in arguments:
            yield from _types(argument)
    elif origin is tuple:
        yield tuple
        yield from _types(arguments[0])
    else:
        yield dict if origin is dict else annotation


FIELDS: Mapping[str, ConfigField] = {field.key: field for field in _walk(RunConfig, "")}
"""All sections and fields by dotted key, in the schema's order."""
