"""A resolved config as a list: each key with its value, where that came from, and the value of another run.

Pure. What `config.yaml` of a run folder says with its comments, laid out for a screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from pydantic import BaseModel

from qad_core.config.compose import DEFAULT
from qad_core.config.load import ResolvedConfig, config_values
from qad_core.config.value_text import value_text


@dataclass(frozen=True)
class ConfigLine:
    """One key."""

    key: str
    """Dotted."""
    value: str
    """As an override says it; empty where this config has no such key."""
    origin: str
    """`file configs/models/tiny.yaml`, `command line`, `default`, ..."""
    other: str | None = None
    """The value of the other config; None without one."""

    @property
    def is_changed(self) -> bool:
        """Whether the value is not the schema's default."""
        return self.origin != DEFAULT

    @property
    def differs(self) -> bool:
        """Whether the other config has another value."""
        return self.other is not None and self.other != self.value


def list_config(resolved: ResolvedConfig, other: ResolvedConfig | None = None) -> list[ConfigLine]:
    """Every key of a config in the schema's order, keys that only the other has behind them."""
    own = dict(config_values(resolved.config))
    theirs = dict(config_values(other.config)) if other is not None else {}
    keys = [*own, *(key for key in theirs if key not in own)]
    return [
        ConfigLine(
            key,
            _text(own[key]) if key in own else "",
            resolved.origins.get(key, DEFAULT),
            None if other is None else (_text(theirs[key]) if key in theirs else ""),
        )
        for key in keys
    ]


def wanted_lines(
    lines: Sequence[ConfigLine], needle: str, *, only_changed: bool, only_different: bool
) -> list[ConfigLine]:
    """The lines in whose key, value or origin all words of the needle are, and that are as asked."""
    words = needle.lower().split()
    return [
        line
        for line in lines
        if (line.is_changed or not only_changed)
        and (line.differs or not only_different)
        and all(word in f"{line.key} {line.value} {line.other or ''} {line.origin}".lower() for word in words)
    ]


def _text(value: object) -> str:
    if isinstance(value, BaseModel):
        return value_text(value.model_dump(mode="json"))
    return value_text(value.value if isinstance(value, Enum) else value)
