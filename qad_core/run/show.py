"""Numbers as a person reads them, the same in every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qad_core.run.metrics import Number

UNCHANGED = 0.005
"""A KL that has grown by a smaller share than this is no worse than it was."""


def show_number(value: Number) -> str:
    """Four significant digits; a dash for what is not there."""
    return "-" if value is None else f"{value:.4g}"


def count_of(count: int, noun: str) -> str:
    """A count with what it counts: `1 step`, `40 steps`, `1,200 steps`; of nouns whose plural ends in s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def show_count(value: float) -> str:
    """A count with a thousands unit: `920`, `12.4k`, `1.31M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def show_fraction(value: float | None) -> str:
    """A share as a percentage with one digit; a dash for what is not there."""
    return "-" if value is None else f"{100 * value:.1f} %"


def show_won_back(recovered: float | None, *, digits: int = 1, brief: bool = False) -> str:
    """Share of the KL gap won back, as `36.4 %`; a dash for what is not known.

    Where the KL has grown since step 0, by how much: `worse than at step 0: KL x12`, or `KL x12` where `brief`.
    """
    if recovered is None:
        return "-"
    if not is_worse(recovered):
        return f"{100 * max(recovered, 0.0):.{digits}f} %"
    growth = f"KL x{_show_factor(1 - recovered)}"
    return growth if brief else f"worse than at step 0: {growth}"


def show_verdict(recovered: float, *, digits: int = 1) -> str:
    """The same within a sentence: `36.4 % of the KL gap won back`, `worse than at step 0: KL x12`."""
    share = show_won_back(recovered, digits=digits)
    return share if is_worse(recovered) else f"{share} of the KL gap won back"


def is_worse(recovered: float | None) -> bool:
    """Whether the KL is above that of plain quantization, which `recovered` of the gap then shows as below 0."""
    return recovered is not None and recovered <= -UNCHANGED


def show_duration(seconds: float | None) -> str:
    """Seconds as `42 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`; a dash for what is not there."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60:
        return f"{whole} s"
    if hours < 1:
        return f"{minutes} min {whole % 60:02d} s"
    return f"{hours} h {minutes % 60:02d} min" if days < 1 else f"{days} d {hours % 24} h"


def _show_factor(factor: float) -> str:
    if factor >= 10_000:
        return f"{factor:.0e}"
    return f"{factor:.0f}" if factor >= 10 else f"{factor:.2f}"
