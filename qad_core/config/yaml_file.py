"""YAML files as plain Python values with the line of each key, and values as YAML with a comment each.

Owns all contact with ruamel.yaml's round-trip types, whose numbers are not plain ints and floats.
"""

# ruamel.yaml's round-trip types are only partly typed; this module is the one place that meets them.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from qad_core.errors import ConfigError

_USUAL_TEXT = re.compile(r"[A-Za-z_./~][\w./:+=@~-]*", re.ASCII)
_WIDEST_LINE = 1_000_000
"""No value is folded over lines, so that its comment stays beside it."""


@dataclass(frozen=True)
class YamlFile:
    """A mapping read from a file."""

    path: Path
    values: Mapping[str, object]
    """Plain dicts, lists, strings, ints, floats, bools and None; keys are strings."""
    lines: Mapping[str, int]
    """Dotted key -> 1-based line."""
    comments: Mapping[str, str]
    """Dotted key -> comment at the end of its line, without `#`."""


def read_yaml(path: Path) -> YamlFile:
    """Read a mapping; an empty file is an empty one.

    Raises ConfigError when the file cannot be read, is not YAML (a repeated key included), or is no mapping.
    """
    try:
        document: object = YAML().load(path.read_text(encoding="utf-8"))
        values = _plain(document)
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError(f"{path} cannot be read: {reason}", "Check its name, encoding and permissions.") from error
    except RecursionError as error:
        raise ConfigError(
            f"{path} is nested too deeply, or holds itself", "Write plain sections of `key: value` lines."
        ) from error
    except (YAMLError, ValueError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:6] if line.strip())
        raise ConfigError(f"{path} is not YAML: {reason}", "Correct the line named.") from error
    if document is None:
        return YamlFile(path, {}, {}, {})
    if not isinstance(document, CommentedMap):
        raise ConfigError(f"{path} holds no mapping", "Write `key: value` lines.")
    lines: dict[str, int] = {}
    comments: dict[str, str] = {}
    _index(document, "", lines, comments)
    return YamlFile(path, cast("dict[str, object]", values), lines, comments)


def write_yaml(values: Mapping[str, object], comment_of: Callable[[str], str], header: str) -> str:
    """YAML of nested plain mappings, with `comment_of(dotted key)` at the end of a value's line where not empty."""
    document = _commented(values, "", comment_of)
    document.yaml_set_start_comment(header)
    yaml = YAML()
    yaml.width = _WIDEST_LINE
    yaml.representer.add_representer(type(None), _represent_null)
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def _represent_null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _commented(values: Mapping[str, object], prefix: str, comment_of: Callable[[str], str]) -> CommentedMap:
    document = CommentedMap()
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            document[name] = _commented(cast("dict[str, object]", value), f"{key}.", comment_of)
        elif isinstance(value, list):
            document[name] = _flow_list(cast("list[object]", value))
        else:
            document[name] = _quoted(value)
        comment = comment_of(key)
        if comment:
            document.yaml_add_eol_comment(" ".join(comment.split()), name, column=0)
    return document


def _flow_list(values: list[object]) -> CommentedSeq:
    sequence = CommentedSeq([_quoted(value) for value in values])
    sequence.fa.set_flow_style()
    return sequence


def _quoted(value: object) -> object:
    """Unusual texts in double quotes: ruamel.yaml writes some of them bare that it reads otherwise (`[?0]`)."""
    if isinstance(value, str) and not _USUAL_TEXT.fullmatch(value):
        return DoubleQuotedScalarString(value)
    return value


def _plain(value: Any) -> object:
    if isinstance(value, CommentedMap):
        items = cast("dict[Any, Any]", value).items()
        return {str(name): _plain(item) for name, item in items}
    if isinstance(value, CommentedSeq):
        return [_plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, bool) or value is None:
        return value
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    return value


def _index(document: Any, prefix: str, lines: dict[str, int], comments: dict[str, str]) -> None:
    places: dict[Any, list[int]] = document.lc.data or {}
    for name, value in document.items():
        key = f"{prefix}{name}"
        if name in places:  # a key that came by a merge (`<<`) has no line of its own
            lines[key] = places[name][0] + 1
        tokens: Any = document.ca.items.get(name)
        if tokens is not None and len(tokens) > 2 and tokens[2] is not None:
            comments[key] = tokens[2].value.split("\n")[0].lstrip("# ").rstrip()
        if isinstance(value, CommentedMap):
            _index(value, f"{key}.", lines, comments)
