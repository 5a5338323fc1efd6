"""Values as the text that `values.parse_value` reads: what an override or a form's field says.

Owns the way from a value to its text; the way back is `values.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import cast

_PLAIN_ITEM = re.compile(r"[A-Za-z0-9_./:+=@~-][\w./:+=@~ -]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""A terminal would take them for commands."""


def value_text(value: object) -> str:
    """The text of a value: `null`, `true`, `1e-6`, `3, 7`, or YAML in braces for a mapping."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, list | tuple):
        return _list_text(cast("Sequence[object]", value))
    if isinstance(value, Mapping):
        return json.dumps(value)
    return _bare_or_quoted(value) if isinstance(value, str) else str(value)


def _bare_or_quoted(text: str) -> str:
    """The text as it stands, quoted where it would be read otherwise."""
    needs_quotes = text[:1] in ("'", '"') or text != text.strip() if text else False
    return json.dumps(text, ensure_ascii=False) if needs_quotes or _CONTROL.search(text) else text


def _float_text(value: float) -> str:
    """The shortest text that is the same number, with the exponent as people write it: `1e-6`."""
    return re.sub(r"e([+-])0+", r"e\1", repr(value))


def _list_text(values: Sequence[object]) -> str:
    texts = [item if isinstance(item, str) else value_text(item) for item in values]
    if not texts or not all(_PLAIN_ITEM.fullmatch(text) for text in texts):
        return json.dumps(list(values))
    return ", ".join(texts)
