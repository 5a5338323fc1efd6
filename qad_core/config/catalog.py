"""What can be picked: the experiments and parts of the configs folders, each with the comment that describes it.

Owns the listing. It reads the beginning of each file and no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qad_core.config.library import EXPERIMENTS, PART_FOLDERS, ConfigLibrary

EXPERIMENT = "experiment"
"""The kind of an entry that is a whole experiment; the other kinds are the sections that have parts."""
BLANK = "blank"
"""Name of the experiment that sets nothing, to start from where there is none."""
FOLDERS: Mapping[str, str] = {EXPERIMENT: EXPERIMENTS, **PART_FOLDERS}
"""Kind -> its folder in configs/."""


@dataclass(frozen=True)
class CatalogEntry:
    """One file that a config can name."""

    kind: str
    """`experiment`, `model`, `dataset`, `parallelism` or `cluster`."""
    name: str
    path: Path
    description: str
    """The comment on its first lines; why it cannot be read where it cannot."""


def list_catalog(library: ConfigLibrary) -> dict[str, tuple[CatalogEntry, ...]]:
    """Kind -> entries by name; a file in an earlier folder of the library hides its namesake in a later one."""
    return {kind: tuple(_entries(library, kind, folder)) for kind, folder in FOLDERS.items()}


def read_description(path: Path) -> str:
    """The comment that a YAML file begins with, as one line; empty where it begins otherwise."""
    words: list[str] = []
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if not line.startswith("#"):
                    break
                words.append(line.lstrip("#").strip())
    except (OSError, UnicodeDecodeError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return " ".join(word for word in words if word)


def _entries(library: ConfigLibrary, kind: str, folder: str) -> list[CatalogEntry]:
    found: dict[str, Path] = {}
    for root in library.roots:
        for path in (root / folder).glob("*.yaml"):
            found.setdefault(path.stem, path)
    return [CatalogEntry(kind, name, path, read_description(path)) for name, path in sorted(found.items())]
