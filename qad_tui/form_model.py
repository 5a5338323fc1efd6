"""The form of a new run as a value: what it starts from, and what was changed; the overrides that this comes to.

Pure: every change makes another form. What the values come to is `qad_core.launch.draft`, asked in a thread; how a
field is drawn is `form_rows.py`. No Textual.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from qad_core.config.catalog import BLANK, EXPERIMENT
from qad_core.config.fields import FIELDS, ConfigField
from qad_core.config.library import PART_FOLDERS
from qad_core.config.values import parse_value
from qad_core.errors import ConfigError
from qad_core.run.folder import RunFolder

FRESH = "fresh"
"""Key of the choice to move an older run in the folder aside; not one of the config's."""
_NO_CHANGES: Mapping[str, str] = {}


@dataclass(frozen=True)
class FormModel:
    """An experiment, or a run's config, with parts and values of one's own."""

    experiment: str = BLANK
    """Name or path, as the commands take it."""
    changes: Mapping[str, str] = field(default_factory=lambda: _NO_CHANGES)
    """Dotted key, or a section for its part -> text, as in `key=text`."""
    fresh: bool = False
    """Whether an older run in the run's folder is moved aside."""
    like: Path | None = None
    """Folder of the run that this is a clone of."""

    @classmethod
    def from_run(cls, start_from: Path | str, changes: Sequence[str] = ()) -> FormModel:
        """The form of a run, by the path of its folder or config.yaml, or of an experiment, by its name."""
        run = _run_at(start_from) if isinstance(start_from, Path) else None
        experiment = str(RunFolder(run).config) if run else str(start_from)
        pairs = (text.partition("=") for text in changes)
        return cls(experiment, {key.strip(): text.strip() for key, _, text in pairs}, like=run)

    @property
    def overrides(self) -> list[str]:
        """`key=value`s, parts first, the rest in the schema's order; what is no field comes last."""
        known = [key for key in (*PART_FOLDERS, *FIELDS) if key in self.changes]
        ordered = dict.fromkeys([*known, *self.changes])
        return [f"{key}={self.changes[key]}" for key in ordered]

    @property
    def clone_of(self) -> str:
        """Name of the run that this is a clone of; empty where it is none."""
        return self.like.name if self.like and self.experiment.endswith(RunFolder(self.like).config.name) else ""

    def with_change(self, key: str, text: str) -> FormModel:
        """The form with a field's text, a part, the experiment or `fresh` set; another experiment drops all changes."""
        if key == EXPERIMENT:
            return FormModel(text)
        if key == FRESH:
            return replace(self, fresh=text == "true")
        return replace(self, changes={**self.changes, key: text})

    def without(self, keys: Iterable[str]) -> FormModel:
        """The form with these fields as the experiment has them."""
        dropped = set(keys)
        fresh = self.fresh and FRESH not in dropped
        return replace(
            self, changes={key: text for key, text in self.changes.items() if key not in dropped}, fresh=fresh
        )

    def is_changed(self, key: str) -> bool:
        """Whether a field differs from the experiment."""
        return self.fresh if key == FRESH else key in self.changes


def _run_at(path: Path) -> Path:
    return path.parent if path.name == RunFolder(path).config.name else path


def same_value(key: str, one: str, other: str) -> bool:
    """Whether two texts of a field are the same value: `1e-5` and `0.00001`."""
    if one == other:
        return True
    if key not in FIELDS or key in PART_FOLDERS:
        return False
    try:
        return _read(one, FIELDS[key]) == _read(other, FIELDS[key])
    except ConfigError:
        return False


def choices_of(key: str) -> tuple[str, ...]:
    """The texts that a field can have, where they are few: `true` and `false`, or literals."""
    if key == FRESH:
        return ("false", "true")
    known = FIELDS.get(key)
    if known is None or known.is_list or known.section is not None:
        return ()
    if known.types == frozenset[object]({bool}):
        return ("false", "true")
    return known.choices


def type_words(key: str) -> str:
    """What a field takes, in a few words: `a whole number`, `text or null`."""
    known = FIELDS[key]
    if choices := choices_of(key):
        return " | ".join(choices)
    names = [word for kind, word in _TYPE_WORDS if kind in known.types] or ["a section in braces"]
    words = "numbers, commas between" if known.is_list and not known.takes_text else names[-1]
    words = "texts, commas between" if known.is_list and known.takes_text else words
    words = "lists in brackets, commas between" if known.is_list_of_lists else words
    return f"{words} or null" if known.optional else words


_TYPE_WORDS: Sequence[tuple[object, str]] = (
    (str, "text"), (Path, "a path"), (int, "a whole number"), (float, "a number"), (dict, "a mapping in braces"),
)  # fmt: skip


def _read(text: str, known: ConfigField) -> object:
    value = parse_value(text, known)
    if float in known.types and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
