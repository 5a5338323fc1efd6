"""The order of runs and which of them are shown: sorting by a column, filtering by words. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from qad_tui.fleet import RunRow
from qad_tui.formats import progress_fraction
from qad_tui.states import stage_word, state_word

Value = float | str | None

_HEALTH = {"problem": 0, "warning": 1, "note": 2}
SORT_VALUES: Mapping[str, Callable[[RunRow], Value]] = {
    "state": lambda row: row.state,
    "name": lambda row: row.run.name.lower(),
    "health": lambda row: _HEALTH.get(row.health or "", 3),
    "percent": lambda row: progress_fraction(row.run.step, row.run.train_iterations),
    "loss": lambda row: row.run.loss,
    "eta": lambda row: row.eta_seconds,
    "recovered": lambda row: row.run.recovered,
    "speed": lambda row: row.run.tokens_per_s,
    "steps": lambda row: row.run.step,
    "changed": lambda row: -row.run.updated if row.run.updated else None,
}
"""Column -> what it is sorted by; rows without a value come last, whichever the direction."""
SORT_KEYS = ("", *SORT_VALUES)
"""The empty one is the usual order."""


def sort_rows(rows: Iterable[RunRow], key: str, *, descending: bool) -> list[RunRow]:
    """The rows by a column, in the usual order within it."""
    ordered = sorted(rows, key=usual_order)
    value = SORT_VALUES.get(key)
    if value is None:
        return ordered[::-1] if descending else ordered
    keyed = [(_finite(value(row)), row) for row in ordered]
    with_value = [(found, row) for found, row in keyed if found is not None]
    with_value.sort(key=lambda pair: pair[0], reverse=descending)  # pyright: ignore[reportArgumentType]
    return [row for _, row in with_value] + [row for found, row in keyed if found is None]


def usual_order(row: RunRow) -> tuple[int, float, str]:
    """What runs first, by its start, so that rows do not jump about; then what waits; then the latest changed."""
    run, state = row.run, row.view.outlook.state  # one that has just gone stays where it was
    if state in ("running", "silent", "starting"):
        return (0, -(run.status.started if run.status else 0.0), run.name)
    waits = state in ("queued", "blocked")
    return (1 if waits else 2, -run.updated, run.name)


def is_wanted(row: RunRow, needle: str) -> bool:
    """Whether each word of the filter is in the run's name, tag with it, its state or its stage."""
    words = needle.lower().split()
    if not words:
        return True
    text = f"{row.run.name} {row.state} {state_word(row.state)} {stage_word(row.view)}".lower()
    return all(word in text for word in words)


def _finite(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value
