"""Every key of every screen with the id by which settings.toml can change it, and what is wrong with such a change.

Owns which keys work together on a screen. It imports all screens: ask it in a thread, or where there is no screen.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations

from textual.binding import Binding, BindingType
from textual.dom import DOMNode

import qad_tui.panes
import qad_tui.screens
import qad_tui.widgets
from qad_tui.app import QadApp

_EVERYWHERE = "app"
_TOGETHER: tuple[frozenset[str], ...] = (
    frozenset({"runs", "table"}), frozenset({"run", "overview"}), frozenset({"run", "curves"}),
    frozenset({"run", "log"}), frozenset({"run", "config", "table"}), frozenset({"run", "chain", "table"}),
    frozenset({"new", "script"}), frozenset({"new", "problems"}), frozenset({"queue", "table"}),
    frozenset({"compare"}), frozenset({"system"}),
)  # fmt: skip
"""First words of ids whose keys work at one time, those of the application among them; all others work alone."""


@dataclass(frozen=True)
class Key:
    """The keys of one action."""

    id: str
    keys: tuple[str, ...]
    """As Textual names them: `question_mark`."""
    words: str
    """What it does."""

    @property
    def place(self) -> str:
        """First word of its id."""
        return self.id.partition(".")[0]


def declared_keys() -> dict[str, Key]:
    """Every key that can be changed, by its id, in the order of the ids."""
    found: dict[str, Key] = {}
    for binding in _bindings():
        known = found.get(binding.id or "")
        keys = (*known.keys, binding.key) if known else (binding.key,)
        found[binding.id or ""] = Key(binding.id or "", keys, binding.description)
    return dict(sorted(found.items()))


def find_key_problems(wanted: Mapping[str, str]) -> list[str]:
    """A sentence for each id that there is not, and for each two actions that one key would have at one time."""
    declared = declared_keys()
    problems = [_unknown_words(name, declared) for name in wanted if name not in declared]
    taken = {name: _keys_in(wanted[name]) if name in wanted else frozenset(key.keys) for name, key in declared.items()}
    for one, other in combinations(declared.values(), 2):
        if (one.id in wanted or other.id in wanted) and _work_together(one.place, other.place):
            both = (taken[one.id] & taken[other.id]) - (set(one.keys) & set(other.keys))
            problems += [_clash_words(key, one, other) for key in sorted(both)]
    return problems


def _unknown_words(name: str, declared: Mapping[str, Key]) -> str:
    close = get_close_matches(name, declared, n=1)
    meant = f"; {close[0]} is one" if close else ""
    return f"settings.toml: keys: there is no {name!r}{meant}. qad-tui --keys lists all ids."


def _clash_words(key: str, one: Key, other: Key) -> str:
    return (
        f"settings.toml: keys: {key} is {one.id} ({one.words}) and {other.id} ({other.words}) at one time, "
        "and only one of them gets it."
    )


def _keys_in(text: str) -> frozenset[str]:
    return frozenset(binding.key for binding in Binding.make_bindings([Binding(text, "nothing")]))


def _work_together(one: str, other: str) -> bool:
    places = {one, other}
    if _EVERYWHERE in places:
        return any(places - {_EVERYWHERE} <= group for group in _TOGETHER)
    return any(places <= group for group in _TOGETHER)


def _bindings() -> Iterator[Binding]:
    owners: set[type[DOMNode]] = {QadApp}
    for package in (qad_tui.panes, qad_tui.screens, qad_tui.widgets):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for found in vars(importlib.import_module(module.name)).values():
                if isinstance(found, type) and issubclass(found, DOMNode) and found.__module__ == module.name:
                    owners.add(found)
    for owner in owners:
        declared: list[BindingType] = vars(owner).get("BINDINGS", [])
        yield from Binding.make_bindings(declared)
