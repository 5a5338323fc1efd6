"""Checks that every text of a config can be written into a script, a log and a folder's name: UTF-8, on one line.

Pure functions of the config. What a text means is for the other checks to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from qad_core.config.problems import Problem
from qad_core.config.schema import RunConfig, Section

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LINES = frozenset({"cluster.slurm.setup", "cluster.slurm.extra_options", "cluster.container.options"})
"""Lists of lines, in which a tab is a space."""


def check_texts(config: RunConfig) -> Iterator[Problem]:
    """A problem for each key whose text holds a line break or another control character, or is not UTF-8."""
    for key, text in _texts(config, ""):
        found = _CONTROL.search(text.replace("\t", " ") if key in _LINES else text)
        if found is not None:
            what = "a line break" if found[0] in "\n\r\u2028\u2029" else f"the control character {found[0]!r}"
            hint = "Make it two items of the list." if key in _LINES else "Write it on one line."
            yield Problem(f"{key} holds {what}", key, hint)
        if any("\ud800" <= character <= "\udfff" for character in text):
            yield Problem(f"{key} {text!a} is not UTF-8 text", key, "Write it in UTF-8.")


def _texts(section: Section, prefix: str) -> Iterator[tuple[str, str]]:
    for name in type(section).model_fields:
        key, value = f"{prefix}{name}", cast("object", getattr(section, name))
        if isinstance(value, Section):
            yield from _texts(value, f"{key}.")
        for item in cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,):
            if isinstance(item, str | Path):
                yield key, str(item)
