"""Datablend JSON: which token files make up train, valid and test, and with which weights.

The format is that of Megatron-LM's `--per-split-data-args-path`: an object with the keys `train`,
`valid` and `test`, each a flat list `[weight, prefix, weight, prefix, ...]` or the same as one string
parted by white space; a prefix is a path without `.bin` and `.idx`. An empty list is a split without
data. Imports nothing heavy and does not open the token files (`token_file.py` does).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from qad_core.errors import DataError

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
FORM_HINT = 'Each of "train", "valid" and "test" is a flat list [weight, prefix, weight, prefix, ...].'


@dataclass(frozen=True)
class BlendEntry:
    """One pair of token files and its share."""

    weight: float
    """Relative to the other entries of the split; above 0."""
    prefix: Path
    """Path of the token files without `.bin` and `.idx`."""


@dataclass(frozen=True)
class Blend:
    """The three splits; an empty tuple is a split without data."""

    train: tuple[BlendEntry, ...]
    valid: tuple[BlendEntry, ...]
    test: tuple[BlendEntry, ...]

    def split(self, name: Split) -> tuple[BlendEntry, ...]:
        """Entries of one split by its name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]


def read_blend(path: Path) -> Blend:
    """Read a datablend; every prefix in the result has both of its files.

    A relative prefix is taken from the working directory when its files are there, else from the JSON's folder.
    Raises `DataError` for a file that is not one, and one naming every token file that is missing.
    """
    splits = {name: _read_split(path, name, value) for name, value in _read_object(path).items()}
    resolved = {name: tuple(_resolve(path.parent, entry) for entry in entries) for name, entries in splits.items()}
    missing = [
        str(file)
        for entries in resolved.values()
        for entry in entries
        for file in token_file_pair(entry.prefix)
        if not file.is_file()
    ]
    if missing:
        raise DataError(
            f"{path} names token files that are not there: {', '.join(dict.fromkeys(missing))}",
            "Correct the prefixes (paths without .bin and .idx), or prepare the data again.",
        )
    return Blend(**resolved)


def write_blend(path: Path, blend: Blend) -> None:
    """Write a datablend; prefixes below the JSON's folder are written relative, so that the folder can be moved."""
    lines = {name: _flatten(path.parent, blend.split(name)) for name in SPLITS}
    path.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


def token_file_pair(prefix: Path) -> tuple[Path, Path]:
    """The `.bin` and `.idx` files of a prefix; a dot in the prefix stays."""
    return prefix.with_name(prefix.name + ".bin"), prefix.with_name(prefix.name + ".idx")


def loss_mask_prefix(prefix: Path) -> Path:
    """Prefix of the files that say, a byte a token, which tokens of the prefix's files the loss counts."""
    return prefix.with_name(f"{prefix.name}_loss_mask")


def _read_object(path: Path) -> dict[Split, object]:
    try:
        parsed: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"datablend {path} is not there", "Correct dataset.blend, or prepare the data: qad_core data prepare."
        ) from error
    except (ValueError, OSError) as error:
        raise DataError(f"datablend {path} cannot be read: {error}", FORM_HINT) from error
    if not isinstance(parsed, dict):
        raise DataError(f"datablend {path} holds a {type(parsed).__name__}, not an object", FORM_HINT)
    keys = cast("dict[str, object]", parsed)
    missing = [name for name in SPLITS if name not in keys]
    if missing:
        raise DataError(f"datablend {path} lacks the keys {missing}; it has {sorted(keys)}", FORM_HINT)
    return {name: keys[name] for name in SPLITS}


def _read_split(path: Path, name: Split, value: object) -> tuple[BlendEntry, ...]:
    items: Sequence[object] = value.split() if isinstance(value, str) else cast("list[object]", value)
    if not isinstance(items, list):
        raise DataError(f'"{name}" in {path} is a {type(items).__name__}, not a list', FORM_HINT)
    if len(items) % 2 == 1:
        raise DataError(f'"{name}" in {path} has {len(items)} items, an odd number: {items}', FORM_HINT)
    return tuple(
        BlendEntry(_read_weight(path, name, weight), _read_prefix(path, name, prefix))
        for weight, prefix in zip(items[::2], items[1::2], strict=True)
    )


def _read_weight(path: Path, name: Split, value: object) -> float:
    try:
        weight = math.nan if isinstance(value, bool) else float(cast("str", value))
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 < weight < math.inf:
        raise DataError(f'"{name}" in {path} has the weight {value!r}, which is not a number above 0', FORM_HINT)
    return weight


def _read_prefix(path: Path, name: Split, value: object) -> Path:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f'"{name}" in {path} has the prefix {value!r}, which is not a path', FORM_HINT)
    return Path(value.strip())


def _resolve(folder: Path, entry: BlendEntry) -> BlendEntry:
    if entry.prefix.is_absolute() or all(file.is_file() for file in token_file_pair(entry.prefix)):
        return entry
    return BlendEntry(entry.weight, folder / entry.prefix)


def _flatten(folder: Path, entries: Sequence[BlendEntry]) -> list[float | str]:
    flat: list[float | str] = []
    for entry in entries:
        inside = entry.prefix.is_relative_to(folder)
        flat += [entry.weight, str(entry.prefix.relative_to(folder) if inside else entry.prefix.absolute())]
    return flat
